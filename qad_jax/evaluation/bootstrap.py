"""Intervals by a bootstrap over clusters: whole identities are drawn, not frames.

Frames of a video, and videos of a person, are not independent: a bootstrap over frames gives
intervals that are far too narrow (Field and Welsh, "Bootstrapping clustered data", 2007).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from data_builders.workers import available_cores
from qad_jax.evaluation.metrics import NAMES, Array, Ranking

Numbers: TypeAlias = npt.NDArray[np.intp]

REPLICATES = 1000
#: With many scores there are fewer draws, but never fewer than this, so that the intervals of a
#: million scores take seconds. Fewer draws move the ends of an interval by a few hundredths of its
#: width.
FEWEST = 400
_AFFORDED = 400_000_000
# Items times draws in one block: what fits the cache of a processor, or one draw.
_BLOCK = 1 << 18
_THREADS = min(8, available_cores())


def affordable(scores: int) -> int:
    """The number of draws for a number of scores, which bounds the time that they take."""
    return max(FEWEST, min(REPLICATES, _AFFORDED // max(1, scores)))


def draws(clusters: int, replicates: int, seed: int, block: int) -> Iterator[Array]:
    """Draws c of c clusters with replacement, again and again.

    Args:
      clusters: c, the number of clusters.
      replicates: Number of draws.
      seed: Seed of the draws, whose sequence does not depend on `block`.
      block: Number of draws at a time.

    Yields:
      `(r, c)`, r <= block: how often each cluster is in each draw.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, replicates, block):
        rows = min(block, replicates - start)
        picked = rng.integers(clusters, size=(rows, clusters)) + clusters * np.arange(rows)[:, None]
        counts = np.bincount(picked.ravel(), minlength=rows * clusters)
        yield counts.reshape(rows, clusters).astype(np.float64)


def bootstrap(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    clusters: Sequence[str] | npt.NDArray[np.intp],
    *,
    thresholds: Sequence[float | None] | None = None,
    replicates: int | None = None,
    seed: int = 0,
) -> dict[str, Array]:
    """Computes the numbers of samples of the population, drawn by cluster.

    All columns share the same draws, so that differences between them have intervals too.

    Args:
      labels: `(n,)` 0 real, 1 fake.
      scores: `(n, k)`: k scores of the same items, a column each.
      clusters: The n names of the clusters of the items.
      thresholds: The k thresholds, see `metrics.Ranking`.
      replicates: Number of draws; by default `affordable`.
      seed: Seed of the draws.

    Returns:
      `(replicates, k)` for each of `metrics.NAMES`; NaN where a draw holds one class only, in
      columns that hold anything but finite numbers, and everywhere where `why_no_interval` says
      that draws tell nothing.
    """
    columns = np.asarray(scores, np.float64)
    replicates = affordable(columns.size) if replicates is None else replicates
    names, member = numbered(clusters)
    untold = why_no_interval(labels, member)
    rankings = {
        i: Ranking(labels, column, member, thresholds[i] if thresholds else None)
        for i, column in enumerate(columns.T)
        if len(column) and np.isfinite(column).all() and not untold
    }
    result = {name: np.full((replicates, columns.shape[1]), np.nan) for name in NAMES}
    block = max(1, _BLOCK // max(1, len(columns)))

    def work(drawn: tuple[int, Array]) -> None:
        start, weights = drawn
        for i, ranking in rankings.items():
            for name, values in ranking.numbers(weights).items():
                result[name][start : start + len(weights), i] = values

    if rankings:
        drawn = draws(len(names), replicates, seed, block)
        # numpy releases the interpreter's lock. Each thread has one block at a time, which bounds
        # the memory.
        with ThreadPoolExecutor(_THREADS) as pool:
            blocks = zip(itertools.count(0, block), drawn)
            while group := list(itertools.islice(blocks, _THREADS)):
                list(pool.map(work, group))
    return result


def numbered(
    names: Sequence[str] | npt.NDArray[np.intp],
) -> tuple[list[Any], npt.NDArray[np.intp]]:
    """Numbers names in their order.

    An array of texts has the room of the longest one for each: a stranger's file of some long names
    would take gigabytes.

    Args:
      names: n names, or numbers in their place.

    Returns:
      The distinct ones, sorted, and `(n,)` the place of each of the n among them.
    """
    if isinstance(names, np.ndarray):
        distinct, member = np.unique(names, return_inverse=True)
        return distinct.tolist(), member
    places = {name: place for place, name in enumerate(sorted(set(names)))}
    return list(places), np.fromiter((places[name] for name in names), np.intp, len(names))


def fewest_people(labels: npt.ArrayLike, clusters: Sequence[str] | npt.NDArray[np.intp]) -> int:
    """How many clusters the class has that has fewer; 0 where one class is missing.

    Of a class with one cluster, draws show nothing of how others would do.

    Args:
      labels: `(n,)` 0 or 1.
      clusters: `(n,)` names or numbers.
    """
    return min(map(len, _by_class(labels, clusters)))


def _by_class(
    labels: npt.ArrayLike, clusters: Sequence[str] | npt.NDArray[np.intp]
) -> tuple[Numbers, Numbers]:
    """The clusters of the reals, and those of the fakes."""
    fake, member = np.asarray(labels).astype(bool), numbered(clusters)[1]
    return np.unique(member[~fake]), np.unique(member[fake])


def why_no_interval(labels: npt.ArrayLike, clusters: Sequence[str] | npt.NDArray[np.intp]) -> str:
    """Says why draws of clusters give no interval of numbers of both classes; empty if they do.

    Every draw with both classes has all items of a class with one cluster. So the draws do not show
    how much others of that class differ, and their interval would be too narrow.

    Args:
      labels: `(n,)` 0 real, 1 fake.
      clusters: `(n,)` identities, as names or as numbers.
    """
    reals, fakes = _by_class(labels, clusters)
    if len(np.union1d(reals, fakes)) < 2:
        return "one identity only"
    return "one class is of one identity" if min(len(reals), len(fakes)) == 1 else ""


def interval(replicates: Array) -> tuple[float | None, float | None]:
    """The 2.5th and 97.5th percentile of draws of one number; None if half are undefined."""
    known = replicates[np.isfinite(replicates)]
    if 2 * len(known) <= len(replicates):
        return None, None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
