"""What is said of a file, as classes, and the form in which JSON holds it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from data_builders.errors import describe
from qad_jax.evaluation.results import Estimate
from qad_jax.evaluation.verdicts import FAKE, INCONCLUSIVE, REAL

NO_FACE, ERROR = "no_face", "error"
#: All that can be said of a file.
VERDICTS = (REAL, FAKE, INCONCLUSIVE, NO_FACE, ERROR)


@dataclasses.dataclass(frozen=True)
class FrameScore:
    """One face in one frame.

    Attributes:
      frame: Index of the frame in the file.
      time: In seconds; None for an image.
      box: x0, y0, x1, y1 of the crop, in pixels of the frame as it is shown.
      score: Probability of fake as the network gives it, not calibrated.
    """

    frame: int
    time: float | None
    box: tuple[int, int, int, int]
    score: float


@dataclasses.dataclass(frozen=True)
class Face:
    """One face through a scene.

    Attributes:
      track: Its number, by the sum of its area times the score of the search for faces over all
        frames, the largest first.
      verdict: 'real', 'fake' or 'inconclusive'.
      probability: Calibrated probability of fake; see `told_probability` for what it is worth.
      reason: Why it is inconclusive; empty else.
      frames: Its frames, in order.
    """

    track: int
    verdict: str
    probability: float
    reason: str
    frames: tuple[FrameScore, ...]


def told_probability(of: Face | Verdict) -> float | None:
    """The probability of fake that is shown to people, of a face or of a file.

    Where nothing can be told there is none: a number would tell something. Beyond the conditions
    that were measured it would say most of all, and mean nothing.
    """
    return of.probability if of.verdict in (REAL, FAKE) else None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is said of one file.

    Attributes:
      file: The path as it was given.
      sha256: Of the file; None where it cannot be read, or changed meanwhile.
      verdict: One of `VERDICTS`.
      probability: Calibrated probability of fake of the most suspicious face; None without one. See
        `told_probability` for what it is worth.
      quality: The measured quality that is nearest to the file's own.
      reason: Why, in words.
      false_positive_rate: Share of real clips of that quality that are called fake, as measured;
        None where no face was found, or the detector was measured on crops of another kind.
      false_negative_rate: Share of fakes of that quality that are called real, in the same way.
      faces: All faces.
      media: What the file says of itself.
      model: Name, version and SHA-256 of the detector.
      versions: Of the libraries.
    """

    file: str
    sha256: str | None
    verdict: str
    probability: float | None = None
    quality: str | None = None
    reason: str = ""
    false_positive_rate: Estimate | None = None
    false_negative_rate: Estimate | None = None
    faces: tuple[Face, ...] = ()
    media: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Verdict:
        """Reads what `as_dict` gives, also where it has been JSON.

        Raises:
          ValueError: A field is missing, or is something else.
        """
        try:
            named = {field.name: stored[field.name] for field in dataclasses.fields(cls)}
            if not isinstance(named["file"], str) or named["verdict"] not in VERDICTS:
                raise ValueError("it names no file, or no verdict")
            for rate in ("false_positive_rate", "false_negative_rate"):
                named[rate] = None if named[rate] is None else Estimate(**named[rate])
            faces = []
            for face in named["faces"]:
                frames = [
                    FrameScore(**{**frame, "box": tuple(frame["box"])}) for frame in face["frames"]
                ]
                faces.append(Face(**{**face, "frames": tuple(frames)}))
            return cls(**{**named, "faces": tuple(faces)})
        except (KeyError, TypeError) as error:
            raise ValueError(f"it is no verdict: {describe(error)}") from error

    def as_json(self, encoding: str = "utf-8") -> str:
        """The JSON object as one line, which can be written in an encoding.

        A file's name may have bytes that are no characters, or the encoding may lack some; all is
        escaped then.

        Args:
          encoding: The encoding.

        Raises:
          ValueError: A number is NaN or infinite, which JSON has not.
        """
        line = json.dumps(self.as_dict(), ensure_ascii=False, allow_nan=False)
        try:
            line.encode(encoding)
        except UnicodeEncodeError:
            return json.dumps(self.as_dict(), allow_nan=False)
        return line
