"""The jobs of a service: their states, and the order in which they are worked on.

Clients take turns: each time a worker is free, the next client's oldest file is next. So a client
that sends two hundred files delays another one by one file, not by two hundred. All methods may be
called by any thread; none waits for the disk while others wait for it.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

from qad_jax.detection.server import problems
from qad_jax.detection.server.folders import PrivateFolder
from qad_jax.detection.server.settings import Settings
from qad_jax.detection.server.store import Row, Store

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
_STOPPED = "the service was stopped before it was done; send the file again"
_NOT_STORED = "its verdict cannot be stored: tell the operator of the service"
# What a client that is told to come again should wait for, in seconds.
_AGAIN = 10


@dataclasses.dataclass
class Job:
    """One file on its way to a verdict. Only `Jobs` changes it.

    Attributes:
      id: Its name in addresses, which cannot be guessed.
      name: Of the file, on one line and without folders.
      bytes: Of the file.
      client: Who has sent it.
      created: Seconds since 1970.
      state: 'queued', 'running', 'done' or 'failed'.
      progress: What the worker says of itself; None before and after.
      reason: Why it failed; empty else.
      verdict: None before there is one.
      finished: Seconds since 1970; None before.
      stored: Bytes of its verdict and its page.
      deleted: Whether nobody wants it any more.
    """

    id: str
    name: str
    bytes: int
    client: str
    created: float
    state: str = QUEUED
    progress: dict[str, Any] | None = None
    reason: str = ""
    verdict: str | None = None
    finished: float | None = None
    stored: int = 0
    deleted: bool = False

    @property
    def row(self) -> Row:
        """What is stored of it."""
        return Row(
            self.id, self.name, self.bytes, self.created, self.finished, self.verdict, self.reason
        )


class Jobs:
    """All jobs that are known, and the queue of those that wait."""

    def __init__(self, settings: Settings, store: Store, folder: PrivateFolder) -> None:
        """Takes over what is in the store; what was not finished says so.

        Args:
          settings: Limits.
          store: Keeps results.
          folder: Has the files.

        Raises:
          sqlite3.Error: The store is damaged, or cannot be written.
        """
        self._settings, self._store, self.folder = settings, store, folder
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        # Clients in the order of their turns, each with its waiting jobs.
        self._queue: collections.OrderedDict[str, collections.deque[Job]] = (
            collections.OrderedDict()
        )
        self._places: collections.Counter[str] = collections.Counter()  # of files on their way
        self._held = 0
        sizes = store.sizes()
        for row in store.rows():
            job = Job(row.id, row.name, row.bytes, "", row.created, DONE)
            job.finished, job.verdict, job.reason = row.finished, row.verdict, row.reason
            job.stored = sizes[row.id]
            if row.finished is None:
                job.finished, job.reason = time.time(), _STOPPED
                store.finish(job.row, None, None)
            job.state = FAILED if job.verdict is None else DONE
            self._jobs[job.id] = job

    @contextlib.contextmanager
    def place(self, client: str) -> Iterator[None]:
        """Keeps a place in the queue while a file is being sent.

        Nobody may take more places than are left for others. So there is room for a client that
        comes after one that fills the queue.

        Raises:
          Problem: The queue is full, or the client has its part of it.
        """
        with self._changed:
            waiting = {one: len(jobs) for one, jobs in self._queue.items()}
            total = sum(waiting.values()) + self._places.total()
            own = waiting.get(client, 0) + self._places[client]
            if own >= self._settings.most_queued - total:
                raise problems.busy(
                    "queue-full",
                    f"{own} files of yours and {total - own} of others wait, and nobody may take "
                    f"more of the {self._settings.most_queued} places than are left for others: "
                    "send this one later.",
                    _AGAIN,
                )
            self._places[client] += 1
        try:
            yield
        finally:
            with self._changed:
                self._places[client] -= 1
                if not self._places[client]:
                    del self._places[client]

    def hold(self, count: int) -> None:
        """Counts bytes that are written to the disk; negative ones are gone.

        Raises:
          Problem: All files together are too large.
        """
        with self._changed:
            if count > 0 and self._held + count > self._settings.most_held:
                raise problems.busy(
                    "disk-full", "The files that wait fill the disk: send this one later.", _AGAIN
                )
            self._held += count

    @staticmethod
    def new_id() -> str:
        """Draws the name of a job."""
        return secrets.token_urlsafe(24)

    def add(self, job: Job) -> None:
        """Puts a job into the queue; its file lies in its folder and is counted by `hold`.

        Raises:
          sqlite3.Error: It cannot be stored. Its file is not counted any more.
        """
        try:
            self._store.add(job.row)
        except sqlite3.Error:
            self.hold(-job.bytes)
            raise
        with self._changed:
            self._jobs[job.id] = job
            self._queue.setdefault(job.client, collections.deque()).append(job)
            self._changed.notify()

    def take(self, seconds: float) -> Job | None:
        """Gives the next job to a worker.

        Args:
          seconds: How long to wait for one.

        Returns:
          The job, which is running now; None where there is none.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._queue), seconds):
                return None
            client, waiting = next(iter(self._queue.items()))
            job = waiting.popleft()
            if waiting:
                self._queue.move_to_end(client)
            else:
                del self._queue[client]
            job.state = RUNNING
            return job

    def put_back(self, job: Job) -> None:
        """Takes back what `take` gave, as nobody has begun to work on it: it is next again."""
        with self._changed:
            if not job.deleted:
                job.state = QUEUED
                self._queue.setdefault(job.client, collections.deque()).appendleft(job)
                self._queue.move_to_end(job.client, last=False)
                self._changed.notify()
                return
        self._drop_file(job)

    def position(self, job: Job) -> int | None:
        """How many jobs are taken before a job that waits; None where it does not wait."""
        with self._changed:
            own = self._queue.get(job.client, ())
            if job.state != QUEUED or job not in own:
                return None
            rounds, before, passed = own.index(job), 0, False
            for client, waiting in self._queue.items():
                passed = passed or client == job.client
                # Those whose turn comes first have one more turn before this job.
                turns = rounds + (0 if passed else 1)
                before += min(len(waiting), turns)
            return before

    def tell(self, job: Job, progress: dict[str, Any]) -> None:
        """Takes what a worker says of its progress."""
        job.progress = progress

    def finish(self, job: Job, verdict: str, verdict_object: bytes, page: bytes) -> None:
        """Keeps the verdict on a job; its file is removed."""
        self._end(job, DONE, verdict, "", verdict_object, page)

    def fail(self, job: Job, reason: str) -> None:
        """Gives a job up; its file is removed.

        Args:
          job: The job.
          reason: A sentence for the client, without its full stop.
        """
        self._end(job, FAILED, None, reason, None, None)

    def _end(
        self,
        job: Job,
        state: str,
        verdict: str | None,
        reason: str,
        verdict_object: bytes | None,
        page: bytes | None,
    ) -> None:
        self._drop_file(job)
        job.verdict, job.reason, job.finished, job.progress = verdict, reason, time.time(), None
        with contextlib.suppress(sqlite3.Error):
            self._store.finish(job.row, verdict_object, page)
            job.stored = len(verdict_object or b"") + len(page or b"")
            job.state = state  # last: whoever sees it finds the verdict
        if job.state == RUNNING:
            job.state, job.verdict, job.reason = FAILED, None, _NOT_STORED

    def _drop_file(self, job: Job) -> None:
        self.folder.remove(job.id)
        self.hold(-job.bytes)

    def get(self, job_id: str) -> Job:
        """The job of a name.

        Raises:
          Problem: There is none.
        """
        job = self._jobs.get(job_id)
        if job is None:
            raise problems.unknown_job()
        return job

    def delete(self, job_id: str) -> None:
        """Removes a job with its file, verdict and page. Its worker, if any, is stopped.

        Raises:
          Problem: There is none.
          sqlite3.Error: It cannot be removed from the store. It is still known, to try it again.
        """
        self.get(job_id)
        self._store.delete(job_id)
        with self._changed:
            job = self.get(job_id)
            del self._jobs[job_id]
            waited, job.deleted = job.state == QUEUED, True
            if waited:
                waiting = self._queue[job.client]
                waiting.remove(job)
                if not waiting:
                    del self._queue[job.client]
        if waited:
            self._drop_file(job)

    def expires(self, job: Job) -> float:
        """When a job is removed, in seconds since 1970; before it is finished, at the earliest."""
        return (job.finished or time.time()) + self._settings.kept_seconds

    def expire(self) -> None:
        """Removes the jobs whose time is over, and the oldest where there is too much.

        Raises:
          sqlite3.Error: One cannot be removed from the store.
        """
        now = time.time()
        finished = sorted(
            (job for job in list(self._jobs.values()) if job.state in (DONE, FAILED)),
            key=lambda job: job.finished or 0.0,
        )
        count, stored = len(finished), sum(job.stored for job in finished)
        for job in finished:
            too_much = count > self._settings.most_kept or stored > self._settings.most_held
            if self.expires(job) > now and not too_much:
                break  # those that come now are younger
            count, stored = count - 1, stored - job.stored
            with contextlib.suppress(problems.Problem):  # somebody else has removed it
                self.delete(job.id)

    def counts(self) -> dict[str, int]:
        """Number of jobs in each state."""
        counted = collections.Counter(job.state for job in list(self._jobs.values()))
        return {state: counted[state] for state in (QUEUED, RUNNING, DONE, FAILED)}
