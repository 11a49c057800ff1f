"""The three networks as functions of their weights, and the crops that are their input, in JAX.

The functions import JAX when they are called: processes that detect no face do not load it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jax import Array

# Less than any output of a convolution of these networks, and far from overflow.
_NEVER = -1e6


class Compiled(NamedTuple):
    """The functions of this module under `jax.jit`: one cache for all detectors of the process."""

    proposal: Callable[..., tuple[Array, Array]]
    refinement: Callable[..., tuple[Array, Array]]
    output: Callable[..., tuple[Array, Array, Array]]
    cut: Callable[..., Array]


@functools.cache
def compiled() -> Compiled:
    """Wraps each function in `jax.jit`, once."""
    import jax

    return Compiled(
        proposal=jax.jit(proposal),
        refinement=jax.jit(refinement),
        output=jax.jit(output),
        cut=jax.jit(cut, static_argnames="size"),
    )


def proposal(
    weights: Sequence[Array], images: Array, height: Array, width: Array
) -> tuple[Array, Array]:
    """P-Net: scores each window of 12 px, at every second pixel.

    Images may be padded at the bottom and the right, so that many sizes share one compiled
    function. Windows that do not touch the padding give the same result as without it.

    Args:
      weights: Weights of P-Net.
      images: `(n, H, W, 3)` with values 0 to 255.
      height: Height of the images without padding.
      width: Width of the images without padding.

    Returns:
      `(n, h, w, 4)` offsets of the windows' edges in parts of their size, and `(n, h, w)`
      probabilities of a face. Only the first `cells(height)` rows and `cells(width)` columns are
      valid.
    """
    import jax.numpy as jnp

    x = _normalise(images)
    x = _convolve(x, *weights[0:3])
    # The last pooling window of an image of odd size has one row or column less.
    rows, columns = jnp.arange(x.shape[1]) < height - 2, jnp.arange(x.shape[2]) < width - 2
    x = jnp.where((rows[:, None] & columns)[..., None], x, _NEVER)
    x = _pool(x, 2, "SAME")
    x = _convolve(x, *weights[3:6])
    x = _convolve(x, *weights[6:9])
    return _heads(x, [weights[9][0, 0], *weights[10:11]], [weights[11][0, 0], weights[12]])


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
    x = _pool(_convolve(crops, *weights[0:3]), 3, "SAME")
    x = _pool(_convolve(x, *weights[3:6]), 3, "VALID")
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
    x = _pool(_convolve(crops, *weights[0:3]), 3, "SAME")
    x = _pool(_convolve(x, *weights[3:6]), 3, "VALID")
    x = _pool(_convolve(x, *weights[6:9]), 2, "SAME")
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
    from jax import lax

    x = lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,  # else accelerators round the factors
    )
    return _prelu(x + bias, slope)


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


def _pool(x: Array, window: int, padding: str) -> Array:
    import jax.numpy as jnp
    from jax import lax

    return lax.reduce_window(x, -jnp.inf, lax.max, (1, window, window, 1), (1, 2, 2, 1), padding)


def _flatten(x: Array) -> Array:
    # The networks were trained with maps that are stored column by column.
    return x.transpose(0, 2, 1, 3).reshape(len(x), -1)
