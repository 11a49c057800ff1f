"""A Chromium that is on this machine, and a service for it whose detector goes by colour."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_builders.errors import UserError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: A file whose name begins so stays in each stage for longer than the page waits between questions.
SLOW = "slow"


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window.

    Raises:
      UserError: There is none.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        path = next(filter(None, map(shutil.which, NAMES)), None)
        if path is None and not own.exists():
            raise UserError(f"no browser: none of {', '.join(NAMES)} is installed")
        browser = playwright.chromium.launch(executable_path=path or own, args=ARGUMENTS)
        yield browser
        browser.close()


@contextlib.contextmanager
def served(app: Any, settings: Any) -> Iterator[str]:
    """Serves an application on loopback from a thread of this process, and gives its address."""
    import uvicorn

    from qad_jax.detection.server import command

    server = uvicorn.Server(command.configuration(app, settings))
    listening = socket.create_server((settings.host, 0))

    async def serve() -> None:
        async with app.router.lifespan_context(app):
            await server.serve(sockets=[listening])

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        yield f"http://{settings.host}:{listening.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def worker_by_colour(connection: Any, model: str | None, frames: int) -> None:
    """The entry of a worker process: `work.serve` with the network of `test_detection`."""
    from qad_jax.detection.detector import Detector
    from qad_jax.detection.server import work
    from tests import test_detection

    work.prepare()
    detector = Detector(test_detection.model(), frames=frames)
    detector.__dict__["_score"] = test_detection.by_colour

    def judge(task: dict[str, Any], tell: work.Tell) -> str:
        def told(**progress: Any) -> None:
            tell(**progress)
            if task["name"].startswith(SLOW):
                time.sleep(1.2)

        return work.judge(detector, task, told, [])

    described = detector.model.description
    about = {"name": described.name, "version": "1", "sha256": detector.model.sha256}
    work.loop(connection, about, judge)
