"""What Prometheus is told of a service. No name of a file and no address of a client is in it."""

from __future__ import annotations

from collections.abc import Callable

import prometheus_client as prometheus

from qad_jax.detection.results import VERDICTS
from qad_jax.detection.server.jobs import Job

MEDIA_TYPE = prometheus.CONTENT_TYPE_LATEST
# What a job ends with, and why a worker ends.
ENDS_OF_JOBS = (*VERDICTS, "failed", "deleted")
ENDS_OF_WORKERS = ("crash", "time", "memory", "deleted", "recycled", "mistake")
_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class Metrics:
    """The numbers of one service."""

    def __init__(self) -> None:
        """Makes all numbers, at 0."""
        self._registry = prometheus.CollectorRegistry()
        self._jobs = prometheus.Counter(
            "qad_jax_jobs", "Jobs that ended, by verdict.", ["verdict"], registry=self._registry
        )
        self._waiting = prometheus.Histogram(
            "qad_jax_job_waiting_seconds",
            "Time from the end of sending to the begin of work.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._working = prometheus.Histogram(
            "qad_jax_job_working_seconds",
            "Time of work on a file.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._ends = prometheus.Counter(
            "qad_jax_worker_ends",
            "Worker processes that ended, by reason.",
            ["reason"],
            registry=self._registry,
        )
        # Prometheus counts growth alone. A number that is first seen at 1 has not grown, so the
        # first crash would be missed if its number were not there before.
        for end in ENDS_OF_JOBS:
            self._jobs.labels(end)
        for reason in ENDS_OF_WORKERS:
            self._ends.labels(reason)
        self._bytes = prometheus.Counter(
            "qad_jax_received_bytes", "Bytes of files that were sent.", registry=self._registry
        )
        self._requests = prometheus.Counter(
            "qad_jax_requests",
            "Requests, by route and status.",
            ["method", "route", "status"],
            registry=self._registry,
        )

    def watch(self, name: str, help: str, value: Callable[[], float]) -> None:
        """Adds a number that is asked for each time."""
        gauge = prometheus.Gauge(f"qad_jax_{name}", help, registry=self._registry)
        gauge.set_function(value)

    def text(self) -> bytes:
        """All numbers, in the text format of Prometheus."""
        return prometheus.generate_latest(self._registry)

    def waited(self, seconds: float) -> None:
        """Counts the time that a job has waited."""
        self._waiting.observe(max(0.0, seconds))

    def worked(self, seconds: float, job: Job) -> None:
        """Counts a job that ended."""
        self._working.observe(seconds)
        self._jobs.labels("deleted" if job.deleted else job.verdict or "failed").inc()

    def restarted(self, reason: str) -> None:
        """Counts a worker process that ended, for one of `ENDS_OF_WORKERS`."""
        self._ends.labels(reason).inc()

    def received(self, count: int) -> None:
        """Counts a file that was sent."""
        self._bytes.inc(count)

    def requested(self, method: str, route: str, status: int) -> None:
        """Counts a request; a route is a pattern of this service, and never an address."""
        self._requests.labels(method, route, status).inc()
