"""Convolution of maps with all their channels, in the way that is fast on each platform.

1x1 convolutions are matrix products. In bfloat16, on processors that compute with it, oneDNN does
the work if it is installed (`qad_jax.models.onednn`). Everything else is XLA's convolution.
"""

from __future__ import annotations

from functools import partial

import jax
from jax import lax

from qad_jax.models import onednn
from qad_jax.models.depthwise import Padding


def convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Convolves.

    Args:
      x: (N, H, W, C).
      kernel: (k, k, C, D), float32; it is rounded to the type of ``x``.
      stride: Step in both directions.
      padding: Zeros before and after, the same for both axes.

    Returns:
      (N, H', W', D), of the type of ``x``. By oneDNN, it has first derivatives alone, and those in
      reverse mode.
    """
    if onednn.wanted(x.dtype):
        result: jax.Array = _by_processor(x, kernel, stride, padding)
        return result
    return _by_xla(stride, padding, x, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _by_processor(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Leaves it to oneDNN where the program is compiled for a processor."""
    shapes = onednn.geometry(x, kernel, stride, padding)
    result: jax.Array = lax.platform_dependent(
        x,
        kernel,
        cpu=partial(onednn.convolution, geometry=shapes),
        default=partial(_by_xla, stride, padding),
    )
    return result


def _forward(
    x: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _by_processor(x, kernel, stride, padding), (x, kernel)


def _backward(
    stride: int, padding: Padding, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    shapes = onednn.geometry(*saved, stride, padding)

    def by_onednn(
        x: jax.Array, kernel: jax.Array, gradient: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        return (
            onednn.maps_gradient(kernel, gradient, shapes),
            onednn.kernel_gradient(x, gradient, shapes),
        )

    def by_xla(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, pull = jax.vjp(partial(_by_xla, stride, padding), x, kernel)
        x_gradient, kernel_gradient = pull(gradient)
        return x_gradient, kernel_gradient

    result: tuple[jax.Array, jax.Array] = lax.platform_dependent(
        *saved, gradient, cpu=by_onednn, default=by_xla
    )
    return result


_by_processor.defvjp(_forward, _backward)


def _by_xla(stride: int, padding: Padding, x: jax.Array, kernel: jax.Array) -> jax.Array:
    kernel = kernel.astype(x.dtype)
    if kernel.shape[:2] == (1, 1) and padding == (0, 0):
        return _pointwise(x, kernel[0, 0], stride)
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=(padding, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _pointwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A 1x1 convolution as one matrix product.

    XLA's convolution on CPU is two to four times slower. So is the kernel gradient of a product of
    4-d maps, which is why the maps are reshaped to a matrix.

    Args:
      x: (N, H, W, C).
      kernel: (C, D).
      stride: Step in both directions.

    Returns:
      (N, ceil(H / stride), ceil(W / stride), D).
    """
    if stride > 1:
        # The barrier keeps XLA for GPUs from fusing the slice into the product, where it aborts
        # (openxla/xla#47381, "subdim_size_accumulator == dim_size", in jax 0.10.2).
        x = lax.optimization_barrier(x[:, ::stride, ::stride])
    flat = x.reshape(-1, x.shape[-1]) @ kernel
    return flat.reshape(*x.shape[:-1], kernel.shape[-1])
