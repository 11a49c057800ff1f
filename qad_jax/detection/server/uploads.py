"""A file on its way in: from the parts of a request to the disk, within bounds of size and time.

Nothing of it is held in memory but the piece that has just come. The name is text and nothing else:
the file on the disk has a name of this program.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from data_builders.errors import one_line
from qad_jax.detection.server import folders, sniffing
from qad_jax.detection.server.problems import Problem
from qad_jax.detection.server.settings import MEGABYTE

FIELD = "file"
_LONGEST_NAME = 200
# Of a request beside its file: boundaries, headers of the parts, and other fields.
_MOST_AROUND = 64 * 1024
_MOST_PARTS = 8


class Upload(NamedTuple):
    """A file that has come in.

    Attributes:
      name: As the client calls it, on one line and without folders.
      bytes: Its size.
    """

    name: str
    bytes: int


async def receive(
    request: Request, path: Path, *, most: int, seconds: float, hold: Callable[[int], None]
) -> Upload:
    """Writes the one file of a multipart request to the disk.

    Args:
      request: Its body has not been read.
      path: A new file.
      most: Bytes that it may have.
      seconds: Time that it may take.
      hold: Is told of bytes that are written, and, negative, of those that are not kept.

    Raises:
      Problem: There is no such file in the request, or not one that is taken.
    """
    incoming = _Incoming(path, most, hold)
    try:
        parser = incoming.parser(request.headers.get("content-type", ""))
        if int(request.headers.get("content-length") or 0) > most + _MOST_AROUND:
            raise incoming.too_large()
        total = 0
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                total += len(piece)
                if total > most + _MOST_AROUND:
                    raise incoming.too_large()
                # The disk may be slow; other clients are served meanwhile.
                await _to_its_end(parser.write, piece)
            return incoming.finished()
    except BaseException as error:
        incoming.drop()
        if isinstance(error, TimeoutError):
            raise Problem(
                408,
                "too-slow",
                f"The file did not come within {seconds:g} s: send a smaller one.",
                {"Connection": "close"},
            ) from error
        if isinstance(error, ClientDisconnect):
            raise _malformed("the connection ended before the file did") from error
        if isinstance(error, FormParserError):
            raise _malformed("the parts of the request cannot be told apart") from error
        raise
    finally:
        incoming.close()


async def _to_its_end(function: Callable[[bytes], object], piece: bytes) -> None:
    """Calls a function in a thread, and waits for it even where the time of the request is over.

    Else it would go on alone: it would open a file that nobody closes any more.
    """
    call = asyncio.ensure_future(asyncio.to_thread(function, piece))
    try:
        await asyncio.shield(call)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await call
        raise


class _Incoming:
    """The state of one request. The parser calls it, in another thread than the loop's."""

    def __init__(self, path: Path, most: int, hold: Callable[[int], None]) -> None:
        self._path, self._most, self._hold = path, most, hold
        self._file: int | None = None
        self._name = ""
        self._bytes = self._parts = self._headers = 0
        self._head = bytearray()
        self._open = self._ended = False
        self._field = self._value = b""
        self._disposition = b""

    def parser(self, content_type: str) -> MultipartParser:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise Problem(
                415, "not-multipart", f"Send multipart/form-data with one field {FIELD!r}."
            )
        boundary = options.get(b"boundary", b"")
        if not 1 <= len(boundary) <= 70:
            raise _malformed("its Content-Type has no boundary")
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part,
                "on_header_field": self._on_field,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def _on_part(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise _malformed(f"it has more than {_MOST_PARTS} parts")
        self._field = self._value = self._disposition = b""

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._value += data[start:end]

    def _count(self, more: int) -> None:
        # Headers are held in memory, and not all versions of the parser bound them.
        self._headers += more
        if self._headers > _MOST_AROUND:
            raise _malformed(f"the headers of its parts have more than {_MOST_AROUND:,} bytes")

    def _on_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._disposition.decode("latin-1"))
        if options.get(b"name") != FIELD.encode() or b"filename" not in options:
            return
        if self._file is not None:
            raise _malformed("it has more than one file")
        self._name = name_of(options[b"filename"].decode("utf-8", "replace"))
        self._file = folders.create(self._path)
        self._open = True

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if not self._open or self._file is None:
            return
        piece = memoryview(data)[start:end]
        if self._bytes + len(piece) > self._most:
            raise self.too_large()
        if len(self._head) < sniffing.HEAD:
            self._head += piece[: sniffing.HEAD - len(self._head)]
            if len(self._head) == sniffing.HEAD:
                self._sniff()
        self._hold(len(piece))
        self._bytes += len(piece)
        while piece:  # the system may take a part at a time
            piece = piece[os.write(self._file, piece) :]

    def _on_part_end(self) -> None:
        self._open = False

    def _on_end(self) -> None:
        self._ended = True

    def _sniff(self) -> None:
        if not sniffing.may_be_media(bytes(self._head)):
            raise Problem(
                415,
                "not-media",
                "The content of the file is no image and no video that is read: send JPEG, PNG, "
                "WebP, GIF, MP4, WebM, Matroska, AVI or the like.",
            )

    def finished(self) -> Upload:
        if self._file is None or not self._ended:
            raise _malformed(f"it has no whole file in a field {FIELD!r}")
        if not self._bytes:
            raise Problem(400, "empty", "The file is empty: send one that holds something.")
        if len(self._head) < sniffing.HEAD:
            self._sniff()
        return Upload(self._name, self._bytes)

    def too_large(self) -> Problem:
        return Problem(
            413,
            "too-large",
            f"The file has more than {self._most / MEGABYTE:g} MB: send a smaller one.",
        )

    def drop(self) -> None:
        """Removes what was written."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._hold(-self._bytes)
        self._bytes = 0

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def name_of(given: str) -> str:
    """The name of a file as a client gives it: one line, no folders, of bounded length."""
    name = one_line(re.split(r"[/\\]", given)[-1]).strip()[:_LONGEST_NAME]
    return name if name not in ("", ".", "..") else "file"


def _malformed(what: str) -> Problem:
    return Problem(
        400, "malformed", f"The request cannot be read, as {what}: send one file as a form does."
    )
