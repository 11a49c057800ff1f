"""DeLong's test: the difference of two AUCs on the same items, its interval and its p-value.

References:
  DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver
  operating characteristic curves: a nonparametric approach", Biometrics 44, 1988: the variance.
  Sun and Xu, "Fast implementation of DeLong's algorithm", IEEE Signal Processing Letters 21, 2014:
  the components from midranks, in n log n.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from qad_jax.evaluation import metrics
from qad_jax.evaluation.metrics import Array

# Components are multiples of 1 / (2 n): what differs by less is equal, but for rounding.
_ROUNDING = 1e-12


class Paired(NamedTuple):
    """Two AUCs of the same items.

    Attributes:
      auc: Of the first and of the second score; None where it is not defined.
      difference: The first less the second.
      variance: Variance of the difference.
      low: Lower end of the 95 % interval of the difference.
      high: Upper end.
      p: Two-sided p-value of no difference.
      undefined: Why something is None; '' where nothing is.
    """

    auc: tuple[float | None, float | None]
    difference: float | None
    variance: float | None
    low: float | None
    high: float | None
    p: float | None
    undefined: str


def components(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Array, Array]:
    """The structural components of an AUC.

    Args:
      labels: `(n,)` 0 real, 1 fake; both are there.
      scores: `(n,)` finite.

    Returns:
      For each fake the share of reals that score less, for each real the share of fakes that score
      more, ties counted half; the mean of either is the AUC.
    """
    fake, score = np.asarray(labels) == 1, np.asarray(scores, np.float64)
    rank = _midranks(score)
    fakes, reals = score[fake], score[~fake]
    of_fakes = (rank[fake] - _midranks(fakes)) / len(reals)
    of_reals = 1 - (rank[~fake] - _midranks(reals)) / len(fakes)
    return of_fakes, of_reals


def _midranks(values: Array) -> Array:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place], np.float64)


def covariance(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Array, Array]:
    """AUCs and their estimated covariance.

    Args:
      labels: `(n,)` 0 real, 1 fake; at least two of each.
      scores: `(n, k)` finite.

    Returns:
      `(k,)` and `(k, k)`.
    """
    both = [components(labels, column) for column in np.asarray(scores, np.float64).T]
    of_fakes, of_reals = (np.stack(side) for side in zip(*both, strict=True))
    covariances = (np.atleast_2d(np.cov(side)) / side.shape[1] for side in (of_fakes, of_reals))
    return of_fakes.mean(axis=1), np.asarray(sum(covariances))


def compare(labels: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike) -> Paired:
    """Compares two scores of the same items, which are assumed to be independent of each other.

    Args:
      labels: `(n,)` 0 real, 1 fake.
      first: `(n,)` one score.
      second: `(n,)` the other score.
    """
    for scores in (first, second):
        if reasons := metrics.why_undefined(labels, scores):
            reason = next(iter(reasons.values()))
            return Paired((None, None), None, None, None, None, None, reason)
    a, b = components(labels, first), components(labels, second)
    aucs = float(a[0].mean()), float(b[0].mean())
    # The differences of the components give exactly 0 for scores of equal order; the covariance
    # does not.
    of_fakes, of_reals = a[0] - b[0], a[1] - b[1]
    difference = float(of_fakes.mean())
    for side, name in ((of_fakes, "fake"), (of_reals, "real")):
        if len(side) < 2:
            reason = f"no variance from one {name} only"
            return Paired(aucs, difference, None, None, None, None, reason)
    variance = sum(map(_variance_of_mean, (of_fakes, of_reals)))
    error = math.sqrt(variance)
    if error == 0 and difference != 0:
        reason = "the difference has no variance: it is the same for every frame or video"
        return Paired(aucs, difference, 0.0, None, None, None, reason)
    p = math.erfc(abs(difference) / error / math.sqrt(2)) if error else 1.0
    reach = metrics.NORMAL_975 * error
    return Paired(aucs, difference, variance, difference - reach, difference + reach, p, "")


def _variance_of_mean(values: Array) -> float:
    return float(values.var(ddof=1)) / len(values) if np.ptp(values) > _ROUNDING else 0.0
