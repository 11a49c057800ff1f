"""Many threads fill one batch: each decodes records straight into its rows."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from data_builders.workers import available_cores

# Batches under way at the least: one is taken while the next is filled.
_BATCHES_AHEAD = 2
# Jobs for each reader that are under way: batches are finished in order, and no reader stands still
# for one that is slower.
_JOBS_AHEAD = 2

Pictures = npt.NDArray[np.uint8]
T = TypeVar("T")


def filled(
    fill: Callable[[T, Pictures], Any],
    batches: Iterable[Sequence[T]],
    rows: int,
    shape: tuple[int, ...],
    threads: int | None = None,
) -> Iterator[tuple[Pictures, list[Any]]]:
    """Reads batches ahead.

    Args:
      fill: Decodes one item into the given row and returns what else is known of it. Called by any
        thread; what it raises is raised for its batch.
      batches: The items of each batch, in order; there may be no end.
      rows: Rows of every batch. Those that its items do not take are zeros.
      shape: Of a row.
      threads: Number of readers, by default as many as there are cores.

    Yields:
      `(rows, *shape)` uint8, the caller's own, and what `fill` returned for each item.
    """
    threads = threads or available_cores()
    # A reader takes several items at a time: to hand over one costs as much as to read a small one,
    # and is done under Python's lock, where all wait for each other.
    share = -(-rows // threads)
    ahead = max(_BATCHES_AHEAD, -(-_JOBS_AHEAD * threads * share // rows))
    under_way: collections.deque[tuple[Pictures, list[Future[list[Any]]]]] = collections.deque()

    def fill_some(items: Sequence[T], pictures: Pictures) -> list[Any]:
        return [fill(item, row) for item, row in zip(items, pictures, strict=True)]

    def finished() -> tuple[Pictures, list[Any]]:
        pictures, jobs = under_way.popleft()
        return pictures, [known for job in jobs for known in job.result()]

    pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
    try:
        for items in batches:
            pictures = np.empty((rows, *shape), np.uint8)
            pictures[len(items) :] = 0
            shares = [slice(i, min(i + share, len(items))) for i in range(0, len(items), share)]
            jobs = [pool.submit(fill_some, items[part], pictures[part]) for part in shares]
            under_way.append((pictures, jobs))
            if len(under_way) > ahead:
                yield finished()
        while under_way:
            yield finished()
    finally:  # also where nobody asks for more
        pool.shutdown(wait=False, cancel_futures=True)
