"""The three networks as functions of their weights, and the crops that are their input, in JAX.

The functions import JAX when they are called: processes that detect no face do not load it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from data_builders.mtcnn.weights import Weights
from data_builders.patches import jax_cache_entries

if TYPE_CHECKING:
    from jax import Array

WINDOW = 12  # pixels that P-Net looks at

# Less than any output of a convolution of these networks, and far from overflow.
_NEVER = -1e6


class Compiled(NamedTuple):
    """The functions of this module under `jax.jit`: one cache for all detectors of the process."""

    proposal: Callable[..., Array]
    refinement: Callable[..., tuple[Array, Array]]
    output: Callable[..., tuple[Array, Array, Array]]
    cut: Callable[..., Array]


@functools.cache
def compiled() -> Compiled:
    """Wraps each function in `jax.jit`, once."""
    import jax

    jax_cache_entries.mend()
    return Compiled(
        proposal=jax.jit(proposal),
        refinement=jax.jit(refinement),
        output=jax.jit(output),
        cut=jax.jit(cut, static_argnames="size"),
    )


def prepared(weights: Weights) -> Weights:
    """Rewrites kernels that are narrow, so that a product of matrices pays for them.

    The first kernel of each network is one for `_convolve_cells` then, and the second one of P-Net
    one for `_convolve_pairs`. The heads of P-Net become one.
    """
    first, second = ([*network] for network in (weights.proposal, weights.refinement))
    third = [*weights.output]
    for network in (first, second, third):
        inputs, outputs = network[0].shape[2:]
        by_cells = widened(network[0], 2, 2).reshape(2, 2, 2, 2, inputs, 4 * outputs)
        network[0] = by_cells.swapaxes(1, 2).reshape(2, 2, 4 * inputs, 4 * outputs)
    first[3] = widened(first[3], 1, 2)
    # Of the two outputs of a softmax, only the difference counts.
    kernel, bias = first[11][0, 0], first[12]
    first[9:] = [
        np.concatenate([first[9][0, 0], kernel[:, 1:] - kernel[:, :1]], axis=1),
        np.concatenate([first[10], bias[1:] - bias[:1]]),
    ]
    return Weights(first, second, third)


def widened(kernel: npt.NDArray[np.float32], rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Rewrites a kernel so that it gives the outputs of a block of pixels at once.

    A convolution is a product of matrices, whose sides are the numbers of factors and of outputs.
    With few channels, both are too small to be worth copying the factors. In a block, neighbours
    share their factors. Some are 0: those beside the kernel.

    Args:
      kernel: `(3, 3, c, o)`.
      rows: Rows of the block.
      columns: Columns of the block.

    Returns:
      `(2 + rows, 2 + columns, c, rows * columns * o)`, the outputs by row, column and channel.
    """
    height, width, inputs, outputs = kernel.shape
    wide = np.zeros(
        (height + rows - 1, width + columns - 1, inputs, rows, columns, outputs), np.float32
    )
    for y, x in np.ndindex(rows, columns):
        wide[y : y + height, x : x + width, :, y, x] = kernel
    return wide.reshape(*wide.shape[:3], -1)


def proposal(weights: Sequence[Array], canvas: Array, pooled: Array) -> Array:
    """P-Net: scores each window of 12 px, at every second pixel.

    Args:
      weights: Weights of P-Net, prepared.
      canvas: `(H, W, 3)` with values 0 to 255; H and W are even.
      pooled: `(H / 2 - 1, W / 2 - 1, 2, 2)` bool: which outputs of the first convolution are
        pooled, by cells of 2x2 px.

    Returns:
      `(H / 2 - 5, w, 5)`: four offsets of the windows' edges in parts of their size, and the logit
      of a face; w is even, and at least W / 2 - 5.
    """
    import jax.numpy as jnp

    x = _convolve_cells(_normalise(canvas[None]), *weights[0:3])
    x = jnp.where(pooled[..., None], x, _NEVER)
    x = jnp.maximum(x[:, :, :, 0], x[:, :, :, 1])
    x = _convolve_pairs(jnp.maximum(x[..., 0, :], x[..., 1, :]), *weights[3:6])
    x = _convolve(x, *weights[6:9])
    return (_matmul(x, weights[9]) + weights[10])[0]


