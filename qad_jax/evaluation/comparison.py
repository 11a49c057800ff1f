"""The comparison of two detectors as classes, in the form in which `comparison.json` holds them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class LevelComparison:
    """Two detectors at one quality and level; what is not defined is None.

    Attributes:
      items: Number of frames, or of videos.
      auc_a: AUC of A.
      auc_b: AUC of B.
      difference: AUC of A less that of B.
      delong_low: Lower end of DeLong's 95 % interval of the difference.
      delong_high: Its upper end.
      delong_p: DeLong's p-value, two-sided.
      identity_low: Lower end of the 95 % interval by bootstrap over identities.
      identity_high: Its upper end.
      undefined: Why something is None; '' where nothing is.
    """

    items: int
    auc_a: float | None
    auc_b: float | None
    difference: float | None
    delong_low: float | None
    delong_high: float | None
    delong_p: float | None
    identity_low: float | None
    identity_high: float | None
    undefined: str


@dataclasses.dataclass(frozen=True)
class QualityComparison:
    """Two detectors at one quality.

    Attributes:
      frames: Number of frames that are compared.
      videos: Number of their videos.
      identities: Number of their identities.
      not_numbers: Number of frames that are left out because a score is not a number.
      frame: The comparison over frames.
      video: The comparison over videos.
    """

    frames: int
    videos: int
    identities: int
    not_numbers: int
    frame: LevelComparison
    video: LevelComparison

    def levels(self) -> Iterator[tuple[str, LevelComparison]]:
        """Each level with its comparison."""
        yield "frame", self.frame
        yield "video", self.video


@dataclasses.dataclass(frozen=True)
class ClipDifference:
    """A video at one quality, and what the two detectors say of it.

    Attributes:
      method: Method of manipulation.
      video: Name of the video.
      quality: Name of the quality.
      label: 0 real, 1 fake.
      score_a: Mean score of A over the frames.
      score_b: Mean score of B.
      difference: Score of A less that of B.
    """

    method: str
    video: str
    quality: str
    label: int
    score_a: float
    score_b: float
    difference: float


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """What only one of the two has: numbers of frames, and names of qualities."""

    frames_of_a: int
    frames_of_b: int
    qualities_of_a: tuple[str, ...]
    qualities_of_b: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `comparison.json` holds.

    Attributes:
      a: Where the scores of A come from.
      b: Where the scores of B come from.
      left_out: What only one of them has.
      identities_of: 'A' or 'B': whose identities are used.
      qualities: The comparison at each quality, under its name.
      clips: The clips on which the two differ most, the largest difference first.
    """

    a: str
    b: str
    left_out: LeftOut
    identities_of: str
    qualities: Mapping[str, QualityComparison]
    clips: tuple[ClipDifference, ...]

    def as_dict(self) -> dict[str, Any]:
        """The stored form."""
        return dataclasses.asdict(self)
