"""What a step of training takes: apart from the reading, which a detector does without."""

from __future__ import annotations

from typing import NamedTuple

import jax


class Batch(NamedTuple):
    """Training input.

    Attributes:
      images: `(m, Q, H, W, 3)` uint8, RGB: m tuples, each the same crop at Q qualities.
      labels: `(m,)` int32, 0 real, 1 fake.
    """

    images: jax.Array
    labels: jax.Array
