"""Two thresholds for each quality, between which the answer is "inconclusive".

They are chosen by conformal prediction, a p-value for each class: a clip is not called fake while
its score is usual among real clips of the validation split, and not called real while its score is
usual among fakes there.

Clips of one person resemble each other, so a clip of a new person is not just one more of them. A
clip is therefore not called fake, either, while its score is usual where each person counts as much
as any other, and the new one as one of them. If new people are like those of the validation split,
a real clip of theirs is called fake with a probability of at most `REAL_ERROR`. This holds on
average over samples of people, not for each sample, and needs 49 people (`promising`). With fewer
people, and for fakes, the errors are those that are aimed at, among clips like those that were
seen.

References:
  Vovk, "Conditional validity of inductive conformal predictors", ACML 2012 (label-conditional).
  Lee, Barber & Willett, "Distribution-free inference with hierarchical data", 2023 (people).
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
      people: Number of people who are seen in the real clips; 0 where it is not known.
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
    people: int = 0

    @property
    def promising(self) -> bool:
        """Whether there were people enough to promise `real_error` for a new one."""
        return _enough(self.people, self.real_error)

    @property
    def saturated(self) -> bool:
        """Whether real clips had the highest score that there is, which no fake can exceed."""
        return bool(self.real) and self.real[-1] == 1

    @property
    def few_fakes(self) -> bool:
        """Whether there are too few fakes to promise `fake_error`, so that none is called real."""
        return _rank(len(self.fake), self.fake_error) > len(self.fake)

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
            _, upper = conformal(
                self.real,
                self.fake,
                real_error=self.real_error * k / count,
                fake_error=self.fake_error,
            )
            upper = max(upper, self.upper)
            if score > upper:
                break
        return dataclasses.replace(self, upper=upper)

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
        people = stored.get("people", 0)
        made = cls(**numbers, real=real, fake=fake, people=people)
        if type(people) is not int or people < 0:
            raise ValueError("the thresholds' people are no number of people")
        probabilities = (made.equal_error, made.lower, made.upper, *real, *fake)
        if not all(0 <= value <= 1 for value in probabilities) or made.lower > made.upper:
            raise ValueError("thresholds are no probabilities in their order")
        if not (made.temperature > 0 and 0 < made.real_error < 1 and 0 < made.fake_error < 1):
            raise ValueError("temperature or errors are out of range")
        if not math.isfinite(made.shift):
            raise ValueError("the thresholds' shift is no finite number")
        return made


_NUMBERS = tuple(
    f.name for f in dataclasses.fields(Thresholds) if f.name not in (REAL, FAKE, "people")
)


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
    reals, fakes = (np.sort(np.asarray(of, np.float64)) for of in (real, fake))
    # A new real clip scores above the k-th lowest of n with a probability of at most
    # 1 - k / (n + 1).
    usual_real, rank = _at_rank(reals, real_error), _rank(len(fakes), fake_error)
    usual_fake = float(fakes[len(fakes) - rank]) if rank <= len(fakes) else 0.0
    # Where the classes lie apart, what is between them is usual in neither. Where all that is
    # possible counts as usual, what no clip of a class has is still no sign of that class.
    lower = min(usual_real, float(reals.max(initial=0)), usual_fake)
    return lower, max(usual_real, usual_fake)


def _enough(count: int, error: float) -> bool:
    """Whether so many can promise so small an error for one more."""
    return (count + 1) * error >= 1


def _rank(count: int, error: float) -> int:
    return math.ceil((count + 1) * (1 - error))


def _at_rank(scores: Array, error: float) -> float:
    rank = _rank(len(scores), error)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else 1.0


def usual_of_people(scores: npt.ArrayLike, people: Sequence[str], error: float) -> float:
    """The score above which a clip of a new person lies with a probability of at most `error`.

    Args:
      scores: `(n,)` of clips.
      people: The n people.
      error: This probability.

    Returns:
      Of k people, each has the weight 1 / (k + 1), which its clips share, and the new one has the
      same at infinity; this is the score up to which the weights sum to 1 - `error`. It is 1, which
      no score passes, where there are too few people.
    """
    values = np.asarray(scores, np.float64)
    _, person, clips = np.unique(np.asarray(people), return_inverse=True, return_counts=True)
    order = np.argsort(values, kind="stable")
    weight = np.cumsum((1 / clips[person])[order])
    # Sums of such shares are not exact: a clip is no less than a millionth of a person.
    wanted = (len(clips) + 1) * (1 - error) - 1e-6
    index = int(np.searchsorted(weight, wanted))
    return float(values[order][index]) if index < len(values) else 1.0


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
        that has 49 clips are then to be called fake, and no more of all: the clips among which they
        score highest decide.
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
        seen = np.asarray(clips.identity)[~is_fake]
        people = len(set(seen))
        if _enough(people, real_error):
            upper = max(upper, usual_of_people(column[~is_fake], seen, real_error))
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
            people=people,
        )
    return chosen


def _highest(scores: Array, groups: npt.NDArray[np.str_], error: float) -> Array:
    """The scores, ascending, of all or of the group whose threshold is highest."""
    members = [scores[groups == group] for group in np.unique(groups)]
    large = [of_group for of_group in members if _enough(len(of_group), error)]
    return np.sort(max([scores, *large], key=lambda of_group: _at_rank(of_group, error)))
