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
from data_builders import h264
from data_builders.errors import UserError, describe
from data_builders.qualities import crf_of
from data_builders.tracks import Track, all_tracks
from qad_jax.detection import credentials, examination, media, quality
from qad_jax.detection.conditions import Appearance, Conditions, sharpness, turn
from qad_jax.detection.examination import Examination, Look
from qad_jax.detection.judging import Seen, judge
from qad_jax.detection.results import ERROR, NO_FACE, FrameScore, Verdict
from qad_jax.detection.scoring import Scorer, resized
from qad_jax.evaluation import release
from qad_jax.evaluation.verdicts import Rates, Thresholds
from qad_jax.runs import versions
from qad_jax.weights import model_file

Image = npt.NDArray[np.uint8]


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
            names = {field.name for field in dataclasses.fields(face_source.Detected)}
            crop = {name: value for name, value in described.crop.items() if name in names}
            self._faces = face_source.Detected(**crop)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"the model {described.name} cannot be used: {describe(error)}"
            ) from error

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path | None = None, **options: Any) -> Detector:
        """Opens a model file, or a run that was evaluated.

        Args:
          name_or_path: The file, or the run's folder.
          **options: See the constructor.

        Raises:
          UserError: It cannot be read, nothing is known of its errors, or none is named.
        """
        if name_or_path is None:
            raise UserError(
                "--model: name a model file; the package brings no detector yet, and "
                "`python -m qad_jax.release` makes one of a run"
            )
        path = Path(name_or_path).expanduser().absolute()
        return cls(release.of_run(path) if path.is_dir() else model_file.read(path), **options)

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "frames": self.frames}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @functools.cached_property
    def _score(self) -> Scorer:
        described = self.model.description
        return Scorer(described.network, described.image_size, self.model.variables)

    def __call__(self, path: str | Path) -> Verdict:
        """Judges a file. It is not written to, and whatever is wrong with it is a verdict.

        Args:
          path: An image, a video or an animation.
        """
        return self._look(path).verdict

    def examine(self, path: str | Path) -> Examination:
        """Judges a file as a call does, and keeps what a person wants to see of it.

        For each judged face that is kept, 64 more crops are scored, to find out which places of
        it the score depends on.

        Args:
          path: An image, a video or an animation.
        """
        described = self.model.description
        look = self._look(path)
        rates = None if look.judgement is None else self._rates[str(look.verdict.quality)]
        return examination.of(look, rates, self._score, described)

    def _look(self, path: str | Path) -> Look:
        file = Path(path)
        digest: str | None = None
        try:
            digest = media.sha256(file)
            return self._judged(str(path), file, digest)
        except UserError as error:
            reason = str(error)
        except OSError as error:
            reason = f"{path}: cannot be read: {error.strerror or error}"
        return Look(self._verdict(str(path), digest, verdict=ERROR, reason=reason))

    def _judged(self, name: str, path: Path, digest: str) -> Look:
        opened = media.read(path, self.frames)
        held = credentials.read(path)
        facts = {
            **dataclasses.asdict(opened.facts),
            "credentials": held and dataclasses.asdict(held),
        }
        tracks = self._tracks(opened.frames, opened.indices, opened.cuts)
        if not tracks:
            reason = f"no face was found in {len(opened.frames)} frames"
            return Look(self._verdict(name, digest, verdict=NO_FACE, reason=reason, media=facts))
        crops = [face_source.crops(opened.frames, track) for track in tracks]
        scores = self._of_each(crops)
        estimated = quality.estimate(crops[0], opened.numbers)
        nearest = quality.nearest(estimated, list(self._thresholds))
        weaker = self._weaker(nearest)
        seen = []
        for track, of_track, score in zip(tracks, crops, scores, strict=True):
            kept = np.flatnonzero(track.kept)
            frames = tuple(
                FrameScore(
                    opened.indices[i],
                    opened.times[i],
                    _box(track.boxes[i]),
                    round(float(one), 6),
                )
                for i, one in zip(kept, score, strict=True)
            )
            side = float(np.median(track.boxes[kept, 2] - track.boxes[kept, 0]))
            side /= self._faces.scale
            weakened = None if weaker is None else self._weakened(of_track, weaker)
            looks = Appearance(side, sharpness(of_track), turn(track.landmarks), estimated.crf)
            seen.append(Seen(frames, looks, weakened))
        judgement = judge(
            seen,
            len(opened.frames),
            self._thresholds[nearest],
            None if weaker is None else self._thresholds[weaker],
            self._conditions,
        )
        rates, decisive = self._rates[nearest], judgement.decisive
        verdict = self._verdict(
            name,
            digest,
            verdict=decisive.verdict,
            probability=decisive.probability,
            quality=nearest,
            reason=decisive.reason,
            false_positive_rate=rates.false_positive_rate,
            false_negative_rate=rates.false_negative_rate,
            faces=judgement.faces,
            media={**facts, "compression": dataclasses.asdict(estimated)},
        )
        return Look(verdict, crops, judgement)

    def _verdict(self, file: str, digest: str | None, **more: Any) -> Verdict:
        described = self.model.description
        model = {
            "name": described.name,
            "version": described.version,
            "sha256": self.model.sha256,
        }
        return Verdict(file, digest, model=model, versions=versions.packages(), **more)

    def _tracks(
        self, frames: Sequence[Image], indices: Sequence[int], cuts: Sequence[int]
    ) -> list[Track]:
        """All faces, with the square of each frame, as the builders cut them out."""
        detector = face_source.detector(self._faces.min_face, self._faces.max_side)
        tracks = all_tracks(
            detector.detect(frames), times=indices, max_gap=self._faces.max_gap, cuts=cuts
        )
        return [face_source.squares(track, frames, self._faces.scale) for track in tracks]

    def _of_each(self, crops: Sequence[Sequence[Image]]) -> list[npt.NDArray[np.float32]]:
        """Scores of the crops of each face, in as few batches as there can be."""
        together = self._score([crop for of_track in crops for crop in of_track])
        return np.split(together, np.cumsum([len(of_track) for of_track in crops])[:-1])

    def _weaker(self, name: str) -> str | None:
        """The next measured quality of more compression, if there is one."""
        own = crf_of(name)
        others = {q: crf for q in self._thresholds if (crf := crf_of(q)) is not None}
        worse = [q for q, crf in others.items() if own is not None and crf > own]
        return min(worse, key=lambda q: others[q]) if worse else None

    def _weakened(self, crops: Sequence[Image], name: str) -> float:
        """The mean score of the crops after an encoding at a quality."""
        crf = crf_of(name)
        assert crf
        side = max(16, int(np.median([len(crop) for crop in crops])) // 2 * 2)
        frames = [resized(crop, side) for crop in crops]
        return float(self._score(list(h264.decode(h264.encode(frames, crf=crf)))).mean())

    def faces(self, images: Sequence[Image]) -> list[list[FaceScore]]:
        """Finds and scores the faces of images, each for itself.

        Args:
          images: `(height, width, 3)` uint8 RGB each, of any size.

        Returns:
          The faces of each image, the largest first.
        """
        boxes: list[list[tuple[int, int, int, int]]] = []
        crops: list[Image] = []
        for image in images:
            of_image = [_box(track.boxes[0]) for track in self._tracks([image], [0], [])]
            boxes.append(of_image)
            crops.extend(face_source.crop(image, box) for box in of_image)
        scores = iter(self._score(crops).tolist())
        return [[FaceScore(box, next(scores)) for box in of_image] for of_image in boxes]

    def stream(self, frames: Iterable[Image]) -> Iterator[list[FaceScore]]:
        """Finds and scores the faces of frames as they come, one frame at a time.

        Args:
          frames: `(height, width, 3)` uint8 RGB each.

        Yields:
          The faces of each frame, the largest first.
        """
        for frame in frames:
            yield self.faces([frame])[0]


def _box(edges: npt.NDArray[Any]) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = (int(edge) for edge in edges)
    return x0, y0, x1, y1
