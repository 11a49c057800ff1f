"""Convolutions by oneDNN, which PyTorch uses, too, on processors.

XLA for CPU computes convolutions of bfloat16 in float32, at half the speed or less on processors
that have such arithmetic. There, oneDNN computes them, if the extra `onednn` is installed. It can
compute those of float32, too, where people ask for it.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import hashlib
import importlib.util
import os
import platform
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_builders.workers import available_cores
from qad_jax import cpu
from qad_jax.models.onednn import library

#: The name by which compiled programs know what computes. It is a part of what is kept of them.
TARGET = "qad_jax.onednn"
#: On more cores, it is used only where people ask for it. OpenMP keeps as many threads as there are
#: cores for each thread of XLA that ever called it: their number grows as the square of the cores.
MOST_CORES = 16

_MAKING = threading.Lock()
_UNUSED = contextvars.ContextVar("unused", default=False)


@contextlib.contextmanager
def unused() -> Iterator[None]:
    """Within it, programs are traced without oneDNN: other machines, too, shall run them."""
    token = _UNUSED.set(True)
    try:
        yield
    finally:
        _UNUSED.reset(token)


def wanted(dtype: Any) -> bool:
    """Whether convolutions of a type are left to oneDNN in this process, on processors."""
    asked = os.environ.get(cpu.ONEDNN)
    if jnp.dtype(dtype) == jnp.bfloat16:
        few = asked == "1" or available_cores() <= MOST_CORES
        right = asked != "0" and cpu.has_bfloat16() and few
    else:
        right = asked == "1" and jnp.dtype(dtype) == jnp.float32
    # For an accelerator, the branch of a processor would be made in vain. The library comes last:
    # loading it takes time, which no other program shall lose.
    return right and not _UNUSED.get() and jax.default_backend() == "cpu" and installed()


@functools.cache
def installed() -> bool:
    """Whether the extra is there and works, on a machine that it is for; says why it does not."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return False
    path = library.find()
    if importlib.util.find_spec("numba") is None or path is None:
        return False
    try:
        library.Library(path)
    except (OSError, AttributeError, library.OneDnnError) as error:
        warnings.warn(f"convolutions without oneDNN, which does not work: {error}", stacklevel=2)
        return False
    return True


def _handler() -> Any:
    with _MAKING:  # programs are traced in several threads
        return _only_handler()


@functools.cache
def _only_handler() -> Any:
    # It brings numba, whose import takes a second.
    from qad_jax.models.onednn.handler import Handler

    path = library.find()
    assert path is not None, "ask `wanted` first"
    return Handler(library.Library(path), TARGET)


def geometry(
    x: jax.Array, kernel: jax.Array, stride: int, padding: tuple[int, int]
) -> library.Geometry:
    """The shapes of a convolution.

    Args:
      x: (N, H, W, C).
      kernel: (k, k, C, D), or (k, k, C) for a filter of each channel.
      stride: Step in both directions.
      padding: Zeros before and after, the same for both axes.
    """
    side = kernel.shape[0]
    rows, columns = ((size + sum(padding) - side) // stride + 1 for size in x.shape[1:3])
    result = (x.shape[0], rows, columns, kernel.shape[-1])
    return library.Geometry(x.shape, kernel.shape, result, stride, *padding, str(x.dtype))


def convolution(x: jax.Array, kernel: jax.Array, geometry: library.Geometry) -> jax.Array:
    """Convolves.

    Args:
      x: (N, H, W, C), bfloat16 or float32.
      kernel: (k, k, C, D), or (k, k, C) for a filter of each channel; float32.
      geometry: What is computed.

    Returns:
      (N, H', W', D), of the type of ``x``.
    """
    return _call("forward", geometry, geometry.result, jnp.dtype(geometry.dtype), x, kernel)


def maps_gradient(kernel: jax.Array, gradient: jax.Array, geometry: library.Geometry) -> jax.Array:
    """The gradient with respect to the maps, of their type, from that of the result."""
    return _call("maps", geometry, geometry.maps, jnp.dtype(geometry.dtype), kernel, gradient)


def kernel_gradient(x: jax.Array, gradient: jax.Array, geometry: library.Geometry) -> jax.Array:
    """The gradient with respect to the kernel, float32, from that of the result."""
    return _call("kernel", geometry, geometry.kernel, jnp.dtype(jnp.float32), x, gradient)


def _call(
    kind: library.Kind,
    geometry: library.Geometry,
    shape: library.Shape,
    dtype: Any,
    *arrays: jax.Array,
) -> jax.Array:
    # The key is the same in every process, because compiled programs are kept with it.
    digest = hashlib.blake2b(repr((kind, *geometry)).encode(), digest_size=8).digest()
    key = int.from_bytes(digest, "big", signed=True)
    _handler().add(key, kind, geometry)
    call = jax.ffi.ffi_call(TARGET, jax.ShapeDtypeStruct(shape, dtype), vmap_method="sequential")
    result: jax.Array = call(*arrays, key=np.int64(key))
    return result
