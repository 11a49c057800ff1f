"""The numbers of a detector, from labels and scores: one sort, then any weighting of the items.

The same code computes a number of the sample and that of a bootstrap draw: a draw is a weighting of
the items, and the sample is the weighting by ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: The numbers of each quality and level, in the order of the reports. Each has an interval, which
#: is stored under its name followed by `_low` and `_high`.
NAMES = (
    "auc",
    "average_precision",
    "eer",
    "tpr_at_fpr_1",
    "tpr_at_fpr_01",
    "accuracy",
    "fpr",
    "accuracy_at_threshold",
    "fpr_at_threshold",
)

#: A frame or video counts as fake from this probability on, where no other threshold was chosen.
THRESHOLD = 0.5

#: 97.5 % of the standard normal distribution lie below it.
NORMAL_975 = 1.959963984540054

_RANKED = NAMES[:5]
_TINY = np.finfo(np.float64).tiny


class Ranking:
    """One score of the items, sorted once, which then gives the numbers under many weightings.

    A weighting gives one weight to each *cluster* of items; the items of a cluster share it.
    """

    def __init__(
        self,
        labels: npt.ArrayLike,
        scores: npt.ArrayLike,
        member: npt.ArrayLike | None = None,
        threshold: float | None = None,
    ) -> None:
        """Sorts the scores.

        Args:
          labels: `(n,)` 0 real, 1 fake.
          scores: `(n,)` finite; a larger score means that fake is more likely.
          member: `(n,)` cluster of each item, 0 to c - 1; one cluster holds all if not given.
          threshold: Of 'accuracy_at_threshold' and 'fpr_at_threshold'; `THRESHOLD` if not given.
        """
        fake = np.asarray(labels) == 1
        score = np.asarray(scores, np.float64)
        cluster = np.zeros(len(score), np.intp) if member is None else np.asarray(member, np.intp)
        order = np.argsort(-score, kind="stable")
        self._reals, self._fakes = (order[keep[order]] for keep in (~fake, fake))
        reals, fakes = score[self._reals], score[self._fakes]
        distinct = np.unique(score)[::-1]
        # How many reals and fakes score at least each distinct score, after a first entry of 0.
        self._real_ends, self._fake_ends = (
            np.r_[0, np.searchsorted(-side, -distinct, side="right")] for side in (reals, fakes)
        )
        # For each fake: how many reals score more, and how many reals and fakes at least as much.
        self._above = np.searchsorted(-reals, -fakes, side="left")
        self._level = np.searchsorted(-reals, -fakes, side="right")
        self._equals = np.searchsorted(-fakes, -fakes, side="right")
        # Most scores have no equal, and half of the gathering below is then left out.
        self._real_ties = bool((self._above != self._level).any())
        self._fake_ties = bool((np.diff(self._equals) == 0).any())
        self._reals, self._fakes = cluster[self._reals], cluster[self._fakes]
        clusters = int(cluster.max(initial=0)) + 1
        self._totals = per_cluster(cluster, np.ones(len(score)), clusters)
        self._real_totals = per_cluster(cluster, ~fake, clusters)
        self._hits, self._alarms = [], []
        for limit in (THRESHOLD, THRESHOLD if threshold is None else threshold):
            flagged = score >= limit
            self._hits.append(per_cluster(cluster, flagged == fake, clusters))
            self._alarms.append(per_cluster(cluster, flagged & ~fake, clusters))

    def numbers(self, weights: Array) -> dict[str, Array]:
        """All of `NAMES` under each of r weightings.

        Args:
          weights: `(r, c)` weights of the clusters, not negative.

        Returns:
          `(r,)` for each name; NaN where a weighting leaves one class only.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            result = self._ranked(weights)
            total, reals = weights @ self._totals, weights @ self._real_totals
            for i, suffix in enumerate(("", "_at_threshold")):
                result[f"accuracy{suffix}"] = weights @ self._hits[i] / total
                result[f"fpr{suffix}"] = weights @ self._alarms[i] / reals
        return {name: result[name] for name in NAMES}

    def _ranked(self, weights: Array) -> dict[str, Array]:
        rows = np.arange(len(weights))
        if not len(self._fakes) or not len(self._reals):
            return {name: np.full(len(weights), np.nan) for name in _RANKED}
        fake = np.take(weights, self._fakes, axis=1)
        # Weight of the reals and of the fakes that score at least as much as each item.
        false_positives = _cumulative(np.take(weights, self._reals, axis=1))
        true_positives = _cumulative(fake)
        positives, negatives = true_positives[:, -1], false_positives[:, -1]
        level = np.take(false_positives, self._level, axis=1)
        above = np.take(false_positives, self._above, axis=1) if self._real_ties else level
        lost = np.einsum("rn,rn->r", fake, level) + np.einsum("rn,rn->r", fake, above)
        hits = true_positives[:, 1:]
        if self._fake_ties:
            hits = np.take(true_positives, self._equals, axis=1)
        flagged = hits + level
        np.maximum(flagged, _TINY, out=flagged)  # where nothing is flagged, no fake has a weight
        precision = np.divide(hits, flagged, out=flagged)
        average_precision = np.einsum("rn,rn->r", fake, precision) / positives

        def fpr(step: npt.NDArray[np.intp]) -> Array:
            return np.asarray(false_positives[rows, self._real_ends[step]] / negatives)

        def tpr(step: npt.NDArray[np.intp]) -> Array:
            return np.asarray(true_positives[rows, self._fake_ends[step]] / positives)

        last, count = len(self._real_ends) - 1, len(weights)
        before = _last(lambda u: fpr(u) + tpr(u) < 1, last, count)
        after = np.minimum(before + 1, last)
        gap = fpr(before) + tpr(before) - 1
        share = -gap / (fpr(after) + tpr(after) - 1 - gap)
        result = {
            "auc": 1 - lost / (2 * positives * negatives),
            "average_precision": average_precision,
            "eer": fpr(before) + share * (fpr(after) - fpr(before)),
        }
        result["tpr_at_fpr_1"] = tpr(_last(lambda u: fpr(u) <= 0.01, last, count))
        result["tpr_at_fpr_01"] = tpr(_last(lambda u: fpr(u) <= 0.001, last, count))
        undefined = (positives == 0) | (negatives == 0)
        return {name: np.where(undefined, np.nan, value) for name, value in result.items()}


