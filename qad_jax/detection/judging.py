"""From scores to verdicts, and when the verdict is that nothing can be told."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qad_jax.detection.conditions import Appearance, Conditions
from qad_jax.detection.results import Face, FrameScore
from qad_jax.evaluation.verdicts import FAKE, INCONCLUSIVE, REAL, Thresholds

# Of the frames of a face, so many have to look real and so many fake to contradict each other.
_CONTRADICTION = 0.25
# A face that is seen in less than this part of the frames, or is this much smaller than the
# largest, is not judged: most of such faces are detected by mistake, or pass by.
_LEAST_SEEN, _LEAST_SIDE = 0.1, 0.25
_ORDER = {REAL: 0, INCONCLUSIVE: 1, FAKE: 2}


@dataclasses.dataclass(frozen=True)
class Seen:
    """One face as it was scored.

    Attributes:
      frames: Its frames.
      appearance: How it looks.
      weakened: Mean score after one more encoding; None where that was not tried.
    """

    frames: tuple[FrameScore, ...]
    appearance: Appearance
    weakened: float | None = None

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """The score of each frame."""
        return np.array([frame.score for frame in self.frames])


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What is said of the faces of a file.

    Attributes:
      faces: What is said of each face, in the order in which they were given.
      decisive: The most suspicious of them, which decides what is said of the file: a fake one,
        else one of which nothing can be told.
      judged: The faces that were compared with the thresholds; the others are too small or too
        seldom seen.
      thresholds: Those that the mean score of each judged face was compared with. Where several
        faces are judged, each needs a higher score to be called fake, see `Thresholds.of_many`.
    """

    faces: tuple[Face, ...]
    decisive: Face
    judged: tuple[Face, ...]
    thresholds: Thresholds


def judge(
    faces: Sequence[Seen],
    sampled: int,
    thresholds: Thresholds,
    weaker: Thresholds | None,
    conditions: Conditions,
) -> Judgement:
    """Judges the faces of a file.

    Args:
      faces: All faces, at least one, the one that is seen most first.
      sampled: Number of frames that were looked at.
      thresholds: Of the measured quality that is nearest.
      weaker: Of the quality that `Seen.weakened` is of.
      conditions: What was measured.
    """
    largest = max(face.appearance.side for face in faces)
    why_not = [_why_not(face, sampled, largest, conditions) for face in faces]
    of_many = thresholds.of_many(max(1, why_not.count("")))
    results = []
    for number, (face, reason) in enumerate(zip(faces, why_not, strict=True)):
        score = float(face.scores.mean())
        verdict = INCONCLUSIVE
        if not reason:
            verdict, reason = _told(face, score, of_many, weaker)
        probability = round(thresholds.probability(score), 6)
        results.append(Face(number, verdict, probability, reason, face.frames))
    judged = tuple(face for face, reason in zip(results, why_not, strict=True) if not reason)
    suspicious = by_suspicion(judged or results)
    return Judgement(tuple(results), suspicious[0], judged, of_many)


def by_suspicion(faces: Sequence[Face]) -> list[Face]:
    """Sorts faces: fakes first, then those of which nothing can be told; by probability in each."""
    return sorted(faces, key=lambda face: (-_ORDER[face.verdict], -face.probability))


def _why_not(face: Seen, sampled: int, largest: float, conditions: Conditions) -> str:
    """Why a face is not judged; empty where it is."""
    if broken := conditions.broken_by(face.appearance):
        return broken
    if len(face.frames) < _LEAST_SEEN * sampled:
        return f"the face is seen in {len(face.frames)} of {sampled} frames only"
    if face.appearance.side < _LEAST_SIDE * largest:
        return "the face is much smaller than another"
    return ""


def _told(
    face: Seen, score: float, thresholds: Thresholds, weaker: Thresholds | None
) -> tuple[str, str]:
    verdict = thresholds.verdict(score)
    if verdict == INCONCLUSIVE:
        return verdict, "the score is usual among real clips and among fakes of this quality"
    scores = face.scores
    fake, real = int((scores > thresholds.upper).sum()), int((scores < thresholds.lower).sum())
    if min(fake, real) >= max(1.0, _CONTRADICTION * len(scores)):
        return INCONCLUSIVE, (
            f"the frames contradict each other: {fake} of {len(scores)} look fake and {real} real"
        )
    if face.weakened is not None and weaker is not None:
        again = weaker.verdict(face.weakened)
        if {verdict, again} == {REAL, FAKE}:
            return INCONCLUSIVE, f"after one more encoding the face looks {again}"
    return verdict, ""
