"""A worker of the service that does what the text of a file says; it imports no JAX."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from qad_jax.detection.server import work

ABOUT = {"name": "by text", "version": "1", "sha256": "0" * 64}
#: What a file begins with: by this it could be an image.
MAGIC = b"GIF8"


def file_of(word):
    """A file that makes the worker do something."""
    return MAGIC + b" " + word.encode()


def by_text(connection, model, frames):
    """The entry of a worker process, see `work.serve`."""
    work.prepare()
    work.loop(connection, ABOUT, lambda task, tell: _done(task, tell, connection))


def never_ready(connection, model, frames):
    """A process that ends at once."""
    sys.exit(7)


def _done(task, tell, connection):
    folder = Path(task["folder"])
    text = (folder / work.FILE).read_bytes().removeprefix(MAGIC).decode(errors="replace")
    word, *more = text.split() or ["nothing"]
    tell(stage=work.READING, done=0, total=None, remaining_seconds=None)
    if word == "sleep":
        time.sleep(float(more[0]))
    elif word == "hang":
        # It cannot be asked to end, and neither can the process that it has started.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(more[0]).write_text(f"{os.getpid()} {child.pid}")
        time.sleep(600)
    elif word == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif word == "grow":
        held = []
        while True:
            held.append(bytearray(os.urandom(1 << 20) * 8))
    elif word == "raise":
        raise ZeroDivisionError("nobody has thought of this")
    elif word == "disk":
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / work.PAGE))
    elif word == "link":
        (folder / work.OBJECT).symlink_to(more[0])
        return "real"
    elif word == "half":  # of a message: its length, and no more
        os.write(connection.fileno(), b"\x00\x00\x01\x00")
        time.sleep(600)
    elif word == "lie":
        return "certainly fake"
    (folder / work.OBJECT).write_text(f'{{"file": "{task["name"]}", "verdict": "real"}}')
    (folder / work.PAGE).write_text(f"<!doctype html><title>{word}</title>")
    return "real"
