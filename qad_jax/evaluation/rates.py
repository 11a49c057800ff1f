"""How often clips of a split get each verdict, for all of them and for each group."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qad_jax.evaluation import metrics
from qad_jax.evaluation.bootstrap import affordable, draws, fewest_people, interval, numbered
from qad_jax.evaluation.metrics import Array
from qad_jax.evaluation.results import Estimate
from qad_jax.evaluation.scores import Scores
from qad_jax.evaluation.verdicts import Thresholds

# Clips times draws that are counted at a time, which bounds the memory.
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Rates:
    """How often clips of a split get each verdict; with 95 % intervals over identities.

    Where the clips of a rate are of one person, it has no interval.

    Attributes:
      real_clips: Number of real clips.
      fake_clips: Number of fakes.
      auc: Of the clips.
      false_positive_rate: Share of the real clips that are called fake.
      false_negative_rate: Share of the fakes that are called real.
      inconclusive_real: Share of the real clips that are called neither.
      inconclusive_fake: Share of the fakes that are called neither.
    """

    real_clips: int
    fake_clips: int
    auc: Estimate
    false_positive_rate: Estimate
    false_negative_rate: Estimate
    inconclusive_real: Estimate
    inconclusive_fake: Estimate

    def as_dict(self) -> dict[str, Any]:
        """The stored form, in which each rate is followed by the ends of its interval."""
        stored: dict[str, Any] = {"real_clips": self.real_clips, "fake_clips": self.fake_clips}
        for name in _ESTIMATES:
            stored.update(getattr(self, name).as_dict(name))
        return stored

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Rates:
        """Reads what `as_dict` gives."""
        estimates = {name: Estimate.from_dict(stored, name) for name in _ESTIMATES}
        return cls(int(stored["real_clips"]), int(stored["fake_clips"]), **estimates)


_ESTIMATES = tuple(field.name for field in dataclasses.fields(Rates))[2:]


def measure(clips: Scores, chosen: Mapping[str, Thresholds]) -> dict[str, Rates]:
    """Counts the verdicts on each quality.

    Args:
      clips: A row for each clip, from `Scores.videos`.
      chosen: Thresholds of each quality of the clips.

    Returns:
      The rates of each quality. A rate of a class that is missing is None.
    """
    rates = {}
    for i, quality in enumerate(clips.qualities):
        score = np.asarray(clips.score[:, i], np.float64)
        rates[quality] = count(
            clips.label,
            clips.identity,
            score,
            called_fake=score > chosen[quality].upper,
            called_real=score < chosen[quality].lower,
        )
    return rates


def count(
    labels: npt.ArrayLike,
    identities: Sequence[str],
    scores: npt.ArrayLike,
    *,
    called_fake: npt.NDArray[np.bool_],
    called_real: npt.NDArray[np.bool_],
) -> Rates:
    """Counts verdicts, however they were made.

    Args:
      labels: `(n,)` 0 real, 1 fake.
      identities: The n identities, over which intervals are drawn.
      scores: `(n,)` finite; a larger one means that fake is more likely.
      called_fake: `(n,)` whether a clip was called fake.
      called_real: `(n,)` whether it was called real.

    Returns:
      The rates. A rate of a class that is missing is None.
    """
    names, member = numbered(identities)
    fake = np.asarray(labels) == 1
    neither = ~(called_fake | called_real)
    # Whom each share counts, and of whom.
    shares = {
        "false_positive_rate": (called_fake, ~fake),
        "false_negative_rate": (called_real, fake),
        "inconclusive_real": (neither, ~fake),
        "inconclusive_fake": (neither, fake),
    }
    totals = {
        name: [metrics.per_cluster(member, mask, len(names)) for mask in (hit & of, of)]
        for name, (hit, of) in shares.items()
    }
    ranking = metrics.Ranking(fake, scores, member)

    def numbers(weights: Array) -> dict[str, Array]:
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {name: (weights @ hits) / (weights @ of) for name, (hits, of) in totals.items()}
        return {"auc": ranking.numbers(weights)["auc"], **found}

    replicates = affordable(len(fake)) if len(names) > 1 else 0
    people = {name: int(np.sum(of > 0)) for name, (_, of) in totals.items()}
    people["auc"] = fewest_people(fake, member)
    block = max(1, _BLOCK // max(1, len(fake)))
    drawn = [numbers(weights) for weights in draws(len(names), replicates, 0, block)]
    estimates = {}
    for name, value in numbers(np.ones((1, len(names)))).items():
        if not math.isfinite(value[0]):
            estimates[name] = Estimate(None)
        elif people[name] < 2 or not drawn:  # one person says nothing of others
            estimates[name] = Estimate(float(value[0]))
        else:
            each = np.concatenate([one[name] for one in drawn])
            estimates[name] = Estimate(float(value[0]), *interval(each))
            if name in totals:
                clips = float(totals[name][1].sum())
                estimates[name] = _widened(estimates[name], people[name], clips, each)
    return Rates(real_clips=int(np.sum(~fake)), fake_clips=int(np.sum(fake)), **estimates)


def _widened(share: Estimate, people: int, clips: float, draws: Array) -> Estimate:
    """Widens the interval of a small share, of which draws of people know too little.

    A share of 0 or 1, of which every draw has the same, gets the interval of a binomial in which
    each person is one trial (Clopper and Pearson 1934, at 0 or n of n). Where one or two people
    are all that was hit, many draws have none of them: the interval is then no narrower than
    Wilson's, of as many independent clips as have the same variance (Kish's design effect).

    Args:
      share: The share, with the interval of the draws.
      people: Number of people among whom it is counted.
      clips: Number of their clips.
      draws: The shares of the draws.
    """
    if share.value is None or share.low is None or share.high is None:
        return share
    if share.value in (0.0, 1.0):
        most = 1 - 0.025 ** (1 / people)
        ends = (0.0, most) if share.value == 0 else (1 - most, 1.0)
        return Estimate(share.value, *ends)
    spread = share.value * (1 - share.value)
    variance = float(np.nanvar(draws))  # none where all people have the same share
    count = min(clips, max(1.0, spread / variance)) if variance else clips
    z = metrics.NORMAL_975
    middle = share.value + z**2 / (2 * count)
    half = z * math.sqrt(spread / count + z**2 / (4 * count**2))
    low, high = ((middle + sign * half) / (1 + z**2 / count) for sign in (-1, 1))
    return Estimate(share.value, min(share.low, max(0.0, low)), max(share.high, min(1.0, high)))


def by_group(
    clips: Scores, chosen: Mapping[str, Thresholds], groups: Sequence[str]
) -> dict[str, dict[str, Rates]]:
    """Measures each group of clips for itself.

    Args:
      clips: A row for each clip, from `Scores.videos`.
      chosen: Thresholds of each quality.
      groups: The group of each clip; empty for one that is in none.

    Returns:
      For each group, by name, the rates of each quality.
    """
    of_clip = np.asarray(groups)
    return {
        group: measure(clips.take(np.flatnonzero(of_clip == group)), chosen)
        for group in sorted(set(groups) - {""})
    }
