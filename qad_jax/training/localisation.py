r"""The loss of the localiser: where a fake differs from the real image that it was made from.

Batches are of twins: a fake and its own original, cut and shown alike. What was changed needs no
annotation then. With :math:`d` the mean difference of two twins in a cell, over its pixels and
colours and in grey values of 255, at the best quality, the cell's target is

.. math::
  t = \min\left(1, \max\left(0, \frac{d - 1}{5}\right)\right).

A codec makes a difference of about one grey value where nothing was changed. All the cells of a
real image, and of a fake at every other quality, have the target of the twins at the best quality.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

_NONE, _WHOLE = 1.0, 6.0  # grey values of 255


def differences(images: jax.Array) -> jax.Array:
    """How much twins differ.

    Args:
      images: `(m, Q, H, W, 3)` uint8: a fake, its original, the next fake, and so on; the best
        quality is the first.

    Returns:
      `(m / 2, H, W)` float32, the mean over the colours of the absolute difference.
    """
    best = images[:, 0].astype(jnp.float32)
    return jnp.abs(best[0::2] - best[1::2]).mean(axis=-1)


def targets(difference: jax.Array, height: int, width: int) -> jax.Array:
    """What the localiser should say of a batch of twins.

    Args:
      difference: `(m / 2, H, W)`, of `differences`.
      height: Cells from top to bottom.
      width: Cells from left to right.

    Returns:
      `(m, height, width)` float32 in [0, 1], zeros for every second, which is real.
    """
    pairs = len(difference)
    rows, columns = _shares(difference.shape[1], height), _shares(difference.shape[2], width)
    cells = jnp.einsum("hy,pyx,wx->phw", rows, difference, columns)
    fakes = jnp.clip((cells - _NONE) / (_WHOLE - _NONE), 0, 1)
    return jnp.stack([fakes, jnp.zeros_like(fakes)], axis=1).reshape(2 * pairs, height, width)


def _shares(pixels: int, cells: int) -> npt.NDArray[np.float32]:
    """`(cells, pixels)`: the share of each pixel in the mean of each cell, which may cut pixels."""
    edges = np.linspace(0, pixels, cells + 1)
    low, high = edges[:-1, None], edges[1:, None]
    start = np.arange(pixels)
    overlap = np.clip(np.minimum(high, start + 1) - np.maximum(low, start), 0, None)
    return np.asarray(overlap / (high - low), np.float32)


def loss(logits: Sequence[jax.Array], images: jax.Array) -> jax.Array:
    """Cross-entropy of the localiser, the mean over maps, images and cells.

    Args:
      logits: For each map `(m * q, h, w)`, those qualities of a tuple that the model saw, one after
        the other.
      images: As for `differences`.

    Returns:
      A float32 scalar.
    """
    difference = differences(images)
    tuples = len(images)

    def of_map(map_logits: jax.Array) -> jax.Array:
        height, width = map_logits.shape[1:]
        wanted = targets(difference, height, width)[:, None]
        given = map_logits.reshape(tuples, -1, height, width)
        wanted = jnp.broadcast_to(wanted, given.shape)
        return optax.sigmoid_binary_cross_entropy(given, wanted).mean()

    return jnp.stack([of_map(one) for one in logits]).mean()
