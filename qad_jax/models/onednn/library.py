"""oneDNN's C interface, as far as a convolution and its two gradients need it.

Names, numbers and argument lists are those of the header `dnnl.h` of oneDNN 3, whose interface
stays the same through all its releases of that number. Nothing here is called while a program runs:
the addresses that `Plan` collects are for `handler.py`, which computes.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

#: The convolution, and its gradients with respect to the maps and to the kernel.
Kind = Literal["forward", "maps", "kernel"]
Shape = tuple[int, ...]

#: Distributions that bring the library. The first needs nothing but GCC's OpenMP.
DISTRIBUTIONS = ("onednn-cpu-gomp", "onednn")
_FILE = "libdnnl.so.3"

#: The words of a plan, for `handler.py`: what is the result; the reordering of the kernel, and its
#: arguments; the convolution, and its arguments; and the memories that get what XLA has.
KERNEL_IS_RESULT, MAPS_ARE_RESULT, MOVE, MOVED, COMPUTE, COMPUTED, MAPS, KERNEL, RESULT = range(9)
MOVE_ARGUMENTS, COMPUTE_ARGUMENTS = 2, 4
WORDS = 9

_CPU, _IN_ORDER = 1, 1
_TRAINING, _DIRECT = 64, 1
_ANY_LAYOUT = 1
_TYPES = {"bfloat16": 2, "float32": 3}
# What a description of a primitive is asked for: layouts of kernels, and of scratch memory.
_WEIGHTS, _DIFF_WEIGHTS, _SCRATCH = 131, 132, 136
_OF_THE_CALLER = 1
_LIBRARY_ALLOCATES = ctypes.c_void_p(-1)
_FROM, _TO, _SCRATCH_ARGUMENT = 1, 17, 80
# Which argument of a primitive are the maps before, the kernel, and the maps after.
_ARGUMENTS: dict[Kind, tuple[int, int, int]] = {
    "forward": (1, 33, 17),
    "maps": (129, 33, 145),
    "kernel": (1, 161, 145),
}


class OneDnnError(RuntimeError):
    """The library refuses a call."""


class Geometry(NamedTuple):
    """A convolution, with the shapes that XLA has.

    Attributes:
      maps: (N, H, W, C), before it.
      kernel: (k, k, C, D), or (k, k, C) where each channel has a filter of its own.
      result: (N, H', W', D).
      stride: Step in both directions.
      before: Zeros above, and left.
      after: Zeros below, and right.
      dtype: Type of the maps; the kernel is float32, and is rounded to this type.
    """

    maps: Shape
    kernel: Shape
    result: Shape
    stride: int
    before: int
    after: int
    dtype: str


class _Argument(ctypes.Structure):
    _fields_ = [("name", ctypes.c_int), ("memory", ctypes.c_void_p)]


def find() -> Path | None:
    """The file of the library, of the first distribution that is installed and has it."""
    for name in DISTRIBUTIONS:
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if file.name == _FILE:
                return Path(str(file.locate())).resolve()
    return None


class Library:
    """The loaded library, with an engine and a stream of this process.

    Args:
      path: Its file.

    Raises:
      OSError: It cannot be loaded.
      OneDnnError: It is of another version than 3, or finds no processor that it knows.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.dnnl_primitive_desc_query_md.restype = ctypes.c_void_p
        self._library.dnnl_version.restype = ctypes.POINTER(ctypes.c_int)
        major = self._library.dnnl_version()[0]
        if major != 3:
            raise OneDnnError(f"{path}: is oneDNN {major}, and this needs oneDNN 3")
        self.engine = self.new("engine_create", _CPU, ctypes.c_size_t(0))
        self.stream = self.new("stream_create", self.engine, _IN_ORDER)

    def address(self, name: str) -> int:
        """Where a function lies."""
        return ctypes.cast(getattr(self._library, f"dnnl_{name}"), ctypes.c_void_p).value or 0

    def new(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """Calls a function whose first argument is where it puts what it makes.

        Raises:
          OneDnnError: It refuses.
        """
        made = ctypes.c_void_p()
        self.call(name, ctypes.byref(made), *arguments)
        return made

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a function.

        Raises:
          OneDnnError: It refuses.
        """
        status = getattr(self._library, f"dnnl_{name}")(*arguments)
        if status:
            raise OneDnnError(f"oneDNN's {name} ends with status {status}")

    def layout(self, description: ctypes.c_void_p, what: int) -> ctypes.c_void_p:
        """The layout of an argument that a description of a primitive has chosen."""
        return ctypes.c_void_p(self._library.dnnl_primitive_desc_query_md(description, what, 0))


class Plan:
    """What is needed to compute one kind of one geometry, kept until the process ends.

    The kernel lies in XLA's layout and in float32 on one side, and in that of oneDNN's choice on
    the other: a reordering stands before the convolution, or behind it for the kernel's gradient.

    Args:
      library: The library.
      kind: What is computed.
      geometry: The convolution.

    Raises:
      OneDnnError: The library has no such convolution.
    """

    def __init__(self, library: Library, kind: Kind, geometry: Geometry) -> None:
        maps = _maps(library, geometry.maps, geometry.dtype)
        result = _maps(library, geometry.result, geometry.dtype)
        chosen = _kernel(library, geometry.kernel, geometry.dtype)
        # Strides, holes between the taps, and zeros before and after; of both axes.
        numbers = (geometry.stride, 0, geometry.before, geometry.after)
        spaces = [_numbers((number, number)) for number in numbers]
        # Scratch memory is a plan's own. Otherwise, it would be of the thread that makes the plan,
        # and other threads compute.
        attributes = library.new("primitive_attr_create")
        library.call("primitive_attr_set_scratchpad_mode", attributes, _OF_THE_CALLER)
        forward = library.new(
            "convolution_forward_primitive_desc_create",
            *(library.engine, _TRAINING, _DIRECT, maps, chosen, None, result, *spaces, attributes),
        )
        if kind == "forward":
            description = forward
        elif kind == "maps":
            description = library.new(
                "convolution_backward_data_primitive_desc_create",
                *(library.engine, _DIRECT, maps, chosen, result, *spaces, forward, attributes),
            )
        else:
            # The gradient is added up in float32, and stays so.
            chosen = _kernel(library, geometry.kernel, "float32")
            description = library.new(
                "convolution_backward_weights_primitive_desc_create",
                *(library.engine, _DIRECT, maps, chosen, None, result, *spaces, forward),
                attributes,
            )
        inside = library.layout(description, _DIFF_WEIGHTS if kind == "kernel" else _WEIGHTS)
        outside = _kernel(library, geometry.kernel, "float32", as_xla=True)
        ends = (inside, outside) if kind == "kernel" else (outside, inside)
        reordering = library.new(
            "reorder_primitive_desc_create",
            *(ends[0], library.engine, ends[1], library.engine, None),
        )
        own = library.new("memory_create", inside, library.engine, _LIBRARY_ALLOCATES)
        given = [
            library.new("memory_create", layout, library.engine, None)
            for layout in (maps, outside, result)
        ]
        layout = library.layout(description, _SCRATCH)
        scratch = library.new("memory_create", layout, library.engine, _LIBRARY_ALLOCATES)
        names = (*_ARGUMENTS[kind], _SCRATCH_ARGUMENT)
        memories = (given[0], own, given[2], scratch)
        self._arguments = _arguments(*zip(names, memories, strict=True))
        start, end = (own, given[1]) if kind == "kernel" else (given[1], own)
        self._moves = _arguments((_FROM, start), (_TO, end))
        self.words = np.zeros(WORDS, np.int64)
        self.words[KERNEL_IS_RESULT] = kind == "kernel"
        self.words[MAPS_ARE_RESULT] = kind == "maps"
        self.words[MOVE] = _word(library.new("primitive_create", reordering))
        self.words[MOVED] = ctypes.addressof(self._moves)
        self.words[COMPUTE] = _word(library.new("primitive_create", description))
        self.words[COMPUTED] = ctypes.addressof(self._arguments)
        self.words[[MAPS, KERNEL, RESULT]] = list(map(_word, given))


def _word(pointer: ctypes.c_void_p) -> int:
    return pointer.value or 0


def _arguments(*named: tuple[int, ctypes.c_void_p]) -> Any:
    return (_Argument * len(named))(*(_Argument(name, memory.value) for name, memory in named))


def _maps(library: Library, shape: Shape, dtype: str) -> ctypes.c_void_p:
    """Describes maps, which XLA has as NHWC; oneDNN counts N, C, H, W."""
    n, height, width, channels = shape
    strides = (height * width * channels, 1, width * channels, channels)
    return _strided(library, (n, channels, height, width), dtype, strides)


def _kernel(library: Library, shape: Shape, dtype: str, *, as_xla: bool = False) -> ctypes.c_void_p:
    """Describes a kernel, in XLA's layout or in any that oneDNN likes."""
    rows, columns, channels, *features = shape
    if features:
        sizes: Shape = (features[0], channels, rows, columns)
        strides: Shape = (1, features[0], columns * channels * features[0], channels * features[0])
    else:  # a group for each channel comes first
        sizes = (channels, 1, 1, rows, columns)
        strides = (1, 1, 1, columns * channels, channels)
    if as_xla:
        return _strided(library, sizes, dtype, strides)
    return library.new(
        "memory_desc_create_with_tag",
        *(len(sizes), _numbers(sizes), _TYPES[dtype], _ANY_LAYOUT),
    )


def _strided(library: Library, sizes: Shape, dtype: str, strides: Shape) -> ctypes.c_void_p:
    return library.new(
        "memory_desc_create_with_strides",
        *(len(sizes), _numbers(sizes), _TYPES[dtype], _numbers(strides)),
    )


def _numbers(values: Sequence[int]) -> Any:
    return (ctypes.c_int64 * len(values))(*values)