def per_cluster(cluster: npt.NDArray[np.intp], values: npt.ArrayLike, clusters: int) -> Array:
    """The sum of the values of each cluster.

    Args:
      cluster: `(n,)` cluster of each item, 0 to `clusters` - 1.
      values: `(n,)` numbers, or booleans to count.
      clusters: c, the number of clusters.

    Returns:
      `(c,)`.
    """
    return np.asarray(np.bincount(cluster, np.asarray(values, np.float64), clusters), np.float64)


def _cumulative(values: Array) -> Array:
    """Sums of the first 0, 1, ... n of each row: `(r, n)` to `(r, n + 1)`."""
    sums = np.empty((len(values), values.shape[1] + 1))
    sums[:, 0] = 0
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def _last(
    holds: Callable[[npt.NDArray[np.intp]], npt.NDArray[np.bool_]], last: int, rows: int
) -> npt.NDArray[np.intp]:
    """For each row, the last of 0 ... `last` at which `holds` is true; it is true up to there."""
    low, high = np.zeros(rows, np.intp), np.full(rows, last, np.intp)
    while (low < high).any():
        middle = (low + high + 1) // 2
        good = holds(middle)
        low, high = np.where(good, middle, low), np.where(good, high, middle - 1)
    return low


def numbers(
    labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float | None = None
) -> dict[str, float | None]:
    """Computes all of `NAMES` for one score.

    Args:
      labels: `(n,)` 0 real, 1 fake.
      scores: `(n,)` probability of fake.
      threshold: A threshold chosen elsewhere; `THRESHOLD` if not given.

    Returns:
      'auc' is Mann-Whitney's statistic, in which a tie counts half. 'average_precision' is the
      mean over the fakes of the precision at the score of each. 'eer' is the rate at which false
      positives and false negatives are equally frequent (linear between the points of the ROC
      curve). 'tpr_at_fpr_1' and 'tpr_at_fpr_01' are the share of fakes that are detected at the
      lowest threshold with at most 1 % and 0.1 % false positives. 'accuracy' and 'fpr', the share
      of reals that are called fake, are at `THRESHOLD`; with '_at_threshold' they are at the given
      threshold. What is not defined is None, see `why_undefined`.
    """
    reason = why_undefined(labels, scores)
    if ALL in reason:
        return dict.fromkeys(NAMES, None)
    values = Ranking(labels, scores, threshold=threshold).numbers(np.ones((1, 1)))
    return {name: float(v[0]) if np.isfinite(v[0]) else None for name, v in values.items()}


