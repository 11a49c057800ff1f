"""Processes that work side by side: how many, how one begins, and a `map` over all of them.

Importing this module costs nothing: it is the one place that counts cores, for everybody.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import Any

from data_builders.errors import UserError

#: With fewer items the work is done before a pool of processes has started.
POOL_PAYS_FROM = 24
# Results for each core that are made before they are asked for.
_AHEAD = 4
# Items that a process has at a time: the one that it works on, and the next one.
_AT_HAND = 2
# A process that dies is blamed on its item only when a fresh process dies of it, too.
_DEATHS = 2
# After so many items that no process survived, and none that one did, something else is wrong.
_NOTHING_WORKS = 5


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
def parallel_map(
    items: int, *, died: Callable[[Any], Any] | None = None, apart: bool = False
) -> Iterator[Callable[..., Iterable[Any]]]:
    """Gives a `map` that keeps the order and uses one process for each core.

    A process that dies, such as by a fault in a codec, costs its item alone.

    Args:
      items: Number of items that it will be called with. For a few, it works in this process.
      died: Makes the result of an item of which a process dies. By default that is an error.
      apart: Whether even a few items are worked on in another process, which they may kill.
    """
    cores = available_cores()
    if not apart and (items < POOL_PAYS_FROM or cores == 1):
        yield map
        return
    processes = [_Process() for _ in range(cores if items >= POOL_PAYS_FROM else 1)]
    try:
        yield functools.partial(_in_order, processes, died or _died)
    finally:
        for patiently in (False, True):  # all of them stop before one is waited for
            for process in processes:
                process.close(patiently=patiently)


def _died(item: Any) -> Any:
    raise UserError(f"{item}: the process that worked on it ended at once, {_DEATHS} times")


@dataclasses.dataclass(eq=False)
class _Task:
    """An item, the result to come, and how many processes died of it."""

    function: Callable[[Any], Any]
    item: Any
    future: Future[Any] = dataclasses.field(default_factory=Future)
    deaths: int = 0

    def send(self, pool: Executor) -> None:
        try:
            self.future = pool.submit(self.function, self.item)
        except BrokenExecutor as error:  # it died a moment ago: the task is lost like those before
            self.future = Future()
            self.future.set_exception(error)

    def is_open(self) -> bool:
        """Whether there is no result yet, and perhaps never will be."""
        return not self.future.done() or self.is_lost()

    def is_lost(self) -> bool:
        """Whether the process died that had it."""
        return self.future.done() and isinstance(self.future.exception(), BrokenExecutor)


class _Process:
    """One process, which works on its items in order.

    When it dies, it was at work on the first item that has no result. A pool of many processes does
    not tell, and all its items are lost.
    """

    def __init__(self) -> None:
        self._pool: Executor | None = None
        self._tasks: list[_Task] = []  # those whose result nobody has taken

    def submit(self, task: _Task) -> None:
        self._pool = self._pool or _begin()
        self._tasks.append(task)
        task.send(self._pool)

    def has(self, task: _Task) -> bool:
        return task in self._tasks

    def open_tasks(self) -> list[_Task]:
        return [task for task in self._tasks if task.is_open()]

    def take(self, task: _Task) -> bool:
        """Gives up a task that is done or lost. False: processes die of it."""
        while task.is_lost() and task.deaths < _DEATHS:
            self._begin_again()
            wait([task.future])
        self._tasks.remove(task)
        return not task.is_lost()

    def _begin_again(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()  # now all that is lost is known to be
        self._pool = _begin()
        lost = [task for task in self._tasks if task.is_lost()]
        lost[0].deaths += 1
        for task in lost:
            if task.deaths < _DEATHS:
                task.send(self._pool)

    def close(self, *, patiently: bool) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=patiently, cancel_futures=True)


def _begin() -> Executor:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # Spawned, not forked: the parent may hold JAX's threads.
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_start)


def _start() -> None:
    # Ctrl-C reaches all processes. The parent says what it has to say, and the others end at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start_worker()


def _end_with_parent() -> None:
    """Ends this process when its parent has, which a signal may kill before it can say so."""
    from multiprocessing import parent_process

    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # nobody would take what is still being made


def _in_order(
    processes: Sequence[_Process],
    died: Callable[[Any], Any],
    function: Callable[[Any], Any],
    items: Iterable[Any],
) -> Iterator[Any]:
    """As `map`, with few results that nobody has taken yet."""
    waiting: collections.deque[_Task] = collections.deque()
    unsent: collections.deque[_Task] = collections.deque()
    finished = dead = 0

    def send() -> None:
        for process in processes:
            while unsent and len(process.open_tasks()) < _AT_HAND:
                process.submit(unsent.popleft())

    def first() -> Any:
        nonlocal finished, dead
        task = waiting.popleft()
        while not task.future.done():
            tasks = [each for process in processes for each in process.open_tasks()]
            running = [each.future for each in tasks if not each.future.done()]
            wait(running, return_when=FIRST_COMPLETED)
            send()
        process = next(process for process in processes if process.has(task))
        if process.take(task):
            finished += 1
            return task.future.result()
        dead += 1
        if not finished and dead == _NOTHING_WORKS:
            raise UserError(
                f"{task.item}: the process that worked on it ended at once, and so did all others "
                f"of {dead}; look at the memory that is free, and at the messages above"
            )
        return died(task.item)

    for item in items:
        task = _Task(function, item)
        waiting.append(task)
        unsent.append(task)
        send()
        if len(waiting) > _AHEAD * len(processes):
            yield first()
    while waiting:
        yield first()
