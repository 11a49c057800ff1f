"""Lists that people have: JSON and text files that name images or videos, and the files they name.

Lists come from other systems. Windows writes a byte order mark, or UTF-16, and backslashes between
folders; macOS takes letters with accents apart (NFD), which other systems do not.
"""

from __future__ import annotations

import collections
import json
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from data_builders.errors import UserError
from data_builders.files import parse_json

#: Bounds of a list. One within them takes a few GB of memory at most.
MAX_BYTES, MAX_VALUES, MAX_IMAGES = 256 * 2**20, 20_000_000, 4_000_000

_PIECE = 2**20


def read_text(path: Path, what: str) -> str:
    """Reads a text file in UTF-8, or in UTF-16 with a byte order mark.

    Args:
      path: The file.
      what: What it is, for messages.

    Raises:
      UserError: It cannot be read, is too large, or is no text. The message names it.
    """
    data = read_bytes(path, what)
    try:
        return data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: is not text in UTF-8: {error.reason}; save it as UTF-8"
        ) from error


def read_json(path: Path, what: str) -> Any:
    """Reads a JSON file whose objects name each key once.

    Args:
      path: The file.
      what: What it is, for messages.

    Raises:
      UserError: It cannot be read, is too large, is no JSON, or has a key twice. The message names
        it.
    """
    data = read_bytes(path, what)
    try:
        return parse_json(data, most=MAX_VALUES, object_pairs_hook=_each_once)
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error


def located(folder: Path, name: str) -> Path | None:
    """Finds a file by its name in a list.

    Args:
      folder: What the name is relative to. An absolute name, or `..`, leads out of it.
      name: The name, with slashes or backslashes, in either form of letters with accents.

    Returns:
      The file; None where there is none.
    """
    path = folder / name
    if os.path.isfile(path):  # unlike Path's, false for a name that no file can have
        return path
    path = folder
    for part in PurePosixPath(name.replace("\\", "/")).parts:
        forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        found = next((path / form for form in forms if os.path.exists(path / form)), None)
        if found is None:
            return None
        path = found
    return path if path.is_file() else None


def videos_in(*folders: Path) -> dict[str, Path]:
    """Finds the videos in folders by their stems, also where a copy has `videos/` around them.

    Each folder is listed once and no file is opened: there may be 100 000. A folder need not exist.

    Args:
      *folders: Where they may be. Of two files with one name, that of the later folder is taken.

    Returns:
      The files by stem, sorted; without hidden ones, which macOS leaves beside others.
    """
    levels = [folder / level for folder in folders for level in ("", "videos")]
    paths = {path.stem: path for level in levels for path in level.glob("[!.]*.mp4")}
    return dict(sorted(paths.items()))


def check_count(path: Path, images: int) -> None:
    """Refuses a list of too many images.

    Raises:
      UserError: There are more than `MAX_IMAGES`.
    """
    if images > MAX_IMAGES:
        raise UserError(
            f"{path}: lists {images} images, more than {MAX_IMAGES}; split it into several files"
        )


def first_of(items: Sequence[object]) -> str:
    """Names the first of some items, and counts the others, for a message."""
    return f"{items[0]} (and {len(items) - 1} more)" if len(items) > 1 else str(items[0])


def read_bytes(path: Path, what: str) -> bytes:
    """Reads a file of anybody's, of at most `MAX_BYTES`.

    Args:
      path: The file.
      what: What it is, for messages.

    Raises:
      UserError: It cannot be read, or is too large. The message names it.
    """
    try:
        size = path.stat().st_size
        parts: list[bytes] = []
        with path.open("rb") as file:
            # In pieces: a device has no size, and Python makes room for all that it is asked for.
            while size <= MAX_BYTES and (part := file.read(_PIECE)):
                parts.append(part)
                size = max(size, len(parts) * _PIECE)
        if size > MAX_BYTES:
            raise UserError(
                f"{path}: the {what} has {size >> 20} MiB, more than {MAX_BYTES >> 20}; "
                "split it into several files"
            )
        return b"".join(parts)
    except OSError as error:
        raise UserError(f"{path}: cannot read the {what}: {error.strerror or error}") from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        counts = collections.Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise ValueError(f"the key {twice!r} is there twice in one object; keep one")
    return content
