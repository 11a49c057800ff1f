"""Depthwise convolution in the way that is fast on each platform, gradients included.

On NVIDIA's GPUs, in 16 bits, it is one grouped convolution, for which cuDNN has kernels. On
processors that compute with bfloat16, oneDNN does it, if it is installed. Everywhere else, grouped
convolution is XLA's slow path: for the maps of EfficientNet-B1 on CPU, forward takes more than ten
times longer. There it is a sum of shifted maps. Automatic differentiation of the sum would compute
the kernel gradient as k*k separate reductions, which are slow to run and slower to compile. Here,
the taps of one row share a reduction.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from qad_jax.models import onednn

Padding = tuple[int, int]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Convolves every channel with a filter of its own.

    Args:
      x: (N, H, W, C).
      kernel: (k, k, C), float32.
      stride: Step in both directions.
      padding: Zeros before and after, less than k each, the same for both axes.

    Returns:
      (N, H', W', C), of the type of ``x``; the sum inside is float32.
    """
    result: jax.Array = lax.platform_dependent(
        x,
        kernel,
        default=partial(_shifted, stride, padding),
        **_cpu(
            x, partial(onednn.convolution, geometry=onednn.geometry(x, kernel, stride, padding))
        ),
        **_cuda(x, partial(_grouped, stride, padding)),
    )
    return result


def _cpu(x: jax.Array, way: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """The branch for processors of which oneDNN has better kernels; none elsewhere."""
    return {"cpu": way} if onednn.wanted(x.dtype) else {}


def _cuda(x: jax.Array, way: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """The branch for NVIDIA's GPUs in 16 bits, where cuDNN is fast; none in 32 bits.

    With sums of shifted maps, XLA would lay out the maps around them as NCHW and transpose them for
    the products (see docs/speed.md).
    """
    return {"cuda": way} if x.dtype.itemsize == 2 else {}


def _grouped(stride: int, padding: Padding, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None].astype(x.dtype),
        window_strides=(stride, stride),
        padding=(padding, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _shifted(stride: int, padding: Padding, x: jax.Array, kernel: jax.Array) -> jax.Array:
    padded = jnp.pad(x, ((0, 0), padding, padding, (0, 0)))
    total = jnp.zeros((), jnp.float32)
    for i, row in enumerate(_taps(padded, kernel.shape[0], stride)):
        for j, shifted in enumerate(row):
            total = total + shifted.astype(jnp.float32) * kernel[i, j]
    return total.astype(x.dtype)


def _taps(padded: jax.Array, side: int, stride: int) -> list[list[jax.Array]]:
    """Returns for each place (i, j) in the window its values at all positions of the window.

    Args:
      padded: (N, H, W, C).
      side: Side of the window.
      stride: Step of the window.

    Returns:
      Rows of arrays (N, H', W', C).
    """
    rows, columns = ((size - side) // stride * stride + 1 for size in padded.shape[1:3])
    return [
        [padded[:, i : i + rows : stride, j : j + columns : stride] for j in range(side)]
        for i in range(side)
    ]


def _forward(
    x: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise(x, kernel, stride, padding), (x, kernel)


def _backward(
    stride: int, padding: Padding, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    side = kernel.shape[0]
    shapes = onednn.geometry(x, kernel, stride, padding)
    x_gradient = lax.platform_dependent(
        kernel,
        gradient,
        default=partial(_maps_gradient, stride, padding, x.shape),
        **_cpu(x, partial(onednn.maps_gradient, geometry=shapes)),
    )
    ours = partial(_sums_of_taps, _sums_in_two_passes, side, stride, padding)
    kernel_gradient = lax.platform_dependent(
        x,
        gradient,
        default=partial(_sums_of_taps, _sums_in_one_pass, side, stride, padding),
        **(_cpu(x, partial(onednn.kernel_gradient, geometry=shapes)) or {"cpu": ours}),
        **_cuda(x, partial(_grouped_kernel_gradient, kernel, stride, padding)),
    )
    return x_gradient, kernel_gradient


def _maps_gradient(
    stride: int,
    padding: Padding,
    shape: tuple[int, ...],
    kernel: jax.Array,
    gradient: jax.Array,
) -> jax.Array:
    """The gradient of the maps: convolves with the flipped kernel, zeros between the strides."""
    side = kernel.shape[0]
    filled = [
        (
            side - 1 - padding[0],
            size + padding[0] - 1 - (steps - 1) * stride,
            stride - 1,
        )
        for size, steps in zip(shape[1:3], gradient.shape[1:3], strict=True)
    ]
    spread = lax.pad(gradient, jnp.zeros((), gradient.dtype), ((0, 0, 0), *filled, (0, 0, 0)))
    result: jax.Array = depthwise(spread, kernel[::-1, ::-1], 1, (0, 0))
    return result


def _grouped_kernel_gradient(
    kernel: jax.Array, stride: int, padding: Padding, x: jax.Array, gradient: jax.Array
) -> jax.Array:
    _, pull = jax.vjp(lambda kernel: _grouped(stride, padding, x, kernel), kernel)
    (kernel_gradient,) = pull(gradient)
    return kernel_gradient


def _sums_of_taps(
    way: Callable[..., jax.Array],
    side: int,
    stride: int,
    padding: Padding,
    x: jax.Array,
    gradient: jax.Array,
) -> jax.Array:
    """The kernel gradient; it pads here, because cuDNN needs no padded map in memory."""
    padded = jnp.pad(x, ((0, 0), padding, padding, (0, 0)))
    return way(side, stride, padded, gradient.astype(jnp.float32))


def _sums_in_one_pass(side: int, stride: int, padded: jax.Array, factor: jax.Array) -> jax.Array:
    """Sums the product of each tap (N, H, W, C) and the factor to (C,): (k, k, C) in all.

    The taps of a row share one reduction, which reads the factor once for all of them.
    """
    zero = jnp.zeros((), jnp.float32)
    sums = [
        lax.reduce(
            [tap.astype(jnp.float32) * factor for tap in row],
            [zero] * len(row),
            lambda left, right: [a + b for a, b in zip(left, right, strict=True)],
            (0, 1, 2),
        )
        for row in _taps(padded, side, stride)
    ]
    return jnp.stack([jnp.stack(row) for row in sums])


def _sums_in_two_passes(side: int, stride: int, padded: jax.Array, factor: jax.Array) -> jax.Array:
    """Computes the same, but adds up several samples in a loop before the reduction.

    XLA for CPU computes a product within a reduction number by number. It uses whole vectors for a
    loop and for a reduction of an array in memory, and the barrier keeps these two apart. On the
    maps of EfficientNet-B1 this is up to fifteen times faster.
    """
    sums = [
        lax.optimization_barrier(
            jnp.stack([_folded(tap.astype(jnp.float32) * factor) for tap in row])
        )
        for row in _taps(padded, side, stride)
    ]
    return jnp.stack([jnp.sum(row, axis=(1, 2, 3)) for row in sums])


def _folded(maps: jax.Array) -> jax.Array:
    """Adds samples in pairs, up to eight into one, while their number is even."""
    for _ in range(3):
        if len(maps) % 2:
            break
        first, second = jnp.split(maps, 2)
        maps = first + second
    return maps


depthwise.defvjp(_forward, _backward)
