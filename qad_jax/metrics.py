"""The numbers of a detector, from labels and scores, at frame and at video level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: What is computed for each quality and level, in the order it is reported.
NAMES = (
    "auc",
    "auc_low",
    "auc_high",
    "accuracy",
    "average_precision",
    "eer",
    "tpr_at_fpr_1",
    "fpr",
)

#: A frame or video counts as fake from this probability on.
THRESHOLD = 0.5

_REPLICATES = 1000
# Elements of one block of the bootstrap: bounds its memory to some 100 MB.
_BLOCK = 4_000_000


def numbers(labels: npt.ArrayLike, scores: npt.ArrayLike) -> dict[str, float | None]:
    """Computes all numbers but the interval.

    Args:
      labels: `(n,)` 0 real, 1 fake.
      scores: `(n,)` probability of fake.

    Returns:
      `NAMES` without 'auc_low' and 'auc_high'. 'eer' is the rate at which false positives and
      false negatives are equally frequent (interpolated), 'tpr_at_fpr_1' the share of fakes found
      at the loosest threshold that wrongs at most 1 % of reals, 'fpr' the share of reals at or
      above `THRESHOLD`. What one class alone cannot define is None.
    """
    from sklearn import metrics  # late: its import takes seconds, and training rarely evaluates

    y, s = np.asarray(labels, np.int64), np.asarray(scores, np.float64)
    flagged = s >= THRESHOLD
    result: dict[str, float | None] = dict.fromkeys(
        (name for name in NAMES if name not in ("auc_low", "auc_high")), None
    )
    if len(y):
        result["accuracy"] = float(np.mean(flagged == y))
    if (y == 0).any():
        result["fpr"] = float(np.mean(flagged[y == 0]))
    if len(np.unique(y)) == 2:
        false, true, _ = metrics.roc_curve(y, s)
        result["auc"] = float(metrics.roc_auc_score(y, s))
        result["average_precision"] = float(metrics.average_precision_score(y, s))
        result["eer"] = float(np.interp(0.0, false + true - 1, false))
        result["tpr_at_fpr_1"] = float(true[false <= 0.01].max())
    return result


def bootstrap_auc(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    clusters: Sequence[str],
    *,
    replicates: int = _REPLICATES,
    seed: int = 0,
) -> Array:
    """AUC of samples of the population, drawn by cluster.

    Frames of a video, and videos of a person, are not independent: a bootstrap over frames gives
    intervals that are far too narrow. Whole identities are drawn instead, with replacement. The
    same draws are used for all columns, so that differences between them can be judged too.

    Args:
      labels: `(n,)` 0 real, 1 fake.
      scores: `(n, k)`: k scores of the same items, a column each.
      clusters: n names of clusters.
      replicates: Number of draws.
      seed: Of the draws.

    Returns:
      `(replicates, k)`; NaN where a draw holds one class only.
    """
    y = np.asarray(labels) == 1
    columns = np.asarray(scores, np.float64)
    names, member = np.unique(np.asarray(clusters), return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=replicates
    )
    sorted_columns = [_Sorted(y, column) for column in columns.T]
    result = np.empty((replicates, columns.shape[1]))
    block = max(1, _BLOCK // max(1, len(y)))
    for start in range(0, replicates, block):
        weights = drawn[start : start + block, member].astype(np.float64)
        for column, ranking in enumerate(sorted_columns):
            result[start : start + block, column] = ranking.weighted_auc(weights)
    return result


class _Sorted:
    """One score, sorted once, whose AUC is then wanted under many weightings of the items."""

    def __init__(self, positive: npt.NDArray[np.bool_], score: Array) -> None:
        self._order = np.argsort(score, kind="stable")
        self._positive = positive[self._order]
        ranked = score[self._order]
        self._ties = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])

    def weighted_auc(self, weights: Array) -> Array:
        """Mann-Whitney's statistic, ties counted half, for each row of `(r, n)` weights."""
        weights = weights[:, self._order]
        fake = np.add.reduceat(weights * self._positive, self._ties, axis=1)
        real = np.add.reduceat(weights * ~self._positive, self._ties, axis=1)
        below = np.cumsum(real, axis=1) - real
        pairs = fake.sum(axis=1) * real.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sum(fake * (below + 0.5 * real), axis=1) / pairs


def interval(replicates: Array) -> tuple[float | None, float | None]:
    """The 2.5th and 97.5th percentile of one column of `bootstrap_auc`; None where undefined."""
    known = replicates[np.isfinite(replicates)]
    if not len(known):
        return None, None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def by_video(
    method: Sequence[str], video: Sequence[str], scores: npt.ArrayLike
) -> tuple[npt.NDArray[np.int64], Array]:
    """Scores of videos: the mean probability over the frames of each.

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
    sums = np.zeros((len(keys), values.shape[1]))
    np.add.at(sums, member, values)
    return first, sums / counts[:, None]
