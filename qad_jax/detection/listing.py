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

    Raises:
      UserError: No file is named, none is found, or a name is empty.
    """
    files: list[str] = []
    for given in paths:
        if given == "-":
            files += [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
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
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if Path(name).suffix.lower() in media.SUFFIXES and not name.startswith("."):
                yield os.path.join(root, name)
