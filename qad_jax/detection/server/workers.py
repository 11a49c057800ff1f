"""The processes that judge, watched from outside: one that crashes, hangs or grows costs one job.

Each has a thread here, which starts it, gives it a job, and ends it where it takes more than it
may. A decoder of a stranger's file runs in none but these processes.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import connection as connections
from pathlib import Path
from typing import Any

from data_builders.errors import describe, one_line
from qad_jax.detection.results import VERDICTS
from qad_jax.detection.server import folders, work
from qad_jax.detection.server.jobs import Job, Jobs
from qad_jax.detection.server.metrics import Metrics
from qad_jax.detection.server.settings import MEGABYTE, Settings

# How often a worker is looked at, and how long an idle thread waits for a job, in seconds.
_LOOK, _IDLE = 0.1, 0.5
_LONGEST_MESSAGE = 1 << 14
_LARGEST_OBJECT, _LARGEST_PAGE = 64 << 20, 64 << 20
# Workers in a row that end before they are ready: something else is wrong than a file.
_MOST_FAILED_STARTS = 3
_LONGEST_START = 600.0
CRASH = "the process that read it ended at once ({how}): the file is damaged, or made to do harm"
TOO_LONG = "it takes more than {seconds:g} s of work: send a shorter or a smaller file"
TOO_LARGE = "it takes more than {megabytes:.0f} MB of memory: send a smaller file"
TOO_LITTLE = (
    "--max_memory_mb: a worker takes {own:.0f} MB before its first file; give at least {least:.0f}"
)
LOST = "its verdict cannot be read: {reason}"
MISTAKE = "the service has made a mistake: its operator finds it in the log"

Entry = Callable[..., None]


class Ended(Exception):
    """A worker is no more. The message says why in words."""


class Worker(threading.Thread):
    """One process after another, and what watches over it.

    Attributes:
      ready: What the model says of itself; None while no process has loaded it.
    """

    def __init__(self, pool: Pool, number: int) -> None:
        super().__init__(name=f"worker-{number}", daemon=True)
        self._pool = pool
        self._process: Any = None
        self._connection: Any = None
        self._given_back: Job | None = None
        self.ready: dict[str, Any] | None = None

    def run(self) -> None:
        """Serves jobs until the pool is closed."""
        failed_starts = 0
        while not self._pool.closing.is_set():
            try:
                if self.ready is None:
                    self._start()
                    failed_starts = 0
                elif (job := self._pool.jobs.take(_IDLE)) is None:
                    self._check()
                else:
                    self._do(job)
            except Ended as error:
                failed_starts += self.ready is None
                self._end("crash")
                if failed_starts == _MOST_FAILED_STARTS:
                    self._pool.give_up(f"no worker can start: {error}")
                    break
                if failed_starts:  # what is missing may be there in a moment
                    self._pool.closing.wait(_IDLE)
            except Exception:  # the thread must outlive a mistake in this program
                traceback.print_exc()
                self._end("mistake")
                self._pool.closing.wait(_IDLE)
        self._end(None)

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return None if self._process is None else self._process.pid

    def _start(self) -> None:
        pool = self._pool
        context = multiprocessing.get_context("spawn")  # this process has threads
        self._connection, theirs = context.Pipe()
        # A message is there as a whole or not at all, see `work.send`. A process that a file has
        # taken over must not make this thread wait for the rest of one.
        os.set_blocking(self._connection.fileno(), False)
        arguments = (theirs, pool.settings.model, pool.settings.frames)
        process = context.Process(target=pool.entry, args=arguments, daemon=True)
        try:
            process.start()
        except Exception as error:  # there is no memory for it, or there are too many processes
            self._connection.close()
            raise Ended(describe(error)) from error
        finally:
            theirs.close()
        self._process = process
        end = time.monotonic() + _LONGEST_START
        while not pool.closing.is_set():
            message = self._message()
            if message is not None and "broken" in message:
                pool.give_up(str(message["broken"]))
                return
            if message is not None and "ready" in message:
                size = work.resident(self._process.pid)
                if size > pool.settings.most_memory / 2:
                    pool.give_up(TOO_LITTLE.format(own=size / MEGABYTE, least=2 * size / MEGABYTE))
                else:
                    self.ready = pool.model = message["ready"]
                return
            if time.monotonic() > end:
                raise Ended(f"the model is not loaded after {_LONGEST_START:g} s")

    def _message(self) -> dict[str, Any] | None:
        """The next message, None where there is none yet.

        Raises:
          Ended: The process is no more, or says what it cannot.
        """
        ready = connections.wait([self._connection, self._process.sentinel], _LOOK)
        if self._connection in ready:
            try:
                message = json.loads(self._connection.recv_bytes(_LONGEST_MESSAGE))
            except (EOFError, OSError, ValueError):
                message = None
            if isinstance(message, dict):
                return message
            raise Ended(self._how())
        if ready:
            raise Ended(self._how())
        return None

    def _how(self) -> str:
        self._process.join(1)  # its pipes are closed a moment before it has a status
        code = self._process.exitcode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return signal.Signals(-code).name
        return "it stopped talking" if code is None else f"status {code}"

    def _check(self) -> None:
        if not self._process.is_alive():
            raise Ended(self._how())

    def _do(self, job: Job) -> None:
        pool, jobs, limits = self._pool, self._pool.jobs, self._pool.settings
        folder, began = jobs.folder.path / job.id, time.monotonic()
        pool.metrics.waited(time.time() - job.created)
        reason = why = None
        begun = False
        try:
            task = json.dumps({"folder": str(folder), "name": job.name}, allow_nan=False)
            self._connection.send_bytes(task.encode())
            while reason is None:
                message = self._message()
                begun = begun or message is not None
                if message is not None and "progress" in message:
                    jobs.tell(job, message["progress"])
                elif message is not None and "done" in message:
                    reason = self._keep(job, str(message["done"]), folder)
                    break
                elif message is not None:
                    reason = str(message.get("failed"))
                    break
                if pool.closing.is_set():
                    return  # the store says that it was not done
                if job.deleted:
                    reason = why = "deleted"
                elif time.monotonic() - began > limits.most_seconds:
                    reason, why = TOO_LONG.format(seconds=limits.most_seconds), "time"
                elif work.resident(self._process.pid) > limits.most_memory:
                    reason, why = (
                        TOO_LARGE.format(megabytes=limits.most_memory / MEGABYTE),
                        "memory",
                    )
        except (Ended, OSError) as error:
            # A worker says that it begins before it opens the file. One that has not said so was
            # dying already, and the file is no cause; a second time it may be.
            if not begun and self._given_back is not job:
                self._given_back = job
                jobs.put_back(job)
                raise Ended(str(error)) from error
            reason, why = CRASH.format(how=error), "crash"
        except Exception:
            traceback.print_exc()
            reason, why = MISTAKE, "mistake"
        if why is not None or work.resident(self._process.pid) > limits.most_memory / 2:
            self._end(why or "recycled")
        if reason:
            jobs.fail(job, one_line(reason))
        pool.metrics.worked(time.monotonic() - began, job)

    def _keep(self, job: Job, verdict: str, folder: Path) -> str:
        """Takes a verdict over; returns why that cannot be done, or nothing."""
        try:
            if verdict not in VERDICTS:
                raise OSError(f"{verdict} is none")
            verdict_object = folders.content(folder / work.OBJECT, _LARGEST_OBJECT)
            page = folders.content(folder / work.PAGE, _LARGEST_PAGE)
        except OSError as error:
            return LOST.format(reason=error.strerror or error)
        self._pool.jobs.finish(job, verdict, verdict_object, page)
        return ""

    def _end(self, why: str | None) -> None:
        """Ends the process and all that it has started; why is for the metrics."""
        self.ready = None
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()  # where it had no group of its own yet
        self._process.join()
        self._process.close()
        self._connection.close()
        self._process = None
        if why is not None:
            self._pool.metrics.restarted(why)


class Pool:
    """All workers.

    Attributes:
      model: What the model says of itself; None while no worker has loaded it.
      broken: Why there can be no worker; empty else.
    """

    def __init__(
        self,
        settings: Settings,
        jobs: Jobs,
        metrics: Metrics,
        *,
        entry: Entry = work.serve,
        gave_up: Callable[[], None] = lambda: None,
    ) -> None:
        """Makes the threads; `start` starts them.

        Args:
          settings: Limits.
          jobs: Where work comes from.
          metrics: Counts.
          entry: What a worker process runs, see `work.serve`.
          gave_up: Is called when there can be no worker.
        """
        self.settings, self.jobs, self.metrics, self.entry = settings, jobs, metrics, entry
        self.closing = threading.Event()
        self.model: dict[str, Any] | None = None
        self.broken = ""
        self._gave_up = gave_up
        self._workers = [Worker(self, number) for number in range(settings.workers)]

    def start(self) -> None:
        """Starts all workers."""
        for worker in self._workers:
            worker.start()

    def close(self) -> None:
        """Ends all workers; what they were at work on is not done."""
        self.closing.set()
        for worker in self._workers:
            if worker.is_alive():
                worker.join()

    def alive(self) -> int:
        """Number of workers that are ready or at work."""
        return sum(worker.ready is not None for worker in self._workers)

    def pids(self) -> list[int]:
        """Of the processes that are there."""
        return [pid for worker in self._workers if (pid := worker.pid) is not None]

    def give_up(self, reason: str) -> None:
        """Says that there can be no worker."""
        self.broken = one_line(reason)
        self.closing.set()
        self._gave_up()
