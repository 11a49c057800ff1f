"""Reads files of `torch.save` without torch, and without running anything from the file.

A `.pth` holds a pickle, see `torch_pickle`; its tensors become views of arrays whose bytes lie in
the file. Both formats are read: the zip archive (torch 1.6 and later) and the sequence of pickles
before it.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from data_builders.errors import UserError
from qad_jax.weights.pickle_machine import MOST_STEPS, DamagedError, RefusedError, TooLongError
from qad_jax.weights.torch_pickle import unpickle

ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# Of the list of entries at the end of an archive. Python makes an object of each, which takes more
# memory and time than its bytes; a checkpoint of a thousand tensors has 0.1 MB.
_LONGEST_DIRECTORY = 4 << 20
_END, _END_64 = b"PK\x05\x06", b"PK\x06\x06"

Bytes: TypeAlias = npt.NDArray[np.uint8]


class Content(NamedTuple):
    """What a file holds.

    Attributes:
      value: Dictionaries, lists, numbers; tensors as arrays that must not be written to; and
        `pickle_machine.Inert` for all the rest.
      passed_over: Names of the classes and functions that `Inert` stands for.
    """

    value: Any
    passed_over: list[str]


class _Budget:
    """Limits the size of all storages together to that of the file."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise DamagedError


def _directory_size(data: bytes) -> int:
    """Bytes of the list of entries, from where torch writes it: at the very end of the file."""
    end, end_64 = data[-22:], data[-98:-42]  # the second where the file is larger than 4 GiB
    if not end.startswith(_END):
        raise DamagedError
    (size,) = struct.unpack_from("<L", end, 12)
    if end_64.startswith(_END_64):
        size = max(size, *struct.unpack_from("<Q", end_64, 40))
    return int(size)


def _read_zip(data: bytes) -> tuple[Any, list[str]]:
    if _directory_size(data) > _LONGEST_DIRECTORY:
        raise DamagedError
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1 or len(set(names)) < len(names):
            raise DamagedError
        folder = pickles[0].removesuffix("data.pkl")
        budget = _Budget(len(data))

        def entry(name: str) -> bytes:
            info = archive.getinfo(folder + name)
            # torch stores entries without compression; others could grow when they are unpacked.
            if info.compress_type != zipfile.ZIP_STORED:
                raise DamagedError
            budget.take(info.file_size)
            return archive.read(info)

        if folder + "byteorder" in names and entry("byteorder") != b"little":
            raise DamagedError
        storages: dict[str, Bytes] = {}

        def storage(key: str, dtype: np.dtype[Any], count: int) -> Bytes:
            if key not in storages:
                storages[key] = np.frombuffer(entry(f"data/{key}"), np.uint8)
            raw = storages[key]
            if raw.size != count * dtype.itemsize:
                raise DamagedError
            return raw

        return unpickle(io.BytesIO(entry("data.pkl")), storage)


def _read_legacy(data: bytes) -> tuple[Any, list[str]]:
    file = io.BytesIO(data)
    if unpickle(file)[0] != _LEGACY_MAGIC or unpickle(file)[0] != _LEGACY_PROTOCOL:
        raise DamagedError
    system, _ = unpickle(file)
    if not isinstance(system, Mapping) or not system.get("little_endian", True):
        raise DamagedError
    budget = _Budget(len(data))
    storages: dict[str, tuple[np.dtype[Any], Bytes]] = {}

    def storage(key: str, dtype: np.dtype[Any], count: int) -> Bytes:
        size = count * dtype.itemsize
        if key not in storages:
            budget.take(size)
            storages[key] = dtype, np.zeros(size, np.uint8)  # filled below: the numbers come last
        known, raw = storages[key]
        if (known, raw.size) != (dtype, size):
            raise DamagedError
        return raw

    result, passed_over = unpickle(file, storage)
    keys, _ = unpickle(file)
    # Of strings first: to compare two lists that each hold others twice can take for ever.
    if not isinstance(keys, list) or not all(type(key) is str for key in keys):
        raise DamagedError
    if sorted(keys) != sorted(storages):
        raise DamagedError
    for key in keys:
        dtype, raw = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        content = file.read(raw.size)
        if count * dtype.itemsize != raw.size or len(content) != raw.size:
            raise DamagedError
        raw[:] = np.frombuffer(content, np.uint8)
    return result, passed_over


@contextmanager
def _explained(path: Path, kind: str) -> Iterator[None]:
    """Turns any error of reading a file into one line."""
    try:
        yield
    except RefusedError as error:
        raise refused(path, str(error)) from error
    except TooLongError as error:
        raise UserError(
            f"{path}: its pickle takes more than {MOST_STEPS:,} steps to read, which no state dict "
            "does; have it saved as a state_dict() alone"
        ) from error
    except Exception as error:  # the unpickler can raise anything on bytes that torch did not write
        raise UserError(
            f"{path}: {kind} that is damaged, cut off, or not written by torch.save; get the file "
            "again"
        ) from error


def refused(path: Path, name: str) -> UserError:
    """What is said of a file whose tensors cannot be had without importing something."""
    return UserError(
        f"{path}: refused: its pickle names {name}, which reading it would import and run; "
        "only tensors and plain containers are read: have it saved as a state_dict() alone"
    )


def read(path: Path, data: bytes) -> Content:
    """Reads the object in a file of `torch.save`.

    Args:
      path: The file, for messages.
      data: Its content.

    Returns:
      The object, and what was passed over in it.

    Raises:
      UserError: Where the file is not of torch, is damaged, or would run code; in the last case the
        message names the function.
    """
    if data.startswith(ZIP_MAGIC):
        with _explained(path, "a zip archive"):
            return Content(*_read_zip(data))
    with _explained(path, "a file"):
        return Content(*_read_legacy(data))
