"""Two thresholds for each quality, between which the answer is "inconclusive".

They are chosen by conformal prediction, a p-value for each class: a clip is not called fake while
its score is usual among real clips of the validation split, and not called real while its score is
usual among fakes there. If new clips are like those, a real one is called fake with a probability
of at most `REAL_ERROR`, and a fake is called real with at most `FAKE_ERROR`. Clips of one person
resemble each other, so the bound holds on average over samples of people, not for each sample.

References:
  Vovk, "Conditional validity of inductive conformal predictors", ACML 2012 (label-conditional).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qad_jax.evaluation import calibration, metrics
from qad_jax.evaluation.metrics import Array
from qad_jax.evaluation.scores import Scores

#: Share of real clips that may be called fake, and of fake clips that may be called real. To call
#: a real clip fake does more harm.
REAL_ERROR, FAKE_ERROR = 0.02, 0.05
REAL, FAKE, INCONCLUSIVE = "real", "fake", "inconclusive"


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """What was chosen on validation for one quality, for the mean score of a clip.

    Attributes:
      temperature: Divides the logit of the score less `shift`, to give a calibrated probability.
      equal_error: The threshold at which both errors are equally frequent.
      lower: A score below it is called real.
      upper: A score above it is called fake.
      real: Scores of the real clips of the validation split, ascending.
      fake: Scores of its fakes, ascending.
      real_error: Largest share of real clips that may be called fake.
      fake_error: Largest share of fakes that may be called real.
      shift: The logit of the score at which a clip is as probably fake as real.
    """

    temperature: float
    equal_error: float
    lower: float
    upper: float
    real: tuple[float, ...]
    fake: tuple[float, ...]
    real_error: float = REAL_ERROR
    fake_error: float = FAKE_ERROR
    shift: float = 0.0

    def of_several(self, scores: Sequence[float]) -> Thresholds:
        """The thresholds for all faces of a file, of which each may be called fake by mistake.

        By Simes' test, which holds for scores that rise together as those of one clip do, some of n
        faces is fake where, for some k, k of them score above the threshold for an error of
        `real_error` k / n. So one face among many needs a very high score; but a person in several
        scenes, who counts as several faces, is called fake where all scenes look fake.

        Reference: Simes, "An improved Bonferroni procedure", Biometrika 1986.

        Args:
          scores: Mean score of each face that was judged.

        Returns:
          The thresholds of the largest such k, or of 1 where there is none; for one face or none
          these are the ones at hand.
        """
        count = len(scores)
        if count <= 1:
            return self
        for k, score in reversed(list(enumerate(sorted(scores, reverse=True), 1))):
            lower, upper = conformal(
                self.real,
                self.fake,
                real_error=self.real_error * k / count,
                fake_error=self.fake_error,
            )
            if score > upper:
                break
        return dataclasses.replace(self, lower=lower, upper=upper)

    def verdict(self, score: float) -> str:
        """Calls a clip of this quality real, fake or inconclusive by its mean score."""
        if score > self.upper:
            return FAKE
        return REAL if score < self.lower else INCONCLUSIVE

    def probability(self, score: float) -> float:
        """The calibrated probability of fake, where as many clips are fake as real."""
        return float(calibration.scaled(score, self.temperature, self.shift))

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Thresholds:
        """Reads what `dataclasses.asdict` gives, which may come from a stranger's file.

        Raises:
          ValueError: A number is missing or out of its range.
        """
        try:
            # Files of before have no shift.
            numbers = {name: float({"shift": 0.0, **stored}[name]) for name in _NUMBERS}
            real, fake = (tuple(map(float, stored[name])) for name in (REAL, FAKE))
        except (KeyError, TypeError) as error:
            raise ValueError(f"thresholds: {error} is missing or no number") from error
        made = cls(**numbers, real=real, fake=fake)
        probabilities = (made.equal_error, made.lower, made.upper, *real, *fake)
        if not all(0 <= value <= 1 for value in probabilities) or made.lower > made.upper:
            raise ValueError("thresholds are no probabilities in their order")
        if not (made.temperature > 0 and 0 < made.real_error < 1 and 0 < made.fake_error < 1):
            raise ValueError("temperature or errors are out of range")
        if not math.isfinite(made.shift):
            raise ValueError("the thresholds' shift is no finite number")
        return made


_NUMBERS = tuple(f.name for f in dataclasses.fields(Thresholds) if f.name not in (REAL, FAKE))


def conformal(
    real: npt.ArrayLike,
    fake: npt.ArrayLike,
    *,
    real_error: float = REAL_ERROR,
    fake_error: float = FAKE_ERROR,
) -> tuple[float, float]:
    """Chooses the thresholds below which a clip is called real, and above which fake.

    Args:
      real: `(n,)` probabilities of fake of real clips.
      fake: `(m,)` those of fakes.
      real_error: Largest share of real clips that are called fake.
      fake_error: Largest share of fakes that are called real.

    Returns:
      The two thresholds. One is 0 or 1, which no score passes, where there are too few clips to
      promise so small a share.
    """
    # A new real clip scores above the k-th lowest of n with a probability of at most
    # 1 - k / (n + 1).
    usual_real = _at_rank(np.asarray(real, np.float64), real_error)
    usual_fake = 1 - _at_rank(1 - np.asarray(fake, np.float64), fake_error)
    # Where the classes lie apart, what is between them is usual in neither.
    return min(usual_real, usual_fake), max(usual_real, usual_fake)


def _at_rank(scores: Array, error: float) -> float:
    rank = math.ceil((len(scores) + 1) * (1 - error))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else 1.0


def choose(
    validation: Scores,
    groups: Mapping[str, str] | None = None,
    *,
    real_error: float = REAL_ERROR,
    fake_error: float = FAKE_ERROR,
) -> dict[str, Thresholds]:
    """Chooses the thresholds of each quality on the clips of a validation split.

    Args:
      validation: Its scores.
      groups: The group of each identity. No more than `real_error` of the real clips of each group
        are then to be called fake, where a group has clips enough to promise it: the real clips of
        the group in which they score highest decide. Without groups, the promise is for all.
      real_error: Largest share of real clips that may be called fake.
      fake_error: Largest share of fakes that may be called real.

    Raises:
      ValueError: Where a class is missing or a score is no probability, naming the quality.
    """
    clips, chosen = validation.videos(), {}
    of_clip = np.array([(groups or {}).get(identity, "") for identity in clips.identity])
    for i, quality in enumerate(clips.qualities):
        column = clips.score[:, i]
        scaling = calibration.fit_shifted(clips.label, column)
        equal_error = metrics.equal_error_threshold(clips.label, column)
        if scaling is None or equal_error is None:
            reasons = metrics.why_undefined(clips.label, column).values()
            raise ValueError(f"{quality}: {next(iter(reasons), 'scores are no probabilities')}")
        is_fake = np.asarray(clips.label) == 1
        real = _highest(column[~is_fake], of_clip[~is_fake], real_error)
        fake = np.sort(column[is_fake])
        lower, upper = conformal(real, fake, real_error=real_error, fake_error=fake_error)
        chosen[quality] = Thresholds(
            temperature=scaling[0],
            equal_error=equal_error,
            lower=lower,
            upper=upper,
            real=tuple(real.tolist()),
            fake=tuple(fake.tolist()),
            real_error=real_error,
            fake_error=fake_error,
            shift=scaling[1],
        )
    return chosen


def _highest(scores: Array, groups: npt.NDArray[np.str_], error: float) -> Array:
    """The scores, ascending, of the group whose threshold is highest; of all where none can be."""
    members = [scores[groups == group] for group in np.unique(groups)]
    large = [of_group for of_group in members if (len(of_group) + 1) * error >= 1]
    return np.sort(max(large, key=lambda of_group: _at_rank(of_group, error), default=scores))
