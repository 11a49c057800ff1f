"""The pickle inside a file of `torch.save`, read without running anything that it names.

A name in it stands for a function of this file, or for an inert object: that takes whatever the
pickle does to it, keeps nothing and does nothing. So a pathlib path among the hyper-parameters does
not spoil the tensors beside it. A tensor that is made of an inert object is refused by name, and so
is a name whose only use is to run code.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from qad_jax.weights.pickle_machine import (
    DamagedError,
    Function,
    Inert,
    Machine,
    RefusedError,
    named,
    shown,
)

Array = npt.NDArray[Any]
# Gives the storage of a key, as bytes, for a type and a number of elements.
Storages = Callable[[str, np.dtype[Any], int], npt.NDArray[np.uint8]]

_MOST_DIMENSIONS = 32
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
# Found beside the weights in every other training checkpoint: not worth a word.
_IGNORED = {
    ("argparse", "Namespace"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
    ("copyreg", "_reconstructor"),
    ("copy_reg", "_reconstructor"),
    *(
        (module, name)
        for module in ("builtins", "__builtin__")
        for name in ("set", "frozenset", "object", "int", "float", "complex", "bool", "str")
    ),
}
# Nothing is run in any case. Who finds one of these in a file of weights should hear of it, though.
_HARMFUL_MODULES = {
    *("os", "posix", "nt", "subprocess", "pty", "sys", "shutil", "socket", "runpy", "importlib"),
    *("ctypes", "code", "codeop", "webbrowser", "multiprocessing", "asyncio", "urllib", "http"),
    *("pickle", "_pickle", "cPickle", "commands", "popen2", "imp", "marshal", "pip", "signal"),
}
_HARMFUL_BUILTINS = {"eval", "exec", "execfile", "compile", "open", "__import__", "input", "file"}
# More than anyone would read in a message.
_MOST_NAMES = 1000


def _refuse_inert(*parts: Any) -> None:
    """No tensor is made of what is not known."""
    for part in parts:
        if (name := named(part)) is not None:
            raise RefusedError(name)


class _StorageType:
    """The class of a storage, such as `torch.FloatStorage`."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)


class _Storage:
    """The flat array that tensors are views of, as bytes, and the type of its elements."""

    __slots__ = ("data", "dtype")

    def __init__(self, data: npt.NDArray[np.uint8], dtype: np.dtype[Any]) -> None:
        self.data, self.dtype = data, dtype


def _damaged(*args: Any) -> Any:
    del args
    raise DamagedError


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
    _refuse_inert(storage, offset, size, stride)
    if not isinstance(storage, _Storage) or not all(
        isinstance(part, tuple)
        and len(part) <= _MOST_DIMENSIONS
        and all(type(n) is int and 0 <= n < 2**63 for n in part)
        for part in ((offset,), size, stride)
    ):
        raise DamagedError
    itemsize = storage.dtype.itemsize
    count = storage.data.size // itemsize
    # No more elements than the storage has: an expanded tensor could be of any size.
    if len(size) != len(stride) or math.prod(size) > count:
        raise DamagedError
    if 0 in size:
        tensor = np.empty(size, storage.dtype)
    else:
        if offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) >= count:
            raise DamagedError
        strides = [step * itemsize for step in stride]
        tensor = np.ndarray(size, storage.dtype, storage.data.data, offset * itemsize, strides)
    tensor.flags.writeable = False
    return tensor


def _parameter(data: Any, *rest: Any) -> Any:
    del rest
    return data


class _Names:
    """What the names in one file stand for.

    Attributes:
      passed_over: Names of what was met and is not known, in order.
    """

    def __init__(self, storage: Storages) -> None:
        self.passed_over: list[str] = []
        self.machine = machine = Machine(self._find, self._persistent)
        self._storage = storage
        self._known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): Function(machine.dictionary),
            ("collections", "defaultdict"): Function(lambda _, *args: machine.dictionary(*args)),
            ("torch", "Size"): Function(machine.tuple),
            ("torch", "device"): Function(lambda *args: None),
            ("torch._utils", "_rebuild_tensor"): Function(_tensor),
            ("torch._utils", "_rebuild_tensor_v2"): Function(_tensor),
            ("torch._utils", "_rebuild_parameter"): Function(_parameter),
            ("torch._utils", "_rebuild_parameter_with_state"): Function(_parameter),
            ("torch._tensor", "_rebuild_from_type_v2"): Function(self._with_attributes),
            **{("torch", name): _StorageType(dtype) for name, dtype in _STORAGES.items()},
            **{("torch", name): None for name in _DTYPES},
            **{name: Inert(shown(*name)) for name in _IGNORED},
        }

    def _with_attributes(self, make: Any, kind: Any, args: Any, state: Any) -> Any:
        """A tensor that has attributes of its own, or is of a subclass: it without them."""
        del kind, state
        _refuse_inert(make, args)
        return self.machine.call(make, args)

    def _find(self, module: Any, name: Any) -> Any:
        """What a name stands for."""
        if type(module) is not str or type(name) is not str:
            raise DamagedError
        if (module, name) not in self._known:
            known_as = shown(module, name)
            if module.partition(".")[0] in _HARMFUL_MODULES or (
                module in ("builtins", "__builtin__") and name in _HARMFUL_BUILTINS
            ):
                raise RefusedError(known_as)
            if len(self.passed_over) == _MOST_NAMES:
                raise DamagedError
            self.passed_over.append(known_as)
            self._known[module, name] = Inert(known_as)
        return self._known[module, name]

    def _persistent(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise DamagedError
        kind, key, _, count = pid[1:5]
        _refuse_inert(kind, key, count)
        if not isinstance(kind, _StorageType) or type(key) is not str or type(count) is not int:
            raise DamagedError
        if not 0 <= count < 2**63 or (len(pid) == 6 and pid[5] is not None):
            raise DamagedError
        return _Storage(self._storage(key, kind.dtype, count), kind.dtype)


def unpickle(file: io.BytesIO, storage: Storages = _damaged) -> tuple[Any, list[str]]:
    """Reads one pickle and leaves the file behind it.

    Args:
      file: Stands at the pickle.
      storage: Gives the numbers of a tensor; without it, a pickle with tensors is damaged.

    Returns:
      The object, and the names of what was passed over.

    Raises:
      RefusedError: If a tensor is made of something that is not known, or if code is named.
      Exception: Anything else, for bytes that torch did not write.
    """
    names = _Names(storage)
    return names.machine.run(file), names.passed_over
