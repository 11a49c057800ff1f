"""The service on a free port of this machine, in a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import uvicorn

from qad_jax.detection.server import app as application
from qad_jax.detection.server import command
from qad_jax.detection.server.service import Service
from qad_jax.detection.server.settings import Settings
from tests.serving_worker import by_text, file_of

PATIENCE_S = 120


class Served(NamedTuple):
    """A service that runs."""

    client: httpx.Client
    port: int
    service: Service

    def send(self, word: str, name: str = "a.gif", **more: Any) -> httpx.Response:
        """Sends a file that makes the worker do something."""
        return self.client.post("/v1/jobs", files={"file": (name, file_of(word))}, **more)

    def until(self, job: str, *states: str) -> dict[str, Any]:
        """The job, when it has one of some states."""
        return until(self.client, job, *states)

    def judged(self, word: str, name: str = "a.gif") -> dict[str, Any]:
        """Sends a file and waits for its end."""
        sent = self.send(word, name)
        assert sent.status_code == 202, sent.text
        return self.until(sent.json()["id"], "done", "failed")


def until(client: httpx.Client, job: str, *states: str) -> dict[str, Any]:
    """The job, when it has one of some states."""
    end = time.monotonic() + PATIENCE_S
    while (told := client.get(f"/v1/jobs/{job}").json())["state"] not in states:
        assert time.monotonic() < end, told
        time.sleep(0.02)
    return dict(told)


def problem(answer: httpx.Response, status: int, kind: str) -> str:
    """Checks that an answer is of RFC 9457; returns what it says."""
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert set(told) == {"type", "title", "status", "detail"}
    assert (answer.status_code, told["status"], told["type"]) == (
        status,
        status,
        f"urn:qad-jax:problem:{kind}",
    )
    assert told["detail"].endswith(".")
    return str(told["detail"])


def wait(reached: Any) -> None:
    """Until something is so."""
    end = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < end, "it does not get on"
        time.sleep(0.02)


def is_there(pid: int | str) -> bool:
    """Whether a process runs; one that ended and that nobody has asked for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def served(settings: Settings, entry: Any = by_text, host: str = "127.0.0.1") -> Iterator[Served]:
    """Runs a service as the command does, until the end of the block."""
    app = application.create(settings, entry=entry)
    server = uvicorn.Server(command.configuration(app, settings))
    with command._listening(settings) as listening:
        port = listening.getsockname()[1]
        thread = threading.Thread(
            target=lambda: asyncio.run(command._serve(app, server, listening, "listening"))
        )
        thread.start()
        try:
            wait(lambda: server.started or not thread.is_alive())
            with httpx.Client(base_url=f"http://{host}:{port}", timeout=PATIENCE_S) as client:
                yield Served(client, port, app.state.service)
        finally:
            server.should_exit = True
            thread.join()
