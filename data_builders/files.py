"""Files that are written in full or not at all, or read within bounds, and the cache.

What is read within bounds is JSON, and only plain files where a pipe would be waited for.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import glob
import io
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_builders.errors import UserError

#: Values of a JSON file that is read: each takes some hundred bytes of memory at most.
MOST_VALUES = 10_000_000

# Seconds after which nobody is at work on a folder any more.
_LEFT_S = 24 * 3600
# Where a spreadsheet may see the beginning of a cell, whichever of its separators it takes: before
# a sign of a formula, also a wide one of Asian keyboards. Apostrophes before the sign are counted.
_FORMULA = r"(^|[;\t\r\n])%s(?='*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20])"
_BARE, _MARKED = re.compile(_FORMULA % ""), re.compile(_FORMULA % "'")
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
_NUMBER = re.compile(r"[-+]?[0-9]+([.,][0-9]+)?([eE][-+]?[0-9]+)?")


def kind_of_no_file(path: str | os.PathLike[str]) -> str | None:
    """Says what lies at a path where it is no plain file. It is not opened.

    To open a pipe waits for whoever writes into it, perhaps for ever, and some devices have no end.
    So this is asked before a file is opened that was found in a folder, or is read several times.

    Args:
      path: The path. Links are followed.

    Returns:
      Such as 'a pipe'; None where it is a plain file.

    Raises:
      OSError: As the system has it, such as where nothing is there.
    """
    mode = os.stat(path).st_mode
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file, which may come from anybody.

    Args:
      path: The file.

    Raises:
      OSError: It cannot be read.
      ValueError: See `parse_json`; or a text has half of a character, which could not be written
        again.
    """
    data = Path(path).read_bytes()
    content = parse_json(data, most=MOST_VALUES)
    if b"\\" in data:  # an escape, in UTF-16, too
        json.dumps(content, ensure_ascii=False).encode("utf-8")
    return content


def parse_json(data: bytes, *, most: int, **options: Any) -> Any:
    """Parses JSON in UTF-8, or in UTF-16 with a byte order mark.

    Args:
      data: The bytes of the file.
      most: Number of values that it may have.
      **options: For `json.loads`.

    Raises:
      ValueError: It is not JSON, it has more values, or they lie too deep in each other.
    """
    # Those in texts count, too: no file of this project has so many.
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > most:
        raise ValueError(f"it has more than {most:,} values")
    try:
        # Python itself would let half of a character pass that is there as bytes.
        return json.loads(data.decode(json.detect_encoding(data)), **options)
    except RecursionError:
        raise ValueError("its values lie too deep in each other") from None


def refuse_constant(name: str) -> Any:
    """The `parse_constant` of `json.loads` for which NaN and Infinity are what they are: no JSON.

    Raises:
      ValueError: Always.
    """
    raise ValueError(f"{name} is not a number")


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number; neither texts nor truth values are numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max  # not of NaN; and whole numbers have any size


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a file so that readers see all of the content or the file as it was before.

    Several processes, on several machines too, may write the same file: the last one counts.

    Args:
      path: The file. Its folder is made where there is none.
      content: Its bytes, or text that is written as UTF-8 with line ends as they are.

    Raises:
      OSError: It cannot be written. Nothing is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds a lock that one process of this machine can hold; it ends with the process.

    Args:
      path: The file that is locked. It is made where there is none, and removed in the end.
      wait: Wait for the lock while another process holds it.

    Yields:
      Whether the lock is held: always where it waits, and where the file system knows no locks.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            if not _is_at(path, lock.fileno()):
                continue  # the process that held it has removed it: another one may lock a new file
            try:
                yield True
            finally:
                with contextlib.suppress(OSError):
                    path.unlink()
            return


def _is_at(path: Path, opened: int) -> bool:
    """Whether an open file is still the one that has this name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(opened))
    except FileNotFoundError:
        return False


def hold(opened: int, refusal: str) -> None:
    """Keeps other processes from an open file or folder until it is closed.

    Some file systems over a network have no locks: there it is up to the user.

    Raises:
      UserError: Another process holds it; `refusal` is the message.
    """
    with contextlib.suppress(OSError):
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(refusal) from None


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Makes a folder in full or not at all.

    Where several processes make the same folder, the first one that ends has it. What a process
    that was killed has left behind is removed after a day.

    Args:
      out: The folder, which must be empty or not exist.

    Yields:
      A folder beside it to write into, which takes its name in the end.

    Raises:
      OSError: The folder cannot take its name, for instance as it is not empty by then.
    """
    out = out.absolute()
    for old in out.parent.glob(f".{glob.escape(out.name)}.{'[0-9a-f]' * 32}.part"):
        with contextlib.suppress(OSError):  # another process may be faster
            if old.stat().st_mtime < time.time() - _LEFT_S:
                shutil.rmtree(old, ignore_errors=True)
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        os.replace(part, out)
    except BaseException:
        # Threads of a save that has failed may still write for a moment, and make folders for that.
        for seconds in (0, 0.05, 0.1, 0.2, 0.4):
            time.sleep(seconds)
            shutil.rmtree(part, ignore_errors=True)
        raise


