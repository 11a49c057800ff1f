"""Pickles of plain containers with arrays of NumPy in them: read without running what they name.

A file is written in the form that NumPy 1 and 2 both read: NumPy 2 itself writes names of modules
that NumPy 1 does not have.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qad_jax.weights.pickle_machine import (
    DamagedError,
    Function,
    Inert,
    Machine,
    RefusedError,
    Stateful,
    shown,
)

_MOST_DIMENSIONS = 32
_PACKAGES = ("numpy.core", "numpy._core")  # of NumPy 1 and 2
_ENDS = ("<", ">", "|", "=")


class _Type(Stateful):
    """A `numpy.dtype` of numbers."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *flags: Any) -> None:
        del flags  # whether fields are aligned, and whether it is a copy
        if type(code) is not str or not re.fullmatch("b1|[iu][1248]|f[248]", code):
            raise DamagedError
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        """Takes the order of bytes."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in _ENDS:
            raise DamagedError
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(Stateful):
    """An array, empty until its content comes."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: npt.NDArray[Any] = np.empty(0)

    def build(self, state: Any) -> None:
        """Takes version, shape, type, whether columns come first, and the bytes."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise DamagedError
        _, shape, kind, by_column, data = state
        self.fill(data, kind, shape, "F" if by_column else "C")

    def fill(self, data: Any, kind: Any, shape: Any, order: Any) -> None:
        """Takes the numbers: as many as the shape says, in memory that the file has filled."""
        if not (
            isinstance(data, bytes | bytearray)
            and isinstance(kind, _Type)
            and isinstance(shape, tuple)
            and len(shape) <= _MOST_DIMENSIONS
            and all(type(n) is int and 0 <= n < 2**63 for n in shape)
            and math.prod(shape) * kind.dtype.itemsize == len(data)
            and order in ("C", "F")
        ):
            raise DamagedError
        self.value = np.frombuffer(data, kind.dtype).reshape(shape, order=order)


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    del kind, shape, code  # always those of an empty array
    return _Array()


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any, *rest: Any) -> _Array:
    del rest
    array = _Array()
    array.fill(data, kind, shape, order)
    return array


def _scalar(kind: Any, data: Any) -> _Array:
    return _from_buffer(data, kind, (), "C")


def load(data: bytes) -> Any:
    """Reads one pickle, and runs nothing that it names.

    Args:
      data: The file.

    Returns:
      The object: plain containers and values. Arrays in it are for `numbers`.

    Raises:
      RefusedError: If it names anything but arrays of NumPy and plain containers; says the name.
      Exception: Anything else, for bytes that are no such pickle.
    """

    def find(module: Any, name: Any) -> Any:
        if type(module) is not str or type(name) is not str:
            raise DamagedError
        if (module, name) not in known:
            raise RefusedError(shown(module, name))
        return known[module, name]

    def persistent(name: Any) -> Any:
        raise DamagedError

    machine = Machine(find, persistent)
    known = {
        ("numpy", "dtype"): Function(_Type),
        ("numpy", "ndarray"): Inert("numpy.ndarray"),
        ("collections", "OrderedDict"): Function(machine.dictionary),
        **{(f"{core}.multiarray", "_reconstruct"): Function(_reconstruct) for core in _PACKAGES},
        **{(f"{core}.multiarray", "scalar"): Function(_scalar) for core in _PACKAGES},
        **{(f"{core}.numeric", "_frombuffer"): Function(_from_buffer) for core in _PACKAGES},
    }
    return machine.run(io.BytesIO(data))


def numbers(value: Any, count: int) -> npt.NDArray[np.float64]:
    """The numbers of an array, or of a list of plain numbers, out of what `load` gave.

    Args:
      value: The array or list. Dimensions of length 1 are left out.
      count: How many numbers there must be.

    Returns:
      `(count,)`.

    Raises:
      DamagedError: It is anything else, or of another length.
    """
    if isinstance(value, _Array):
        if value.value.size != count or max(value.value.shape, default=1) != count:
            raise DamagedError
        return value.value.ravel().astype(np.float64)
    if not isinstance(value, list | tuple) or len(value) != count:
        raise DamagedError
    items = [item.value.item() if _is_scalar(item) else item for item in value]
    if not all(type(item) in (bool, float) or _is_exact(item) for item in items):
        raise DamagedError
    return np.array(items, np.float64)


def _is_scalar(item: Any) -> bool:
    return isinstance(item, _Array) and item.value.size == 1


def _is_exact(item: Any) -> bool:
    return type(item) is int and abs(item) <= 2**53


def dump(values: Mapping[str, Any]) -> bytes:
    """Writes a dictionary of texts, numbers, arrays of one dimension, and lists of the first two.

    Args:
      values: What is written. Keys are texts. An array has 64-bit floats or integers.

    Returns:
      A pickle of protocol 3, which Python reads from 3.0 on.
    """
    parts = [pickle.PROTO + b"\x03", pickle.EMPTY_DICT, pickle.MARK]
    for name, value in values.items():
        parts.append(_text(name))
        if isinstance(value, np.ndarray):
            parts.append(_dumped_array(value))
        elif isinstance(value, str | int | float):
            parts.append(_plain(value))
        else:
            parts.append(_list(value))
    return b"".join([*parts, pickle.SETITEMS, pickle.STOP])


def _list(items: Sequence[str | int | float]) -> bytes:
    parts = [pickle.EMPTY_LIST, pickle.MARK, *map(_plain, items), pickle.APPENDS]
    return b"".join(parts)


def _plain(value: str | int | float) -> bytes:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return pickle.BININT + struct.pack("<i", value)
    return pickle.BINFLOAT + struct.pack(">d", value)


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")  # as Python's own pickles have it
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _dumped_array(array: npt.NDArray[Any]) -> bytes:
    """The steps that make an array, as NumPy 1 writes them."""
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    empty = (
        b"cnumpy.core.multiarray\n_reconstruct\n"
        + b"cnumpy\nndarray\n"
        + (_plain(0) + pickle.TUPLE1)
        + (pickle.SHORT_BINBYTES + b"\x01b")
        + pickle.TUPLE3
        + pickle.REDUCE
    )
    kind = (
        b"cnumpy\ndtype\n"
        + _text(array.dtype.str[1:])
        + (pickle.NEWFALSE + pickle.NEWTRUE + pickle.TUPLE3 + pickle.REDUCE)
        + (pickle.MARK + _plain(3) + _text("<") + 3 * pickle.NONE)
        + (2 * _plain(-1) + _plain(0) + pickle.TUPLE + pickle.BUILD)
    )
    content = pickle.BINBYTES + struct.pack("<I", len(data)) + data
    shape = _plain(len(array)) + pickle.TUPLE1
    state = pickle.MARK + _plain(1) + shape + kind + pickle.NEWFALSE + content + pickle.TUPLE
    return empty + state + pickle.BUILD
