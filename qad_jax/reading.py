"""Many threads fill one batch: each decodes records straight into its rows."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

# Jobs for each reader that wait for it: batches are finished in order, and no reader stands still
# for one that is slower.
_JOBS_AHEAD = 2
# Batches under way at the least: one is taken while the next is filled.
_BATCHES_AHEAD = 2

Pictures = npt.NDArray[np.uint8]
#: Decodes what is at a place of the stream into the given row; returns what else is known of it.
Fill = Callable[[int, Pictures], Any]


def filled(
    fill: Fill,
    batches: Iterable[range],
    rows: int,
    shape: tuple[int, ...],
    threads: int | None = None,
) -> Iterator[tuple[Pictures, list[Any]]]:
    """Reads batches ahead.

    Args:
      fill: Called once for each place, by any thread; what it raises is raised for its batch.
      batches: Which places are in each batch, in order; there may be no end.
      rows: Rows of every batch. Those that its places do not take are zeros.
      shape: Of a row.
      threads: Number of readers, by default as many as there are cores.

    Yields:
      `(rows, *shape)` uint8, the caller's own, and what `fill` returned for each place.
    """
    threads = threads or os.cpu_count() or 1
    ahead = max(_BATCHES_AHEAD, -(-_JOBS_AHEAD * threads // rows))
    under_way: collections.deque[tuple[Pictures, list[Future[Any]]]] = collections.deque()

    def finished() -> tuple[Pictures, list[Any]]:
        pictures, jobs = under_way.popleft()
        return pictures, [job.result() for job in jobs]

    pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
    try:
        for places in batches:
            pictures = np.empty((rows, *shape), np.uint8)
            pictures[len(places) :] = 0
            jobs = [pool.submit(fill, place, pictures[i]) for i, place in enumerate(places)]
            under_way.append((pictures, jobs))
            if len(under_way) > ahead:
                yield finished()
        while under_way:
            yield finished()
    finally:  # also where nobody asks for more
        pool.shutdown(wait=False, cancel_futures=True)
