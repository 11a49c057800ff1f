"""One training at a time in a folder.

A job that is queued again, or a second terminal, would replace the log that the first one writes
to, and remove its checkpoints while they are saved.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from data_builders.files import hold


@contextlib.contextmanager
def alone_in(workdir: Path) -> Iterator[None]:
    """Keeps other trainings out of a folder; the end of the process frees it, too.

    Args:
      workdir: The run's folder, which is there.

    Raises:
      UserError: Another process trains there.
    """
    opened = os.open(workdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        hold(
            opened,
            f"{workdir}: another process trains there; wait for its end, or name another --workdir",
        )
        yield
    finally:
        os.close(opened)
