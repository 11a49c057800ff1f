"""What a worker process does: it loads the detector once, and judges one file after another.

It says little to its parent: short lines of JSON. Verdict and page are files in the folder of the
job, so that a worker that hangs never leaves half of a long message in the pipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_builders import command_line, compilation_cache
from data_builders.errors import UserError, describe
from qad_jax import cpu
from qad_jax.detection import media
from qad_jax.detection.manifest_reader import limit
from qad_jax.detection.server import folders

if TYPE_CHECKING:  # JAX is imported when the process has been prepared
    from qad_jax.detection.detector import Detector

#: Files in the folder of a job.
FILE, OBJECT, PAGE = "file", "verdict.json", "page.html"
READING, SCORING, DRAWING = "reading", "scoring", "drawing"
# Of a text in a message: with all its characters escaped it fits into one piece of a pipe.
_LONGEST_TEXT = 200
_LARGEST_FILE = 1 << 30
_BETWEEN = 0.2  # seconds between two messages on progress
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG

Tell = Callable[..., None]


def serve(connection: Connection, model: str | None, frames: int) -> None:
    """Judges files until the connection ends.

    Args:
      connection: To the parent.
      model: See `Settings`.
      frames: Frames of a video that are looked at.
    """
    prepare()
    try:
        detector = load(model, frames)
        # Compiles, so that the first client does not wait for it.
        detector.scores([np.zeros((8, 8, 3), np.uint8)])
        detector.faces([np.zeros((64, 64, 3), np.uint8)])
    # Values of a model that nobody can compute with give errors of any library.
    except (UserError, OSError, ValueError, TypeError) as error:
        send(connection, broken=describe(error)[:_LONGEST_TEXT])
        return
    described = detector.model.description
    about = {
        "name": described.name[:_LONGEST_TEXT],
        "version": described.version[:_LONGEST_TEXT],
        "sha256": detector.model.sha256,
    }
    command = [] if model is None else ["--model", Path(model).name]
    command += [] if frames == media.FRAMES else ["--frames", str(frames)]
    loop(connection, about, lambda task, tell: judge(detector, task, tell, command))


def load(model: str | None = None, frames: int = media.FRAMES) -> Detector:
    """Opens the detector in a process that has not imported JAX yet.

    It prepares JAX as `qad-jax detect` does, so that scores have its bits.

    Args:
      model: See `Settings`.
      frames: Frames of a video that are looked at.

    Raises:
      UserError: The model cannot be read, see `Detector.from_pretrained`.
    """
    cpu.tune()
    compilation_cache.keep()
    from qad_jax.detection.detector import Detector

    return Detector.from_pretrained(model, frames=frames)


def prepare() -> None:
    """Makes this process one that ends with its parent, and that leaves nothing behind."""
    with contextlib.suppress(PermissionError):  # it has begun a session already
        os.setsid()  # Ctrl-C is for the parent; this process ends with all that it has started
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    limit(resource.RLIMIT_CORE, 0)  # a core would hold the file of a stranger
    limit(resource.RLIMIT_FSIZE, _LARGEST_FILE)


def resident(pid: int | None) -> int:
    """Bytes of resident memory of a process; 0 where there is none."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def loop(
    connection: Connection, about: dict[str, Any], work: Callable[[dict[str, Any], Tell], str]
) -> None:
    """Takes tasks and says what became of them.

    Args:
      connection: To the parent.
      about: What the model says of itself.
      work: Does a task, and returns the verdict.
    """

    def tell(**progress: Any) -> None:
        send(connection, progress=progress)

    send(connection, ready=about)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task = json.loads(connection.recv_bytes())
            try:
                send(connection, done=work(task, tell))
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:  # a mistake in this program costs one file and no others
                traceback.print_exc(file=sys.stderr)
                # A client is not told where the files of the service are.
                reason = describe(error).replace(f"{task['folder']}{os.sep}", "")
                send(connection, failed=reason[:_LONGEST_TEXT])


def send(connection: Connection, **message: Any) -> None:
    """Sends one short message, which the system takes in one piece."""
    connection.send_bytes(json.dumps(message, allow_nan=False).encode())


def judge(detector: Detector, task: dict[str, Any], tell: Tell, command: list[str]) -> str:
    """Judges one file, and writes its verdict and its page into its folder.

    Args:
      detector: Judges it.
      task: `folder` of the job, and `name` of the file.
      tell: Is told how far it is.
      command: Options that make `qad-jax detect` judge alike.

    Returns:
      The verdict in one word.
    """
    from qad_jax.detection.looking import Task
    from qad_jax.detection.pages import file_page

    folder, name = Path(task["folder"]), str(task["name"])
    tell(stage=READING, done=0, total=None, remaining_seconds=None)
    path = str(folder / FILE)
    found = detector.looker()(Task(path), Stage(tell, READING))
    found = dataclasses.replace(found, file=name, error=found.error.replace(path, name))
    look = detector.look(found, _scored(detector, found.crops(), tell))
    tell(stage=DRAWING, done=0, total=None, remaining_seconds=None)
    examined = detector.examined(look)
    file = ["--", name] if name.startswith("-") else [name]
    alike = command_line.command("qad-jax", "detect", "--out", "pages", *command, *file)
    page = file_page.render(examined, alike, back=None)
    _write(folder / OBJECT, look.verdict.as_json().encode())
    _write(folder / PAGE, page.encode())
    return look.verdict.verdict


class Stage:
    """Tells of one stage of the work, from time to time, and how long it will go on."""

    def __init__(self, tell: Tell, stage: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins a stage.

        Args:
          tell: Takes messages.
          stage: Its name.
          clock: Seconds.
        """
        self._tell, self._stage, self._clock = tell, stage, clock
        self._start = self._last = clock()

    def __call__(self, done: int, total: int) -> None:
        """Tells that so much is done, unless it has just told something.

        Args:
          done: What is done.
          total: What there is to do, at least `done`.
        """
        now = self._clock()
        if now - self._last < _BETWEEN:
            return
        self._last = now
        rest = round((now - self._start) * (total - done) / done, 1) if done else None
        self._tell(stage=self._stage, done=done, total=total, remaining_seconds=rest)


def _scored(detector: Detector, crops: list[Any], tell: Tell) -> Any:
    """Scores crops, batch by batch: whatever is scored beside a crop, its score is the same."""
    from qad_jax.detection.scoring import batch_size

    tell(stage=SCORING, done=0, total=len(crops), remaining_seconds=None)
    size, stage, scores = batch_size(), Stage(tell, SCORING), [detector.scores([])]
    for start in range(0, len(crops), size):
        scores.append(detector.scores(crops[start : start + size]))
        stage(min(start + size, len(crops)), len(crops))
    return np.concatenate(scores)


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(folders.create(path), "wb") as file:
        file.write(content)
