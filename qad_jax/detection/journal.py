"""The file of `--results`: a line for each verdict, written at once, and read to go on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from data_builders.errors import UserError
from data_builders.files import check_writable, hold, kind_of_no_file, parse_json, refuse_constant
from qad_jax.detection.results import ERROR, Verdict

#: Bounds of one line: a clip of many frames with a crowd has a few MB.
_LONGEST_LINE, MOST_VALUES = 256 * 2**20, 20_000_000
# Every line begins so, and no line of another file does.
_BEGINNING = b'{"file": '


class _Entry(NamedTuple):
    """What is kept in memory of a line: the digest of the file, and where the line is."""

    sha256: bytes
    offset: int


class Journal:
    """Verdicts in JSON Lines, to which new ones are appended.

    A file counts as judged where its path, the SHA-256 of its content, that of the model and the
    number of frames are those of a line. An `error` does not count: it is tried again. Of several
    lines of a file the last one holds. Some hundred bytes of each line are kept in memory.
    """

    def __init__(self, path: Path, *, model: str, frames: int) -> None:
        """Opens the file, which is made where there is none, for this process alone.

        A last line that is cut off is of a process that was killed, and is dropped.

        Args:
          path: The file.
          model: SHA-256 of the model.
          frames: Number of frames of a video that are looked at.

        Raises:
          UserError: It holds something else, or another process writes to it. It is left as it is.
          OSError: It cannot be opened.
        """
        self.path, self._model, self._frames = path, model, frames
        if path.exists():
            if (kind := kind_of_no_file(path)) is not None:  # a pipe would be waited for
                raise UserError(f"--results: {path}: is {kind}; name a file")
        else:
            check_writable(path.absolute().parent, "--results")
            path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        self._file: BinaryIO = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            hold(
                descriptor,
                f"--results: {path}: another process writes to it; wait for its end, or name "
                "another file",
            )
            self._entries = self._read()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Closes the file, so that another process may write to it."""
        self._file.close()

    def known(self, file: str) -> str | None:
        """SHA-256 of the content of a file that was judged; None where it was not.

        Args:
          file: The path as it was given.
        """
        entry = self._entries.get(file)
        return None if entry is None else entry.sha256.hex()

    def stored(self, file: str) -> Verdict:
        """Reads the verdict on a file that is `known`.

        Raises:
          UserError: Its line is damaged.
        """
        offset = self._entries[file].offset
        with self.path.open("rb") as lines:
            lines.seek(offset)
            line = lines.readline(_LONGEST_LINE)
        try:
            return Verdict.from_dict(_parsed(line))
        except ValueError as error:
            raise UserError(
                f"--results: {self.path}: the last line of {file} is damaged ({error}); remove it, "
                "and the file is judged again"
            ) from error

    def append(self, verdict: Verdict) -> None:
        """Writes a verdict, so that it is kept whatever becomes of this process.

        Raises:
          OSError: It cannot be written.
        """
        line = verdict.as_json().encode() + b"\n"
        offset = os.fstat(self._file.fileno()).st_size
        written = 0
        while written < len(line):  # the system may take a part at a time
            written += self._file.write(line[written:]) or 0
        self._keep(self._entries, verdict.as_dict(), offset)

    def _read(self) -> dict[str, _Entry]:
        entries: dict[str, _Entry] = {}
        whole = 0  # bytes of the lines that are not cut off
        ended = True
        with self.path.open("rb") as lines:
            for number, line in enumerate(_lines(lines), 1):
                if not line.endswith(b"\n") and _is_cut(line):
                    break
                try:
                    self._keep(entries, _parsed(line), whole)
                except (ValueError, TypeError, KeyError, AttributeError):
                    raise self._other(number) from None
                whole += len(line)
                ended = line.endswith(b"\n")
        if os.fstat(self._file.fileno()).st_size > whole:
            self._file.truncate(whole)
        if not ended:  # as other programs save the verdict on one file
            self._file.write(b"\n")
        return entries

    def _keep(self, entries: dict[str, _Entry], stored: dict[str, Any], offset: int) -> None:
        file, digest, verdict = stored["file"], stored["sha256"], stored["verdict"]
        model = stored["model"]
        if not isinstance(file, str) or not isinstance(verdict, str):
            raise TypeError
        if (model["sha256"], model["frames"]) != (self._model, self._frames):
            return
        if verdict == ERROR or digest is None:
            entries.pop(file, None)
        else:
            entries[file] = _Entry(bytes.fromhex(digest), offset)

    def _other(self, number: int) -> UserError:
        return UserError(
            f"--results: {self.path}: line {number} is no verdict of this command; name a file "
            "that is new, or that this command has written"
        )


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_LONGEST_LINE):
        yield line


def _is_cut(line: bytes) -> bool:
    """Whether a last line is the beginning of a verdict: its process was killed on the way."""
    if not line.startswith(_BEGINNING) or len(line) == _LONGEST_LINE:
        return _BEGINNING.startswith(line)
    try:
        _parsed(line)
    except ValueError:
        return True
    return False


def _parsed(line: bytes) -> dict[str, Any]:
    if not line.startswith(_BEGINNING):
        raise ValueError
    return dict(parse_json(line, most=MOST_VALUES, parse_constant=refuse_constant))