def write_json(path: str | os.PathLike[str], value: Any, **options: Any) -> None:
    """Writes a value as JSON, indented by two, with a line feed at the end.

    Args:
      path: The file, see `write_whole`.
      value: What `json.dumps` can write.
      **options: For `json.dumps`; `allow_nan=False` refuses what is not JSON to other programs.
    """
    write_whole(path, json.dumps(value, **{"indent": 2, **options}) + "\n")


def check_writable(folder: Path, flag: str, inside: Iterable[str] = ()) -> None:
    """Checks that a folder can be made or written to; leaves nothing behind.

    Permissions do not tell whether a disk is full or read-only, so a file without a name is
    written.

    Args:
      folder: The folder, which need not exist.
      flag: The option that names it, for the message.
      inside: Names of folders in it that are written to as well, where they exist.

    Raises:
      UserError: It cannot be written.
    """
    try:
        nearest_folder = next(path for path in (folder, *folder.parents) if path.exists())
        parts = (folder / name for name in inside)
        for each in (nearest_folder, *(path for path in parts if path.exists())):
            with tempfile.TemporaryFile(dir=each) as probe:
                probe.write(b"x")
                probe.flush()
    except OSError as error:
        raise UserError(
            f"{flag}: cannot write to {folder}: {error.strerror}; name another folder, or mend that"
        ) from error


def check_kept(
    read: Iterable[str | os.PathLike[str]], written: Iterable[str | os.PathLike[str]], flag: str
) -> None:
    """Checks that a command overwrites none of the files that it reads.

    A file is known by its inode, as it may come under several names: by links, or on a disk that
    does not tell small letters from large ones.

    Args:
      read: The files that are read, and others that have to stay.
      written: The files that are written. They need not be there yet.
      flag: The option that says where they go, for the message.

    Raises:
      UserError: A file is in both.
    """
    replaced = {_identity(path) for path in written}
    for path in read:
        if _identity(path) in replaced:
            raise UserError(
                f"{flag}: {path} is read, and would be overwritten; name another folder"
            )


def _identity(path: str | os.PathLike[str]) -> tuple[int, int] | str:
    """What two names of one file have in common, whether the file is there or not."""
    try:
        found = os.stat(path)
        return found.st_dev, found.st_ino
    except OSError:
        return os.path.realpath(path)
    except ValueError:  # no file can have such a name
        return os.fspath(path)


def is_pattern(path: str | os.PathLike[str]) -> bool:
    """Whether libraries that search by patterns misread a path: `*`, `?` and `[` mean others."""
    return bool(set("[*?") & set(os.fspath(path)))


def csv_text(header: Sequence[str], rows: Iterable[Iterable[Any]], *, exact: bool = False) -> str:
    """Formats a table as CSV whose lines end in a line feed.

    Args:
      header: Names of the columns.
      rows: The values of each row.
      exact: Texts stand in it as they are. Otherwise see `marked`.
    """
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    for part in ([header], rows):
        writer.writerows(part if exact else map(_safe, part))
    return lines.getvalue()


def _safe(row: Iterable[Any]) -> list[Any]:
    return [marked(value) if isinstance(value, str) else value for value in row]


def marked(text: str) -> str:
    """A text that no spreadsheet takes for a formula, for a cell of a table.

    Whoever names a file could otherwise run a program where the table is opened. An apostrophe goes
    before `=`, `+`, `-` and `@` at the beginning of the text, and behind `;`, tabs and ends of
    lines, which some spreadsheets take for the end of a cell. Numbers stay as they are.
    """
    return text if _NUMBER.fullmatch(text) else _BARE.sub(r"\1'", text)


def unmarked(text: str) -> str:
    """The text of which `marked` made this one, and any other that is not marked as it is."""
    return _MARKED.sub(r"\1", text)


def write_csv(
    path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Iterable[Any]]
) -> None:
    """Writes a table as a CSV file; see `csv_text` and `write_whole`."""
    write_whole(path, csv_text(header, rows))
