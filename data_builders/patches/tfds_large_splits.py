"""Lets TFDS write a split of more than 1 GB without TensorFlow.

TFDS keeps the records of a split in memory up to 1 GB, and then sorts them into a thousand files.
It writes these with TensorFlow's `GFile`, and ends with `ModuleNotFoundError` where there is no
TensorFlow. TFDS has no setting for it, so its class of such a file is replaced while a dataset is
written. The files and their order are the same.

Upstream: no report is filed with tensorflow/datasets.

Without the patch: smaller splits are written as before; a larger one needs TensorFlow.
"""

from __future__ import annotations

import contextlib
import os
import struct
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from unittest import mock

from tensorflow_datasets.core import shuffle

from data_builders.patches import applies

_DISTRIBUTION = "tensorflow-datasets"
# Of a record in a file: its key of 128 bits as two numbers, and the length of what follows.
_HEAD = struct.Struct("=QQQ")
_HALF = 64


class _Bucket:
    """Records on disk, with the methods that TFDS's class of the same name has."""

    def __init__(self, path: os.PathLike[str]) -> None:
        self._path = Path(path)
        self._length = 0
        self.size = 0

    def __len__(self) -> int:
        return self._length

    def add(self, key: int, data: bytes) -> None:
        """Adds a record. The file is closed again: a process may hold few files open."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(_HEAD.pack(key >> _HALF, key & (2**_HALF - 1), len(data)))
            file.write(data)
        self._length += 1
        self.size += len(data)

    def read_values(self) -> Iterator[tuple[int, bytes]]:
        """Yields all records, in the order in which they were added."""
        if not self._length:
            return
        with self._path.open("rb") as file:
            while head := file.read(_HEAD.size):
                high, low, size = _HEAD.unpack(head)
                yield high << _HALF | low, file.read(size)

    def del_file(self) -> None:
        """Removes the file."""
        self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def without_tensorflow() -> Iterator[None]:
    """While it lasts, TFDS sorts the records of a large split with files of its own.

    Warns:
      UserWarning: The patch is not for the installed TFDS.
    """
    if hasattr(shuffle, "_Bucket") and applies(_DISTRIBUTION, since="4.9", below="5"):
        with mock.patch.object(shuffle, "_Bucket", _Bucket):
            yield
    else:
        warnings.warn(
            f"{_DISTRIBUTION} {version(_DISTRIBUTION)} needs TensorFlow for a split of more than "
            "1 GB",
            stacklevel=3,
        )
        yield
