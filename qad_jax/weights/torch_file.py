"""Reads what `torch.save` wrote, without torch and without running anything from the file.

A `.pth` holds a pickle, and a pickle can call any function that can be imported. Here it can name
only what is listed below, each of which stands for a function of this file; tensors become views of
arrays whose bytes lie in the file. Both formats are read: the zip archive (torch 1.6 and later) and
the sequence of pickles before it.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from data_builders.errors import UserError

Array = npt.NDArray[Any]
# Gives the storage of a key, a type, and a number of elements.
_Storages = Callable[[str, np.dtype[Any], int], Array]

ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# Hashing deeply nested tuples overflows the stack; a training checkpoint has some thousands.
_MOST_TUPLES = 20_000

_STORAGES: dict[str, npt.DTypeLike] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")
# Found beside the weights in training checkpoints; whatever they hold is thrown away.
_IGNORED = {
    ("argparse", "Namespace"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
}


class _DamagedError(Exception):
    """The file is not as torch writes it."""


class _RefusedError(Exception):
    """The file names a function that it must not call."""


class _Function:
    """What a pickle gets for the name of a function; it can be called, and not changed."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise _DamagedError


class _Dictionary(dict[Any, Any]):
    """An OrderedDict; the attributes that torch hangs on a state dict are thrown away."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        del state


class _StorageType(_Function):
    """The class of a storage, such as `torch.FloatStorage`."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: npt.DTypeLike) -> None:
        super().__init__(_damaged)
        self.dtype = np.dtype(dtype)


class _Storage(_Function):
    """The flat array that tensors are views of."""

    __slots__ = ("array",)

    def __init__(self, array: Array) -> None:
        super().__init__(_damaged)
        self.array = array


def _damaged(*args: Any) -> Any:
    del args
    raise _DamagedError


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Array:
    """A tensor as a view of its storage, inside which it must lie.

    Args:
      storage: The storage.
      offset: First element.
      size: Shape, n integers.
      stride: Steps in elements, n integers.
      *rest: Gradients and hooks, of no use here.
    """
    del rest
    if not isinstance(storage, _Storage) or not all(
        isinstance(part, tuple) and all(type(n) is int and n >= 0 for n in part)
        for part in ((offset,), size, stride)
    ):
        raise _DamagedError
    array = storage.array
    # No more elements than the storage has: an expanded tensor could be of any size.
    if len(size) != len(stride) or len(size) > 32 or math.prod(size) > array.size:
        raise _DamagedError
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 in size:
        return np.empty(size, array.dtype)
    if last >= array.size:
        raise _DamagedError
    return np.lib.stride_tricks.as_strided(
        array[offset:], size, [step * array.itemsize for step in stride], writeable=False
    )


def _parameter(data: Any, *rest: Any) -> Any:
    del rest
    return data


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows tensors and plain containers, and nothing else."""

    def __init__(self, file: io.BytesIO, storage: _Storages) -> None:
        super().__init__(file, encoding="utf-8")
        self._storage = storage
        self._allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): _Function(_Dictionary),
            ("torch", "Size"): _Function(tuple),
            ("torch", "device"): _Function(lambda *args: None),
            ("torch._utils", "_rebuild_tensor"): _Function(_tensor),
            ("torch._utils", "_rebuild_tensor_v2"): _Function(_tensor),
            ("torch._utils", "_rebuild_parameter"): _Function(_parameter),
            **{("torch", name): _StorageType(dtype) for name, dtype in _STORAGES.items()},
            **{("torch", name): None for name in _DTYPES},
            # A class of its own for each file: what a file does to it ends with it.
            **{name: _ignored_class() for name in _IGNORED},
        }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise _RefusedError(ascii(f"{module}.{name}")[1:-1])
        return self._allowed[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise _DamagedError
        kind, key, _, count = pid[1:5]
        if not isinstance(kind, _StorageType) or type(key) is not str or type(count) is not int:
            raise _DamagedError
        if count < 0 or (len(pid) == 6 and pid[5] is not None):
            raise _DamagedError
        return _Storage(self._storage(key, kind.dtype, count))


def _ignored_class() -> type:
    def accept(self: Any, *args: Any, **kwargs: Any) -> None:
        del self, args, kwargs

    return type("Ignored", (), {"__init__": accept, "__setstate__": accept})


def _unpickle(file: io.BytesIO, storage: _Storages = _damaged) -> Any:
    """Reads one pickle and leaves the file behind it.

    Its opcodes are looked at first: some make the interpreter itself allocate what the file has not
    got.
    """
    start = file.tell()
    tuples = 0
    for opcode, argument, position in pickletools.genops(file):
        if "PUT" in opcode.name and (argument or 0) > (position or 0):
            raise _DamagedError
        if opcode.name.startswith(("BYTEARRAY", "NEXT_BUFFER", "READONLY_BUFFER", "EXT")):
            raise _DamagedError
        tuples += opcode.name.startswith("TUPLE")
    if tuples > _MOST_TUPLES:
        raise _DamagedError
    file.seek(start)
    return _Unpickler(file, storage).load()


class _Budget:
    """Storages together can be no larger than the file that they lie in."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise _DamagedError


