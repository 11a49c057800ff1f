"""Which files are meant by the names on a command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_builders.errors import UserError
from qad_jax.detection import media


def find(paths: Sequence[str]) -> list[str]:
    """Names the files that were meant: folders are searched, `-` reads names from standard input.

    No file is opened. A name takes some hundred bytes of memory, and nothing else of a file does.
    A folder that cannot be read stands for its files, so that its verdict says so. A folder that
    lies in another one as a link is left out: it could lead back to where it lies.

    Raises:
      UserError: No file is named, none is found, or a name is empty.
    """
    files: list[str] = []
    for given in paths:
        if given == "-":
            # Bytes, as names need not be text in the encoding of standard input.
            lines = [line.rstrip(b"\r\n") for line in sys.stdin.buffer if line.strip()]
            files += map(os.fsdecode, lines)
        elif not given:
            raise UserError("PATH: is an empty name; name a file or a folder")
        elif os.path.isdir(given):
            files += _within(given)
        else:  # where there is no such file, its verdict says so
            files.append(given)
    if not files:
        raise UserError(f"{', '.join(paths)}: holds no image and no video")
    return list(dict.fromkeys(files))


def _within(folder: str) -> Iterator[str]:
    unread: list[OSError] = []
    for root, folders, names in os.walk(folder, onerror=unread.append):
        folders.sort()
        for name in sorted(names):
            if Path(name).suffix.lower() in media.SUFFIXES and not name.startswith("."):
                yield os.path.join(root, name)
    yield from (str(error.filename) for error in unread)
