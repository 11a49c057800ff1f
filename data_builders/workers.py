"""Processes that work side by side: how many, how one begins, and a `map` over all of them.

Importing this module costs nothing: it is the one place that counts cores, for everybody.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

# With fewer items the work is done before a pool of processes has started.
_POOL_PAYS_FROM = 24
# Results for each core that are made before they are asked for.
_AHEAD = 4


def available_cores() -> int:
    """Counts the cores that this process may run on.

    That is its affinity, which `taskset`, a batch system or a container's set of CPUs limits, and
    not the number of cores that the machine has.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


def start_worker() -> None:
    """Prepares a process that reads clips beside others: one thread, and no accelerator."""
    import cv2

    cv2.setNumThreads(1)
    # The face detector may start JAX here. Many processes cannot share an accelerator's memory.
    os.environ["JAX_PLATFORMS"] = "cpu"


@contextlib.contextmanager
def parallel_map(items: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Gives a `map` that keeps the order and uses one process for each core.

    Args:
      items: Number of items that it will be called with. For a few, it works in this process.
    """
    cores = available_cores()
    if items < _POOL_PAYS_FROM or cores == 1:
        yield map
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # Spawned, not forked: the parent may hold JAX's threads.
    pool = ProcessPoolExecutor(
        cores, multiprocessing.get_context("spawn"), initializer=start_worker
    )
    try:
        yield functools.partial(_in_order, pool, _AHEAD * cores)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: Executor, ahead: int, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    """As `map`, with at most `ahead` results that nobody has taken yet."""
    waiting: collections.deque[Future[Any]] = collections.deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