def _read_zip(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1 or len(set(names)) < len(names):
            raise _DamagedError
        folder = pickles[0].removesuffix("data.pkl")
        budget = _Budget(len(data))

        def entry(name: str) -> bytes:
            info = archive.getinfo(folder + name)
            # Stored as it is, as torch does it: nothing can grow on being unpacked.
            if info.compress_type != zipfile.ZIP_STORED:
                raise _DamagedError
            budget.take(info.file_size)
            return archive.read(info)

        if folder + "byteorder" in names and entry("byteorder") != b"little":
            raise _DamagedError
        storages: dict[str, Array] = {}

        def storage(key: str, dtype: np.dtype[Any], count: int) -> Array:
            if key not in storages:
                storages[key] = np.frombuffer(entry(f"data/{key}"), np.uint8)
            raw = storages[key]
            if raw.size != count * dtype.itemsize:
                raise _DamagedError
            return raw.view(dtype)

        return _unpickle(io.BytesIO(entry("data.pkl")), storage)


def _read_legacy(data: bytes) -> Any:
    file = io.BytesIO(data)
    if _unpickle(file) != _LEGACY_MAGIC or _unpickle(file) != _LEGACY_PROTOCOL:
        raise _DamagedError
    system = _unpickle(file)
    if not isinstance(system, Mapping) or not system.get("little_endian", True):
        raise _DamagedError
    budget = _Budget(len(data))
    storages: dict[str, Array] = {}

    def storage(key: str, dtype: np.dtype[Any], count: int) -> Array:
        if key not in storages:
            budget.take(count * dtype.itemsize)
            storages[key] = np.zeros(count, dtype)  # filled below: the numbers come last
        if (storages[key].dtype, storages[key].size) != (dtype, count):
            raise _DamagedError
        return storages[key]

    result = _unpickle(file, storage)
    keys = _unpickle(file)
    if not isinstance(keys, list) or sorted(keys) != sorted(storages):
        raise _DamagedError
    for key in keys:
        array = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        raw = file.read(array.nbytes)
        if count != array.size or len(raw) != array.nbytes:
            raise _DamagedError
        array[:] = np.frombuffer(raw, array.dtype)
    return result


@contextmanager
def _explained(path: Path, kind: str) -> Iterator[None]:
    """Whatever a strange file leads to becomes one line."""
    try:
        yield
    except _RefusedError as error:
        raise UserError(
            f"{path}: refused: its pickle names {error}, which reading it would import and run; "
            "only tensors and plain containers are read: have it saved as a state_dict() alone"
        ) from error
    except Exception as error:  # the unpickler can raise anything on bytes that torch did not write
        raise UserError(
            f"{path}: {kind} that is damaged, cut off, or not written by torch.save; get the file "
            "again"
        ) from error


def read(path: Path, data: bytes) -> Any:
    """Reads the object in a file of `torch.save`.

    Args:
      path: The file, for messages.
      data: Its content.

    Returns:
      The object: dictionaries, lists, numbers; tensors as arrays that must not be written to.

    Raises:
      UserError: If the file is not of torch, is damaged, or would run code; in the last case the
        message has the name of the function.
    """
    if data.startswith(ZIP_MAGIC):
        with _explained(path, "a zip archive"):
            return _read_zip(data)
    with _explained(path, "a file"):
        return _read_legacy(data)
