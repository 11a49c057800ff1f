"""The pickle inside a file of `torch.save`, read without running anything that it names.

A pickle can call any function that can be imported. Here a name in it stands for a function of this
file, or for an inert object: that takes whatever the pickle does to it, keeps nothing and does
nothing. So a pathlib path among the hyper-parameters does not spoil the tensors beside it. A tensor
that is made of an inert object is refused by name, and so is a name whose only use is to run code.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
# Gives the storage of a key, a type, and a number of elements.
Storages = Callable[[str, np.dtype[Any], int], Array]

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
# Each costs memory for a class, which is more than the name takes in the file.
_MOST_NAMES = 1000


class DamagedError(Exception):
    """The file is not as torch writes it."""


class RefusedError(Exception):
    """A tensor depends on something that is not known, or code is named; says the name."""


class Inert:
    """Stands for an object of a class, or the result of a function, that is not known here.

    A subclass stands for the class or the function itself; `names` says which it is.
    """

    names = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        """Takes any arguments."""
        del args, kwargs
        return object.__new__(cls)

    def _take(self, *args: Any, **kwargs: Any) -> Inert:
        del args, kwargs
        return self

    # All that a pickle can do to an object.
    __call__ = __setstate__ = __setitem__ = append = extend = add = _take


def named(value: Any) -> str | None:
    """What an inert object or class stands for, None for anything else."""
    kind = value if isinstance(value, type) else type(value)
    return str(vars(kind)["names"]) if issubclass(kind, Inert) else None


def _refuse_inert(*parts: Any) -> None:
    """No tensor is made of what is not known."""
    for part in parts:
        if (name := named(part)) is not None:
            raise RefusedError(name)


class _Function:
    """What a pickle gets for the name of a function; it can be called, and not changed."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise DamagedError


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
        isinstance(part, tuple) and all(type(n) is int and n >= 0 for n in part)
        for part in ((offset,), size, stride)
    ):
        raise DamagedError
    array = storage.array
    # No more elements than the storage has: an expanded tensor could be of any size.
    if len(size) != len(stride) or len(size) > 32 or math.prod(size) > array.size:
        raise DamagedError
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 in size:
        return np.empty(size, array.dtype)
    if last >= array.size:
        raise DamagedError
    return np.lib.stride_tricks.as_strided(
        array[offset:], size, [step * array.itemsize for step in stride], writeable=False
    )


def _parameter(data: Any, *rest: Any) -> Any:
    del rest
    return data


def _with_attributes(make: Any, kind: Any, args: Any, state: Any) -> Any:
    """A tensor that has attributes of its own, or is of a subclass: the tensor without them."""
    del kind, state
    _refuse_inert(make, args)
    if not isinstance(make, _Function) or not isinstance(args, tuple):
        raise DamagedError
    return make(*args)


def _defaultdict(factory: Any = None, *args: Any) -> _Dictionary:
    del factory
    return _Dictionary(*args)


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows tensors and plain containers; the rest is inert.

    Attributes:
      passed_over: Names of what was met and is not known, in order.
    """

    def __init__(self, file: io.BytesIO, storage: Storages) -> None:
        super().__init__(file, encoding="utf-8")
        self._storage = storage
        self.passed_over: list[str] = []
        self._known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): _Function(_Dictionary),
            ("collections", "defaultdict"): _Function(_defaultdict),
            ("torch", "Size"): _Function(tuple),
            ("torch", "device"): _Function(lambda *args: None),
            ("torch._utils", "_rebuild_tensor"): _Function(_tensor),
            ("torch._utils", "_rebuild_tensor_v2"): _Function(_tensor),
            ("torch._utils", "_rebuild_parameter"): _Function(_parameter),
            ("torch._utils", "_rebuild_parameter_with_state"): _Function(_parameter),
            ("torch._tensor", "_rebuild_from_type_v2"): _Function(_with_attributes),
            **{("torch", name): _StorageType(dtype) for name, dtype in _STORAGES.items()},
            **{("torch", name): None for name in _DTYPES},
            # A class of its own for each file: what a file does to it ends with it.
            **{name: _inert_class(*name) for name in _IGNORED},
        }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            shown = _shown(module, name)
            if module.partition(".")[0] in _HARMFUL_MODULES or (
                module in ("builtins", "__builtin__") and name in _HARMFUL_BUILTINS
            ):
                raise RefusedError(shown)
            if len(self.passed_over) == _MOST_NAMES:
                raise DamagedError
            self.passed_over.append(shown)
            self._known[module, name] = _inert_class(module, name)
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise DamagedError
        kind, key, _, count = pid[1:5]
        _refuse_inert(kind, key, count)
        if not isinstance(kind, _StorageType) or type(key) is not str or type(count) is not int:
            raise DamagedError
        if count < 0 or (len(pid) == 6 and pid[5] is not None):
            raise DamagedError
        return _Storage(self._storage(key, kind.dtype, count))


def _shown(module: str, name: str) -> str:
    """A name that fits into a message, whatever is in it."""
    text = ascii(f"{module}.{name}")[1:-1]
    return text if len(text) <= 80 else f"{text[:77]}..."


def _inert_class(module: str, name: str) -> type[Inert]:
    return type("Inert", (Inert,), {"names": _shown(module, name)})


def unpickle(file: io.BytesIO, storage: Storages = _damaged) -> tuple[Any, list[str]]:
    """Reads one pickle and leaves the file behind it.

    Its opcodes are looked at first: some make the interpreter itself allocate what the file has not
    got.

    Args:
      file: Stands at the pickle.
      storage: Gives the numbers of a tensor; without it, a pickle with tensors is damaged.

    Returns:
      The object, and the names of what was passed over.

    Raises:
      RefusedError: If a tensor is made of something that is not known, or if code is named.
      Exception: Anything else, for bytes that torch did not write.
    """
    start = file.tell()
    tuples = 0
    for opcode, argument, position in pickletools.genops(file):
        if "PUT" in opcode.name and (argument or 0) > (position or 0):
            raise DamagedError
        if opcode.name.startswith(("BYTEARRAY", "NEXT_BUFFER", "READONLY_BUFFER", "EXT")):
            raise DamagedError
        tuples += opcode.name.startswith("TUPLE")
    if tuples > _MOST_TUPLES:
        raise DamagedError
    file.seek(start)
    unpickler = _Unpickler(file, storage)
    return unpickler.load(), unpickler.passed_over
