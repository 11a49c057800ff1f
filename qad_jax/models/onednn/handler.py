"""What XLA calls for a convolution: machine code that hands XLA's memory to oneDNN.

numba compiles it, so nothing has to be built when the package is installed, and no thread of XLA
ever waits for Python. The structures are those of `xla/ffi/api/c_api.h`, which comes with jaxlib,
as 64-bit words. Convolutions run one after another, each on all processors: two at once would only
wait for each other.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import jax
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from qad_jax.models.onednn.library import (
    COMPUTE,
    COMPUTE_ARGUMENTS,
    COMPUTED,
    KERNEL,
    KERNEL_IS_RESULT,
    MAPS,
    MAPS_ARE_RESULT,
    MOVE,
    MOVE_ARGUMENTS,
    MOVED,
    RESULT,
    Geometry,
    Kind,
    Library,
    Plan,
)

# Version of the interface that these structures are of; XLA accepts the older ones of its own.
_MAJOR, _MINOR = 0, 1
_METADATA = 1  # the extension by which XLA asks for the version
# Words of a call frame: the extension, the interface, and the arrays of pointers to arguments, to
# results and to attributes. Of others: where a buffer's data are, a scalar's value, the kind of an
# extension, what it asks for, the version in that, and the function that makes an error.
_EXTENSION, _INTERFACE, _INPUTS, _OUTPUTS, _ATTRIBUTES = 1, 2, 9, 14, 20
_DATA, _VALUE, _KIND, _ASKED, _VERSION, _MAKE_ERROR = 3, 1, 1, 3, 3, 6
_INTERNAL, _ERROR_BYTES = 13, 28  # XLA's code of an error inside, and what describes one
_MOST_PLANS = 8192
_MUTEX_BYTES = 64  # pthread_mutex_t has 40; zeros are one that nobody holds


@intrinsic
def _words(_context: Any, address: Any) -> Any:
    """The words at an address."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())

    return types.CPointer(types.int64)(address), generate


def _call(count: int) -> Any:
    """Makes what calls a function at an address with so many words; it returns a word."""

    @intrinsic
    def call(_context: Any, address: Any, arguments: Any) -> Any:
        def generate(_target: Any, builder: Any, _signature: Any, given: Any) -> Any:
            word = ir.IntType(64)
            kind = ir.FunctionType(word, [word] * count)
            function = builder.inttoptr(given[0], kind.as_pointer())
            return builder.call(function, cgutils.unpack_tuple(builder, given[1], count))

        return types.int64(address, arguments), generate

    return call


_call1, _call2, _call4 = _call(1), _call(2), _call(4)


class Handler:
    """The handler of this process, and the plans that it knows.

    Args:
      library: oneDNN.
      target: By which name compiled programs call it.
    """

    def __init__(self, library: Library, target: str) -> None:
        self._library = library
        self._adding = threading.Lock()
        self._plans: dict[int, Plan] = {}
        # Row 0 begins with the number of plans; the others are a key and where its plan lies.
        self._table = np.zeros((_MOST_PLANS + 1, 2), np.int64)
        self._mutex = ctypes.create_string_buffer(_MUTEX_BYTES)
        self._message = ctypes.create_string_buffer(b"oneDNN could not compute a convolution")
        # What XLA makes an error of: the structure's size, nothing, the message, and the code.
        said = ctypes.addressof(self._message)
        self._error = np.array([_ERROR_BYTES, 0, said, _INTERNAL], np.int64)
        self._function = _compiled(library, self._table, self._error, ctypes.addressof(self._mutex))
        jax.ffi.register_ffi_target(
            target, jax.ffi.pycapsule(self._function.address), platform="cpu"
        )

    def add(self, key: int, kind: Kind, geometry: Geometry) -> None:
        """Makes a convolution known, if it is not. Programs may run meanwhile.

        Raises:
          OneDnnError: The library has no such convolution.
          RuntimeError: There are too many.
        """
        with self._adding:  # programs are traced in several threads
            if key in self._plans:
                return
            count = len(self._plans) + 1
            if count > _MOST_PLANS:
                raise RuntimeError(f"more than {_MOST_PLANS} different convolutions in a process")
            plan = self._plans[key] = Plan(self._library, kind, geometry)
            self._table[count] = key, plan.words.ctypes.data
            self._table[0, 0] = count  # last: until then, a program does not see it


def _compiled(library: Library, table: Any, error: Any, mutex: int) -> Any:
    """Compiles the handler for one process: the addresses are constants of it."""
    set_handle = library.address("memory_set_data_handle")
    execute = library.address("primitive_execute")
    stream = library.stream.value
    plans = table.ctypes.data
    system = ctypes.CDLL(None)
    lock, unlock = (
        ctypes.cast(getattr(system, f"pthread_mutex_{name}"), ctypes.c_void_p).value
        for name in ("lock", "unlock")
    )
    reason = error.ctypes.data

    @numba.cfunc("int64(CPointer(int64))")
    def handle(frame: Any) -> int:
        if frame[_EXTENSION] != 0:
            extension = _words(frame[_EXTENSION])
            if extension[_KIND] & 0xFFFFFFFF == _METADATA:
                _words(extension[_ASKED])[_VERSION] = _MAJOR + (_MINOR << 32)
                return 0
        inputs, outputs = _words(frame[_INPUTS]), _words(frame[_OUTPUTS])
        first, second = _words(inputs[0])[_DATA], _words(inputs[1])[_DATA]
        output = _words(outputs[0])[_DATA]
        key = _words(_words(_words(frame[_ATTRIBUTES])[0])[_VALUE])[0]
        known = _words(plans)
        plan = 0
        for row in range(1, known[0] + 1):
            if known[2 * row] == key:
                plan = known[2 * row + 1]
                break
        failed = plan == 0
        if not failed:
            words = _words(plan)
            _call1(lock, (mutex,))
            if words[KERNEL_IS_RESULT] != 0:
                maps, kernel, result = first, output, second
            elif words[MAPS_ARE_RESULT] != 0:
                maps, kernel, result = output, first, second
            else:
                maps, kernel, result = first, second, output
            _call2(set_handle, (words[MAPS], maps))
            _call2(set_handle, (words[KERNEL], kernel))
            _call2(set_handle, (words[RESULT], result))
            for turn in range(2):
                if (turn == 0) == (words[KERNEL_IS_RESULT] == 0):
                    status = _call4(execute, (words[MOVE], stream, MOVE_ARGUMENTS, words[MOVED]))
                else:
                    status = _call4(
                        execute, (words[COMPUTE], stream, COMPUTE_ARGUMENTS, words[COMPUTED])
                    )
                failed = failed or status & 0xFFFFFFFF != 0
            _call1(unlock, (mutex,))
        return _call1(_words(frame[_INTERFACE])[_MAKE_ERROR], (reason,)) if failed else 0

    return handle