#: Key of `why_undefined` where nothing at all is defined.
ALL = "all"


def why_undefined(labels: npt.ArrayLike, scores: npt.ArrayLike) -> dict[str, str]:
    """Names the numbers that labels and scores do not define, and why; empty if they define all."""
    y, s = np.asarray(labels), np.asarray(scores, np.float64)
    if not len(y):
        return {ALL: "there are no items"}
    not_numbers = int(np.sum(~np.isfinite(s)))
    if not_numbers:
        return {ALL: f"{not_numbers} of {len(s)} scores are not numbers"}
    if (y == 1).all():
        reason = f"one class only: all {len(y)} are fake"
        return dict.fromkeys((*_RANKED, "fpr", "fpr_at_threshold"), reason)
    if (y == 0).all():
        return dict.fromkeys(_RANKED, f"one class only: all {len(y)} are real")
    return {}


def roc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """All corners of the ROC curve.

    Args:
      labels: `(n,)` 0 real, 1 fake; both classes are there.
      scores: `(n,)` finite.

    Returns:
      False-positive rates, true-positive rates and thresholds; the first point is (0, 0) at
      threshold infinity.
    """
    y, s = np.asarray(labels) == 1, np.asarray(scores, np.float64)
    distinct = np.unique(s)[::-1]
    rates = [
        np.r_[0, np.searchsorted(-np.sort(side)[::-1], -distinct, side="right") / len(side)]
        for side in (s[~y], s[y])
    ]
    return rates[0], rates[1], np.r_[np.inf, distinct]


def equal_error_threshold(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Chooses the threshold at which false positives and false negatives are most nearly equal.

    It lies midway between two neighbouring scores, so that it is no score of the sample itself.

    Returns:
      The threshold, or None where labels and scores do not define it.
    """
    if why_undefined(labels, scores):
        return None
    false_positive_rate, true_positive_rate, thresholds = roc(labels, scores)
    best = int(np.argmin(np.abs(false_positive_rate + true_positive_rate - 1)))
    if best == 0:  # all scores are equal, and no threshold parts them
        return float(thresholds[1])
    below = thresholds[best + 1] if best + 1 < len(thresholds) else thresholds[best]
    middle = (thresholds[best] + below) / 2
    # Between two neighbouring floats there is none, and the lower one would flag its own items.
    return float(middle if middle > below else thresholds[best])


def by_video(
    method: Sequence[str], video: Sequence[str], scores: npt.ArrayLike
) -> tuple[npt.NDArray[np.int64], Array]:
    """Computes the score of each video, the mean probability over its frames.

    Args:
      method: n manipulation methods.
      video: n names of videos. The same name under two methods is two videos.
      scores: `(n, k)`.

    Returns:
      `(first, means)`: `(v,)` index of the first frame of each video, and `(v, k)`.
    """
    values = np.asarray(scores, np.float64)
    keys: dict[tuple[str, str], int] = {}
    member = np.asarray(
        [keys.setdefault(key, len(keys)) for key in zip(method, video, strict=True)], np.int64
    )
    _, first, counts = np.unique(member, return_index=True, return_counts=True)
    sums = np.stack([np.bincount(member, column, len(keys)) for column in values.T], axis=1)
    return first, sums / counts[:, None]