def cells(pixels: int) -> int:
    """Number of windows of P-Net along an edge of so many pixels."""
    return (pixels - 1) // 2 - 4


def refinement(weights: Sequence[Array], crops: Array) -> tuple[Array, Array]:
    """R-Net: scores crops.

    Args:
      weights: Weights of R-Net.
      crops: `(k, 24, 24, 3)`, normalised.

    Returns:
      `(k, 4)` offsets of the edges in parts of the size, and `(k,)` probabilities of a face.
    """
    x = _pool_cells(_convolve_cells(crops, *weights[0:3]))
    x = _pool(_convolve(x, *weights[3:6]), 3)
    x = _convolve(x, *weights[6:9])
    x = _dense(_flatten(x), *weights[9:12])
    return _heads(x, weights[12:14], weights[14:16])


def output(weights: Sequence[Array], crops: Array) -> tuple[Array, Array, Array]:
    """O-Net: scores larger crops, and places landmarks.

    Args:
      weights: Weights of O-Net.
      crops: `(k, 48, 48, 3)`, normalised.

    Returns:
      `(k, 4)` offsets of the edges in parts of the size, `(k,)` probabilities of a face, and
      `(k, 5, 2)` x and y of the landmarks in parts of the size, from the crop's top left corner.
    """
    x = _pool_cells(_convolve_cells(crops, *weights[0:3]))
    x = _pool(_convolve(x, *weights[3:6]), 3)
    x = _pool(_convolve(x, *weights[6:9]), 2)
    x = _convolve(x, *weights[9:12])
    x = _dense(_flatten(x), *weights[12:15])
    # Five x, then five y.
    landmarks = (_matmul(x, weights[17]) + weights[18]).reshape(-1, 2, 5).transpose(0, 2, 1)
    return *_heads(x, weights[15:17], weights[19:21]), landmarks


def cut(
    images: Array, height: Array, width: Array, image_index: Array, boxes: Array, *, size: int
) -> Array:
    """Cuts boxes out of images and resamples them: bilinear, corners aligned.

    Args:
      images: `(n, H, W, 3)` uint8, padded at the bottom and the right.
      height: Height of the images without padding.
      width: Width of the images without padding.
      image_index: `(k,)` index of the image of each box.
      boxes: `(k, 4)` x0, y0, x1, y1; pixels outside the image become grey.
      size: Width and height of the crops.

    Returns:
      `(k, size, size, 3)` float32, normalised.
    """
    import jax.numpy as jnp

    steps = jnp.linspace(0, 1, size)

    def places(first: Array, last: Array, length: Array) -> tuple[Array, Array, Array, Array]:
        # As in training of the weights: the coordinate `length` is the last pixel.
        at = (first[:, None] + (last - first)[:, None] * steps) * ((length - 1) / length)
        inside = (at >= 0) & (at <= length - 1)
        low = jnp.clip(jnp.floor(at), 0, length - 1).astype(jnp.int32)
        return low, jnp.minimum(low + 1, length - 1).astype(jnp.int32), at - low, inside

    left, right, part_x, inside_x = places(boxes[:, 0], boxes[:, 2], width)
    top, bottom, part_y, inside_y = places(boxes[:, 1], boxes[:, 3], height)

    def pixels(rows: Array, columns: Array) -> Array:
        samples = images[image_index[:, None, None], rows[:, :, None], columns[:, None, :]]
        return samples.astype(jnp.float32)

    part_x, part_y = part_x[:, None, :, None], part_y[:, :, None, None]
    upper = pixels(top, left) * (1 - part_x) + pixels(top, right) * part_x
    lower = pixels(bottom, left) * (1 - part_x) + pixels(bottom, right) * part_x
    inside = (inside_y[:, :, None] & inside_x[:, None, :])[..., None]
    return jnp.where(inside, _normalise(upper * (1 - part_y) + lower * part_y), 0)


def _normalise(images: Array) -> Array:
    return (images - 127.5) / 128


