"""What is behind the addresses of the service: its folder, its store, its jobs and its workers."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request

from data_builders.errors import UserError
from qad_jax.detection.server import guard, metrics, problems, uploads, work
from qad_jax.detection.server.folders import PrivateFolder
from qad_jax.detection.server.jobs import DONE, FAILED, QUEUED, RUNNING, Job, Jobs
from qad_jax.detection.server.problems import Problem
from qad_jax.detection.server.settings import Settings
from qad_jax.detection.server.store import Store
from qad_jax.detection.server.workers import Entry, Pool

# How often jobs are looked at whose time may be over, in seconds.
_SWEEP = 1.0


class Service:
    """It is made when the application starts, and closed at its end.

    Attributes:
      settings: As they were given.
      numbers: For Prometheus.
      pool: The workers.
      jobs: All jobs.
    """

    def __init__(self, settings: Settings, entry: Entry, gave_up: Callable[[], None]) -> None:
        """Makes the folder, opens the store and starts the workers.

        Raises:
          UserError: The folder or the store cannot be had.
        """
        self.settings = settings
        self._rates = guard.Rates(settings.uploads_per_minute)
        self._folder = PrivateFolder(settings.folder)
        path = settings.store or self._folder.path / "results.sqlite"
        try:
            self.store = Store(path)
            try:
                self.jobs = Jobs(settings, self.store, self._folder)
            except sqlite3.Error as error:
                self.store.close()
                raise UserError(f"--store: {path}: {error}; name a file that is new") from error
        except BaseException:
            self._folder.close()
            raise
        self.numbers = metrics.Metrics()
        self.pool = Pool(settings, self.jobs, self.numbers, entry=entry, gave_up=gave_up)
        self.numbers.watch("workers", "Workers that are ready.", self.pool.alive)
        for state in (QUEUED, RUNNING):
            count = functools.partial(self._count, state)
            self.numbers.watch(f"jobs_{state}", f"Jobs that are {state}.", count)
        self.pool.start()

    def _count(self, state: str) -> int:
        return self.jobs.counts()[state]

    def close(self) -> None:
        """Ends the workers and removes the files."""
        self.pool.close()
        self.store.close()
        self._folder.close()

    async def sweep(self) -> None:
        """Removes what is over, again and again."""
        while True:
            await asyncio.sleep(_SWEEP)
            with contextlib.suppress(sqlite3.Error):  # a full disk: later there may be room
                await asyncio.to_thread(self.jobs.expire)

    async def submit(self, request: Request) -> Job:
        """Takes a file in, and puts it into the queue.

        Raises:
          Problem: It is not taken.
        """
        settings, jobs = self.settings, self.jobs
        client = guard.client_of(request.client.host if request.client else None)
        self._rates.take(client)
        with jobs.place(client):
            job_id = jobs.new_id()
            try:
                upload = await uploads.receive(
                    request,
                    jobs.folder.make(job_id) / work.FILE,
                    most=settings.most_bytes,
                    seconds=settings.upload_seconds,
                    hold=jobs.hold,
                )
                job = Job(job_id, upload.name, upload.bytes, client, time.time())
                await asyncio.to_thread(jobs.add, job)
            except OSError as error:
                jobs.folder.remove(job_id)
                raise problems.not_stored() from error
            except BaseException:
                jobs.folder.remove(job_id)
                raise
        self.numbers.received(upload.bytes)
        return job

    def told(self, job: Job) -> dict[str, Any]:
        """What a client is told of a job."""
        # Asked for once: a worker may finish the job meanwhile, and the parts would not fit.
        position, state = self.jobs.position(job), job.state
        return {
            **{name: getattr(job, name) for name in ("id", "name", "bytes")},
            "state": state,
            "position": position if state == QUEUED else None,
            "progress": job.progress if state == RUNNING else None,
            "reason": job.reason if state == FAILED else "",
            "verdict": job.verdict if state == DONE else None,
            "created": _iso(job.created),
            "expires": _iso(self.jobs.expires(job)),
        }

    def result(self, job_id: str, read: Callable[[str], bytes | None]) -> bytes:
        """What is stored of a job that is done.

        Raises:
          Problem: There is no such job, or it has no verdict.
        """
        job = self.jobs.get(job_id)
        if (state := job.state) != DONE:
            told = f"failed: {job.reason}" if state == FAILED else f"is {state}"
            raise Problem(
                409, "not-done", f"There is no verdict, as the job {told}: look at its state first."
            )
        content = read(job_id)
        if content is None:  # it has just been deleted
            raise problems.unknown_job()
        return content


def _iso(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
