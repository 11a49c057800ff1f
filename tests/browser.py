"""A Chromium of this machine, a service for it whose detector goes by colour, and what both say.

A test of a page opens its tabs by `Tabs`, which blocks whatever is asked of another host.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import socket
import threading
import time
import urllib.request
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
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
STYLE_OF = "d.defaultView.getComputedStyle"
GROUND = "getComputedStyle(document.body).backgroundColor"
GROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}
DROP = """files => {
  const moved = new DataTransfer();
  for (const [name, text] of files)
    moved.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name));
  const at = document.getElementById("drop");
  for (const kind of ["dragover", "drop"])
    at.dispatchEvent(new DragEvent(kind, {dataTransfer: moved, bubbles: true, cancelable: true}));
}"""
PASTE = """([name, text]) => {
  const pasted = new DataTransfer();
  pasted.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name));
  document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: pasted}));
}"""
# What a table says changes faster than a test could ask.
RECORDER = """() => {
  window.seen = new Set();
  new MutationObserver(() => document.querySelectorAll("tbody td:nth-child(2)").forEach(
    cell => seen.add(cell.textContent + (cell.querySelector("progress") ? " |" : "")))
  ).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""
# Milliseconds: a worker of the service has to import JAX first.
PATIENCE = 120_000
#: A file whose name begins so stays in each stage for longer than the page waits between questions.
SLOW = "slow"


@contextlib.contextmanager
def browser() -> Iterator[Any]:
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
        opened = playwright.chromium.launch(executable_path=path or own, args=ARGUMENTS)
        yield opened
        opened.close()


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


class Tabs:
    """Opens tabs, and keeps what they say and what they ask of other hosts."""

    def __init__(self, chromium):
        self._chromium, self._contexts = chromium, []
        self.errors, self.asked, self.statuses = [], [], set()

    def context(self, **options):
        made = self._chromium.new_context(**options)
        made.set_default_timeout(PATIENCE)
        made.route(lambda url: not re.match(r"http://127\.0\.0\.1:|file:", url), self._block)
        made.on("console", self._console)
        made.on("weberror", lambda error: self.errors.append(str(error.error)))
        self._contexts.append(made)
        return made

    def open(self, address, **options):
        tab = self.context(**options).new_page()
        tab.goto(address)
        return tab

    def _block(self, route):
        self.asked.append(route.request.url)
        route.abort()

    def _console(self, message):
        refused = re.search(r"responded with a status of (\d+)", message.text)
        if refused:
            self.statuses.add(int(refused[1]))
        elif message.type in ("error", "warning"):
            self.errors.append(message.text)

    def close(self):
        for context in self._contexts:
            context.close()


def ready(tab):
    tab.wait_for_selector("#about:not(:empty)")
    return tab


def row(tab, name):
    return tab.locator("#files tbody tr").filter(has_text=name)


def judged(tab, *names):
    for name in names:
        row(tab, name).locator("button.name").wait_for(timeout=90_000)


def shown(tab):
    """The frame with the page of the verdict."""
    tab.wait_for_selector("#page:not([hidden])")
    frame = tab.frame_locator("#page")
    frame.locator(".answer").first.wait_for()
    return frame


def kept(tab, button):
    """What a button downloads: its name and its text."""
    with tab.expect_download() as download:
        tab.get_by_role("button", name=button, exact=True).click()
    return download.value.suggested_filename, Path(download.value.path()).read_text()


def fetched(address):
    with urllib.request.urlopen(address) as answer:
        return answer.read().decode()


def until(tab, script):
    """Waits until a script, or a function of a test, gives true.

    Playwright's own way is `eval`, which the page forbids.
    """
    end = time.monotonic() + PATIENCE / 1000
    while not (script() if callable(script) else tab.evaluate(script)):
        assert time.monotonic() < end, script
        tab.wait_for_timeout(20)


def ids(tab):
    return json.loads(tab.evaluate("sessionStorage.getItem('qad-jax-jobs')"))


def inside(tab, script):
    """What a script of the outer page sees in the frame, which runs none itself."""
    return tab.evaluate(f"(d => {script})(document.getElementById('page').contentDocument)")


def no_overflow(tab):
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    if tab.locator("#page:visible").count():
        assert inside(tab, "d.documentElement.scrollWidth - d.documentElement.clientWidth") <= 0


def accessible(tab):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(tab, options={"runOnly": WCAG})
    assert found.response["violations"] == [], found.generate_report()
    assert len(found.response["passes"]) > 5


def walk(tab, frame):
    """Through the frames: one stop of the Tab key, arrow keys between, and the pointer."""
    chosen = frame.locator(".walk .shown:visible")
    assert frame.locator(".walk input").count() == 8
    first = chosen.inner_text()
    frame.locator(".walk :checked").focus()
    tab.keyboard.press("ArrowRight")
    second = chosen.inner_text()
    assert second != first
    assert re.fullmatch(r"frame \d+, \d\.\d\d s, score 0\.950, above the band", second)
    assert frame.locator(".walk :checked").get_attribute("aria-label") == second
    ring = "d.querySelector('.walk :checked ~ .ring')"
    assert inside(tab, f"{STYLE_OF}({ring}).outlineStyle") == "solid"
    image = "d.querySelector('.walk :checked ~ .shown img')"
    assert inside(tab, f"[{image}.naturalWidth, {image}.clientWidth]") == [96, 96]
    tab.keyboard.press("Tab")  # leaves the group
    assert frame.locator(".walk :focus").count() == 0
    strip = frame.locator(".walk .strip").last
    strip.hover()
    last = "d.querySelector('.walk label:last-child .shown')"
    assert inside(tab, f"{STYLE_OF}({last}).zIndex") == "1"
    assert chosen.last.inner_text().startswith("frame 7,")
    strip.click()
    tab.mouse.move(1, 1)
    assert chosen.inner_text().startswith("frame 7,")