def _convolve(x: Array, kernel: Array, bias: Array, slope: Array) -> Array:
    return _prelu(_product(x, kernel) + bias, slope)


def _convolve_pairs(x: Array, kernel: Array, bias: Array, slope: Array) -> Array:
    """Convolves maps with a kernel that is widened to two columns.

    Returns:
      As of `_convolve`, and one more column of no use where the width is odd.
    """
    import jax.numpy as jnp

    x = _product(x, kernel, (1, 2), right=x.shape[2] % 2)
    x = _prelu(x + jnp.tile(bias, 2), jnp.tile(slope, 2))
    return x.reshape(*x.shape[:2], -1, len(bias))


def _convolve_cells(x: Array, kernel: Array, bias: Array, slope: Array) -> Array:
    """Convolves images of even sides with a kernel that is widened to cells of 2x2 px.

    Returns:
      `(n, H / 2 - 1, W / 2 - 1, 2, 2, o)`: the outputs of each cell.
    """
    import jax.numpy as jnp

    n, height, width, channels = x.shape
    cells = x.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    x = _product(cells.reshape(n, height // 2, width // 2, 4 * channels), kernel)
    x = _prelu(x + jnp.tile(bias, 4), jnp.tile(slope, 4))
    return x.reshape(*x.shape[:3], 2, 2, len(bias))


def _product(
    x: Array, kernel: Array, strides: tuple[int, int] = (1, 1), *, right: int = 0
) -> Array:
    """The convolution itself, at places where the kernel is within the maps.

    Args:
      x: `(n, H, W, c)`.
      kernel: `(height, width, c, o)`.
      strides: Rows and columns from one place to the next.
      right: Columns of zeros beside the maps, on the right.
    """
    from jax import lax

    # XLA of jaxlib 0.10 hands convolutions to YNNPACK, which takes five times as long for so few
    # channels, but none with padding. So there is a row of padding, whose result is dropped.
    x = lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding=((0, 1), (0, right)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,  # else accelerators round the factors
    )
    return x[:, :-1]


def _pool_cells(x: Array) -> Array:
    """Pools the outputs of `_convolve_cells`: squares of 3 px at steps of 2, cut off at the end.

    Returns:
      `(n, rows of cells, columns of cells, o)`.
    """
    import jax.numpy as jnp

    # A square is a cell, and the nearer half of the next ones below and on the right.
    x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), *3 * [(0, 0)]), constant_values=_NEVER)
    x = jnp.maximum(jnp.maximum(x[:, :-1, :, 0], x[:, :-1, :, 1]), x[:, 1:, :, 0])
    return jnp.maximum(jnp.maximum(x[:, :, :-1, 0], x[:, :, :-1, 1]), x[:, :, 1:, 0])


def _dense(x: Array, kernel: Array, bias: Array, slope: Array) -> Array:
    return _prelu(_matmul(x, kernel) + bias, slope)


def _heads(x: Array, box: Sequence[Array], face: Sequence[Array]) -> tuple[Array, Array]:
    import jax

    scores = jax.nn.softmax(_matmul(x, face[0]) + face[1])
    return _matmul(x, box[0]) + box[1], scores[..., 1]


def _matmul(x: Array, kernel: Array) -> Array:
    import jax.numpy as jnp
    from jax import lax

    return jnp.matmul(x, kernel, precision=lax.Precision.HIGHEST)


def _prelu(x: Array, slope: Array) -> Array:
    import jax.numpy as jnp

    return jnp.maximum(x, 0) + slope * jnp.minimum(x, 0)


def _pool(x: Array, window: int) -> Array:
    """Pools squares of so many pixels that lie within, at steps of 2."""
    from jax import lax

    # Slices, because XLA for CPU takes three times as long for its own windows.
    for axis in (1, 2):
        last = x.shape[axis] - window
        parts = [lax.slice_in_dim(x, i, i + last + 1, 2, axis) for i in range(window)]
        x = functools.reduce(lax.max, parts)
    return x


def _flatten(x: Array) -> Array:
    # The networks were trained with maps that are stored column by column.
    return x.transpose(0, 2, 1, 3).reshape(len(x), -1)
