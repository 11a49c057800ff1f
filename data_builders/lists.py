"""Lists that people have: JSON and text files that name images or videos, and the files they name.

Lists come from other systems. Windows writes a byte order mark, or UTF-16, and backslashes between
folders; macOS takes letters with accents apart (NFD), which other systems do not.
"""

from __future__ import annotations

import collections
import csv
import io
import json
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from data_builders.errors import UserError, describe
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
    if not data.strip():
        raise UserError(f"{path}: is empty; get the file again")
    try:
        return parse_json(data, most=MAX_VALUES, object_pairs_hook=_each_once)
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error


def read_entries(path: Path, what: str) -> dict[str, dict[str, Any]]:
    """Reads a JSON file that tells something of each video: an object of objects.

    Args:
      path: The file.
      what: What it is, for messages.

    Raises:
      UserError: See `read_json`; or it is something else.
    """
    content = read_json(path, what)
    if not isinstance(content, dict):
        raise UserError(f"{path}: the {what} must be an object, with an object for each video")
    for name, about in content.items():
        if not isinstance(about, dict):
            raise UserError(f"{path}: {name!r}: {about!r}: must be an object")
    return content


def read_table(path: Path, what: str, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Reads columns of a CSV file, whose first line names them.

    Args:
      path: The file.
      what: What it is, for messages.
      columns: Names of the columns.

    Yields:
      The number of a line and the values in it, in the order of `columns`; '' where there is none.

    Raises:
      UserError: It cannot be read, is too large, or lacks a column. The message names it.
    """
    text = io.StringIO(read_text(path, what), newline="")
    rows = csv.DictReader(text, skipinitialspace=True)
    try:
        rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
        lacking = [name for name in columns if name not in (rows.fieldnames or ())]
        if lacking:
            raise UserError(
                f"{path}: has no column {' or '.join(lacking)}; its first line names the columns, "
                "separated by commas"
            )
        for row in rows:
            yield rows.line_num, [str(row[name] or "").strip() for name in columns]
    except csv.Error as error:
        raise UserError(
            f"{path}: the row after line {rows.line_num} cannot be read: {error}; look for a quote "
            "without an end"
        ) from error


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


def one_form(name: str) -> str:
    """A name with its letters in one form (NFC), in which names are compared.

    The same name from two systems, or from a folder and a list, would otherwise be two names: one
    person would be in two splits.
    """
    return unicodedata.normalize("NFC", name)


def as_text(name: str) -> str:
    """A name of a file as text: a record cannot hold one of another encoding than UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def entries(folder: Path) -> list[Path]:
    """Lists what is in a folder, sorted by name.

    Args:
      folder: The folder, which need not exist.

    Returns:
      Files and folders, without hidden ones, which macOS leaves beside others.

    Raises:
      UserError: It cannot be read. `Path.glob` would find nothing in it.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{folder}: cannot read the folder: {error.strerror or error}") from error
    return [folder / name for name in sorted(names) if not name.startswith(".")]


def videos_in(*folders: Path) -> dict[str, Path]:
    """Finds the videos in folders by their stems, also where a copy has `videos/` around them.

    Each folder is listed once and no file is opened: there may be 100 000. A folder need not exist.

    Args:
      *folders: Where they may be. Of two files with one name, that of the later folder is taken.

    Returns:
      The files by stem, as `as_text` writes it, sorted; without hidden ones.

    Raises:
      UserError: A folder cannot be read.
    """
    levels = [folder / level for folder in folders for level in ("", "videos")]
    paths: dict[str, Path] = {}
    for level in levels:
        videos = [path for path in entries(level) if path.suffix.lower() == ".mp4"]
        videos.sort(key=lambda path: path.suffix)  # of a.MP4 and a.mp4, the second is taken
        paths |= {as_text(path.stem): path for path in videos}
    return dict(sorted(paths.items()))


def files_under(root: Path) -> tuple[list[Path], list[str]]:
    """Finds the files in a folder and in all folders in it, also behind links to folders.

    Each folder is read once: links in a ring end, and nobody is there under two names. A folder
    that is in `root` keeps its own name; of links to another one, the first is followed.

    Args:
      root: The folder, which need not exist.

    Returns:
      The files, sorted, without hidden ones and those in hidden folders; and why folders could not
      be read.
    """
    files: list[Path] = []
    errors: list[OSError] = []
    known, tops = set[tuple[int, int]](), [root]
    while tops:
        for folder, inner, names in os.walk(tops.pop(0), onerror=errors.append):
            facts = os.stat(folder)
            if (facts.st_dev, facts.st_ino) in known:
                inner.clear()
                continue
            known.add((facts.st_dev, facts.st_ino))
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            # `os.walk` does not enter them: what is no link comes first.
            tops += [Path(folder, name) for name in inner if os.path.islink(Path(folder, name))]
            paths = (Path(folder, name) for name in names if not name.startswith("."))
            files += [path for path in paths if path.is_file()]
    return sorted(files), [describe(error) for error in errors]


def no_folder(path: Path) -> str:
    """What is wrong with a path that is no folder."""
    return "is no folder" if path.exists() else "there is no such folder"


def nothing_in(folder: Path, problem: str, expected: str) -> UserError:
    """Makes the error of a folder in which a dataset is not found.

    Args:
      folder: The folder, which may not be there at all.
      problem: What is wrong with it if it is there.
      expected: What should be in it.
    """
    wrong = problem if folder.is_dir() else no_folder(folder)
    return UserError(f"{folder}: {wrong}; expected {expected} in it")


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
