"""The detector: from a file to a verdict, and from images or frames to scores."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_builders import faces as face_source
from data_builders.errors import UserError, describe, trace
from qad_jax.detection import examination, media, quality
from qad_jax.detection.conditions import Conditions
from qad_jax.detection.examination import Examination, Look
from qad_jax.detection.judging import Seen, judge
from qad_jax.detection.looking import Found, Looker, Task, box_of
from qad_jax.detection.marks import Marks
from qad_jax.detection.results import ERROR, NO_FACE, FrameScore, Verdict
from qad_jax.detection.scoring import Scorer
from qad_jax.evaluation.rates import Rates
from qad_jax.evaluation.verdicts import Thresholds
from qad_jax.models.localiser import LOCALISER
from qad_jax.runs import versions
from qad_jax.weights import crops, model_file

Image = npt.NDArray[np.uint8]

_OTHER_CROPS = (
    "the detector was measured on crops that were made in another way than those of this file, or "
    "in one that is not known"
)


@dataclasses.dataclass(frozen=True)
class FaceScore:
    """One face of an image.

    Attributes:
      box: x0, y0, x1, y1 of the crop, in pixels.
      score: Probability of fake as the network gives it.
    """

    box: tuple[int, int, int, int]
    score: float


class Detector:
    """Judges files, and scores the faces of images.

    It can be pickled: each process then compiles for itself.
    """

    def __init__(self, model: model_file.ModelFile, *, frames: int = media.FRAMES) -> None:
        """Makes a detector of a model file.

        If its crops were made in another way than those of `detector.looker`, every file with a
        face is inconclusive, and no rates are told. `faces` and `scores` give scores all the same.

        Args:
          model: The file, as it was read.
          frames: Number of frames of a video that are looked at.

        Raises:
          UserError: The description of the model has a mistake.
        """
        self.model, self.frames = model, frames
        described = model.description
        try:
            self._thresholds = {
                name: Thresholds.from_dict(of["thresholds"])
                for name, of in described.qualities.items()
            }
            self._rates = {
                name: Rates.from_dict(of["rates"]) for name, of in described.qualities.items()
            }
            self._conditions = Conditions.of(described.measured)
            Marks.of(described.measured)  # a page reads them; a mistake is told before
            search = crops.search_of(described.crop)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"the model {described.name} cannot be used: {describe(error)}"
            ) from error
        self._faces = search or face_source.Detected()
        # Whether the faces that are found here are cut out as those that were measured.
        self._alike = search is not None

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path | None = None, **options: Any) -> Detector:
        """Opens the detector of the package, a model file, or a run that was evaluated.

        Args:
          name_or_path: The file, or the run's folder; None for the detector of the package, see
            `model_file.find`.
          **options: See the constructor.

        Raises:
          UserError: It cannot be read, or nothing is known of its errors.
        """
        path = model_file.find(name_or_path)
        if not path.is_dir():
            return cls(model_file.read(path), **options)
        from qad_jax.evaluation import release  # late: only a run needs it

        return cls(release.of_run(path), **options)

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "frames": self.frames}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @functools.cached_property
    def _score(self) -> Scorer:
        described = self.model.description
        return Scorer(
            described.network, described.image_size, self.model.variables, described.dtype
        )

    def __call__(self, path: str | Path) -> Verdict:
        """Judges a file. It is not written to, and whatever is wrong with it is a verdict.

        Args:
          path: An image, a video or an animation.
        """
        return self._look(path).verdict

    def examine(self, path: str | Path) -> Examination:
        """Judges a file as a call does, and keeps what a person wants to see of it.

        For each judged face that is kept, the network looks at one crop once more, for the places
        that look changed. Without a localiser it scores 64 crops, to find out which places the
        score depends on.

        Args:
          path: An image, a video or an animation.
        """
        return self.examined(self._look(path))

    def examined(self, look: Look) -> Examination:
        """Adds to a verdict what a person wants to see, see `examine`.

        Args:
          look: The verdict, with crops that have kept their pixels.
        """
        known = look.judgement is not None and self._alike
        rates = self._rates[str(look.verdict.quality)] if known else None
        changed = self._score.changed if LOCALISER in self.model.variables else None
        return examination.of(look, rates, self._score, changed, self.model.description)

    def looker(self, *, keep: bool = True) -> Looker:
        """What finds the faces of files for this detector, in any process.

        Args:
          keep: Whether crops keep their pixels, which `examined` needs; else they have the side
            that the network takes. The scores are the same.
        """
        side = None if keep else self.model.description.image_size
        smallest = self._conditions.smallest_face
        return Looker(self.frames, self._faces, tuple(self._thresholds), side, smallest)

    def scores(self, crops: Sequence[Image]) -> npt.NDArray[np.floating]:
        """Scores crops as they were cut out.

        Args:
          crops: `(height, width, 3)` uint8 RGB each, of any size.

        Returns:
          `(n,)` probability of fake of each, as the network gives it. It does not depend on the
          other crops.
        """
        return self._score(crops)

    def look(self, found: Found, scores: npt.NDArray[np.floating]) -> Look:
        """Judges a file of which the faces are known.

        Args:
          found: From `looker`.
          scores: Those of `found.crops()`.
        """
        if wrong := int(np.sum(~np.isfinite(scores))):
            reason = (
                f"{found.file}: {wrong} of {len(scores)} scores are NaN or infinite, so nothing "
                "can be told; take another detector"
            )
            found = dataclasses.replace(found, error=reason)
        if not found.error:
            try:
                look = self._judged(found, scores)
                look.verdict.as_json()  # raises where another number is none
                return look
            except Exception as error:  # a mistake in this program costs one file and no others
                found = dataclasses.replace(
                    found, error=f"{found.file}: {describe(error)}", trace=trace(error)
                )
        verdict = self._verdict(found.file, found.sha256, verdict=ERROR, reason=found.error)
        return Look(verdict, trace=found.trace)

    def _look(self, path: str | Path) -> Look:
        found = self.looker()(Task(str(path)))
        return self.look(found, self.scores(found.crops()))

    def _judged(self, found: Found, scores: npt.NDArray[np.floating]) -> Look:
        name, digest = found.file, found.sha256
        if not found.faces:
            of = "" if found.frames == 1 else f" in {found.frames} frames"
            reason = f"no face was found{of}"
            if found.lying:
                reason += ", and one is found when the picture is turned: turn it upright"
            return Look(
                self._verdict(name, digest, verdict=NO_FACE, reason=reason, media=found.facts)
            )
        seen = []
        for face, (of_face, weakened) in zip(found.faces, found.parted(scores), strict=True):
            frames = tuple(
                FrameScore(*place, float(one))
                for place, one in zip(face.places, of_face, strict=True)
            )
            seen.append(Seen(frames, face.appearance, weakened))
        assert found.estimated is not None
        plausible = quality.plausible(found.estimated, tuple(self._thresholds))
        judgement = judge(
            seen,
            found.frames,
            [self._thresholds[name] for name in plausible],
            None if found.weaker is None else self._thresholds[found.weaker],
            self._conditions,
            unlike="" if self._alike else _OTHER_CROPS,
        )
        rates = self._rates[found.nearest] if self._alike else None
        decisive = judgement.decisive
        verdict = self._verdict(
            name,
            digest,
            verdict=decisive.verdict,
            probability=decisive.probability,
            quality=found.nearest,
            reason=judgement.reason,
            false_positive_rate=rates and rates.false_positive_rate,
            false_negative_rate=rates and rates.false_negative_rate,
            faces=judgement.faces,
            media={**found.facts, "compression": dataclasses.asdict(found.estimated)},
        )
        return Look(verdict, [face.crops for face in found.faces], judgement)

    @functools.cached_property
    def _versions(self) -> dict[str, str]:  # to look them up takes milliseconds
        return versions.packages()

    def _verdict(self, file: str, digest: str | None, **more: Any) -> Verdict:
        described = self.model.description
        model = {
            "name": described.name,
            "version": described.version,
            "sha256": self.model.sha256,
            "frames": self.frames,
        }
        return Verdict(file, digest, model=model, versions=self._versions, **more)

    def faces(self, images: Sequence[Image]) -> list[list[FaceScore]]:
        """Finds and scores the faces of images, each for itself.

        Args:
          images: `(height, width, 3)` uint8 RGB each, of any size.

        Returns:
          The faces of each image, by area times the score of the search for faces, the largest
          first. So one that is a little smaller may come before one that is less sure.
        """
        looker = self.looker()
        boxes: list[list[tuple[int, int, int, int]]] = []
        cut_out: list[Image] = []
        for image in images:
            of_image = [box_of(track.boxes[0]) for track in looker.tracks([image], [0], [])]
            boxes.append(of_image)
            cut_out.extend(face_source.crop(image, box) for box in of_image)
        scores = iter(self._score(cut_out).tolist())
        return [[FaceScore(box, next(scores)) for box in of_image] for of_image in boxes]

    def stream(self, frames: Iterable[Image]) -> Iterator[list[FaceScore]]:
        """Finds and scores the faces of frames as they come, one frame at a time.

        Args:
          frames: `(height, width, 3)` uint8 RGB each.

        Yields:
          The faces of each frame, in the order of `faces`.
        """
        for frame in frames:
            yield self.faces([frame])[0]
