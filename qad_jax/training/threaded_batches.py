"""Many threads fill one batch: each decodes records directly into rows of it."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from data_builders.workers import available_cores

# Fewest batches that are being filled: one is used while the next is filled.
_BATCHES_AHEAD = 2
# Jobs in progress for each reader. Batches are finished in order, and this many jobs keep a reader
# busy while a slower one finishes its own.
_JOBS_AHEAD = 2

Images = npt.NDArray[np.uint8]
T = TypeVar("T")


def filled(
    fill: Callable[[T, Images], Any],
    batches: Iterable[Sequence[T]],
    rows: int,
    shape: tuple[int, ...],
    threads: int | None = None,
) -> Iterator[tuple[Images, list[Any]]]:
    """Reads batches ahead.

    Args:
      fill: Decodes one item into the given row and returns the rest of the record. Any thread may
        call it; an error that it raises is raised when its batch is taken.
      batches: The items of each batch, in order; may be endless.
      rows: Rows of every batch. Rows beyond its items are zeros.
      shape: Shape of a row.
      threads: Number of readers; by default one for each core that this process may use.

    Yields:
      `(rows, *shape)` uint8, which belongs to the caller, and what `fill` returned for each item.
    """
    threads = threads or available_cores()
    # A reader takes several items at a time: handing over one costs as much as reading a small
    # image, and happens under Python's lock, for which all readers wait.
    share = -(-rows // threads)
    ahead = max(_BATCHES_AHEAD, -(-_JOBS_AHEAD * threads * share // rows))
    in_progress: collections.deque[tuple[Images, list[Future[list[Any]]]]] = collections.deque()

    def fill_some(items: Sequence[T], images: Images) -> list[Any]:
        return [fill(item, row) for item, row in zip(items, images, strict=True)]

    def finished() -> tuple[Images, list[Any]]:
        images, jobs = in_progress.popleft()
        return images, [record for job in jobs for record in job.result()]

    pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
    try:
        for items in batches:
            images = np.empty((rows, *shape), np.uint8)
            images[len(items) :] = 0
            shares = [slice(i, min(i + share, len(items))) for i in range(0, len(items), share)]
            jobs = [pool.submit(fill_some, items[part], images[part]) for part in shares]
            in_progress.append((images, jobs))
            if len(in_progress) > ahead:
                yield finished()
        while in_progress:
            yield finished()
    finally:  # also where the caller takes no more batches
        pool.shutdown(wait=False, cancel_futures=True)
