"""From scores to verdicts, and when the verdict is that nothing can be told."""

from __future__ import annotations

import collections
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
# Of what is told. Verdicts are of the numbers before they are rounded: thresholds are not, either.
_DIGITS = 6
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
        else one of which nothing can be told. Those that pass by decide only where there are no
        others.
      judged: The faces that were compared with the thresholds; the others pass by, or are like none
        that was measured.
      thresholds: Those that the mean score of each judged face was compared with. They are those
        that hold at each quality which the file may have; where several faces are judged, see
        `Thresholds.of_several`.
      saturated: Whether no face is called fake because real clips have the highest score that
        there is, at one of these qualities.
      reason: Why nothing can be told, and how many faces pass by; empty where there is neither.
    """

    faces: tuple[Face, ...]
    decisive: Face
    judged: tuple[Face, ...]
    thresholds: Thresholds
    saturated: bool
    reason: str


def judge(
    faces: Sequence[Seen],
    sampled: int,
    plausible: Sequence[Thresholds],
    weaker: Thresholds | None,
    conditions: Conditions,
    *,
    unlike: str = "",
) -> Judgement:
    """Judges the faces of a file.

    Args:
      faces: All faces, at least one, in the order of their numbers.
      sampled: Number of frames that were looked at.
      plausible: Of the measured qualities that the file may be of, at least one, the nearest first.
        What is said has to hold at each of them.
      weaker: Of the quality that `Seen.weakened` is of.
      conditions: What was measured.
      unlike: Why no face at all is like those that were measured; empty where it may be.
    """
    largest = max(face.appearance.side for face in faces)
    passing = [_passing(face, sampled, largest) for face in faces]
    broken = [unlike or conditions.broken_by(face.appearance) for face in faces]
    why_not = [by or un for by, un in zip(passing, broken, strict=True)]
    means = [float(face.scores.mean()) for face in faces]
    places = [place for place, reason in enumerate(why_not) if not reason]
    each = [one.of_several([means[place] for place in places]) for one in plausible]
    thresholds = dataclasses.replace(
        each[0], lower=min(one.lower for one in each), upper=max(one.upper for one in each)
    )
    saturated = any(one.saturated and one.upper == 1 for one in each)
    if weaker is not None:
        again = [faces[place].weakened for place in places]
        weaker = weaker.of_several([score for score in again if score is not None])
    results = []
    for number, (face, mean, reason) in enumerate(zip(faces, means, why_not, strict=True)):
        verdict = INCONCLUSIVE
        if not reason:
            verdict = thresholds.verdict(mean)
            if verdict == INCONCLUSIVE:
                reason = _between(
                    mean, plausible[0], each, thresholds, len(places), saturated=saturated
                )
            elif reason := _doubt(face, verdict, thresholds, weaker):
                verdict = INCONCLUSIVE
        probability = round(plausible[0].probability(mean), _DIGITS)
        told = tuple(
            dataclasses.replace(frame, score=round(frame.score, _DIGITS)) for frame in face.frames
        )
        results.append(Face(number, verdict, probability, reason, told))
    judged = tuple(results[place] for place in places)
    # A face that stays, and is like none that was measured, may be the one that is fake.
    staying = [face for face, reason in zip(results, passing, strict=True) if not reason]
    decisive = by_suspicion(staying or results)[0]
    counts = collections.Counter(reason for reason in passing if reason and staying)
    unjudged = [f"{n} of {len(faces)} faces not judged: {why}" for why, n in counts.items()]
    why = decisive.reason
    if why and len(faces) > 1:  # numbered as the pages number them
        why = f"face {decisive.track + 1} of {len(faces)}: {why}"
    reason = "; ".join(filter(None, (why, *unjudged)))
    return Judgement(tuple(results), decisive, judged, thresholds, saturated, reason)


def by_suspicion(faces: Sequence[Face]) -> list[Face]:
    """Sorts faces: fakes first, then those of which nothing can be told; by probability in each."""
    return sorted(faces, key=lambda face: (-_ORDER[face.verdict], -face.probability))


def _passing(face: Seen, sampled: int, largest: float) -> str:
    """Why a face is taken for one that passes by; empty where it is not."""
    if len(face.frames) < _LEAST_SEEN * sampled:
        return f"the face is seen in {len(face.frames)} of {sampled} frames only"
    if face.appearance.side < _LEAST_SIDE * largest:
        return "the face is much smaller than another"
    return ""


def _between(
    score: float,
    alone: Thresholds,
    each: Sequence[Thresholds],
    held: Thresholds,
    judged: int,
    *,
    saturated: bool,
) -> str:
    """Why nothing can be told of a face whose score lies between the thresholds.

    Args:
      score: Its mean score.
      alone: Thresholds of the nearest quality, for a face alone.
      each: Those of each quality for all faces that were judged, the nearest quality first.
      held: Those that the score was compared with, which hold at each quality.
      judged: Number of faces that were judged.
      saturated: See `Judgement`.
    """
    if held.upper == 1 and score > held.equal_error:
        if saturated:
            return "some real clips have the highest score that there is, so no face is called fake"
        of = "" if judged == 1 else f" as one of {judged}"
        return f"too few real clips were measured to call the face fake{of}"
    if any(one.few_fakes for one in each) and score <= held.equal_error:
        return "too few fakes were measured to call the face real"
    if (looks := each[0].verdict(score)) != INCONCLUSIVE:
        return f"the face looks {looks}, but would not at each quality that the file may have"
    if alone.verdict(score) == FAKE:
        return f"the face looks fake, but as one of {judged} it needs a higher score"
    return "the score is usual among real clips and among fakes of this quality"


def _doubt(face: Seen, verdict: str, thresholds: Thresholds, weaker: Thresholds | None) -> str:
    """Why the verdict on a face is not given; empty where it is."""
    scores = face.scores
    fake, real = int((scores > thresholds.upper).sum()), int((scores < thresholds.lower).sum())
    if min(fake, real) >= max(1.0, _CONTRADICTION * len(scores)):
        return (
            f"the frames contradict each other: {fake} of {len(scores)} look fake and {real} real"
        )
    if face.weakened is not None and weaker is not None:
        again = weaker.verdict(face.weakened)
        if {verdict, again} == {REAL, FAKE}:
            return f"after one more encoding the face looks {again}"
    return ""
