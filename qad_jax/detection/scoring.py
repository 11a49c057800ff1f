"""Scores of crops: batches of one shape, on all devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from qad_jax import models
from qad_jax.runs import placement
from qad_jax.training import parallel
from qad_jax.training.resizing import resize_into
from qad_jax.training.step import make_locate_step, make_predict_step

Image = npt.NDArray[np.uint8]

# Crops at a time, for each device. All batches have one shape, because the last bits of a score
# depend on it: so a score is the same whatever is scored beside it. A processor takes as long for a
# crop in a batch of 4 as in one of 32, and an accelerator as long for 32 crops as for a few.
_BATCH, _OF_ACCELERATOR = 4, 32


def batch_size() -> int:
    """Number of crops that fill a batch on all devices."""
    return (_BATCH if jax.default_backend() == "cpu" else _OF_ACCELERATOR) * parallel.device_count()


class Scorer:
    """A network, ready to score crops."""

    def __init__(
        self, network: str, image_size: int, variables: Any, dtype: str = "float32"
    ) -> None:
        """Puts the weights on all devices; compiles nothing yet.

        Args:
          network: See `qad_jax.models.create`.
          image_size: Side that crops are resized to, in pixels.
          variables: `{'params', 'batch_stats'}`, and a localiser where there is one.
          dtype: The arithmetic, as the thresholds were chosen in it.
        """
        self._size = image_size
        self._variables = placement.replicate(variables)
        model = models.create(network, dtype=jnp.dtype(dtype))
        self._step = parallel.pmap_predict(make_predict_step(model))
        self._locate = jax.jit(make_locate_step(model))

    def __call__(self, crops: Sequence[Image]) -> npt.NDArray[np.float32]:
        """Scores crops.

        Args:
          crops: `(height, width, 3)` uint8 RGB each, of any size.

        Returns:
          `(n,)` probability of fake of each. It does not depend on the other crops.
        """
        scores: list[npt.NDArray[np.float32]] = []
        batch = batch_size()
        for start in range(0, len(crops), batch):
            part = crops[start : start + batch]
            images = np.zeros((batch, 1, self._size, self._size, 3), np.uint8)
            for crop, row in zip(part, images, strict=False):
                resize_into(crop, row[0])
            result = jax.device_get(self._step(self._variables, parallel.shard(images)))
            scores.append(np.asarray(result, np.float32).reshape(-1)[: len(part)])
        return np.concatenate(scores) if scores else np.zeros(0, np.float32)

    def changed(self, crop: Image) -> npt.NDArray[np.float32]:
        """Where a crop looks changed, where the variables have a localiser.

        Args:
          crop: `(height, width, 3)` uint8 RGB, of any size.

        Returns:
          `(h, w)` in [0, 1] from top to bottom and from left to right, how much of each place.
        """
        images = resized(crop, self._size)[None]
        return np.asarray(jax.device_get(self._locate(self._variables, images))[0], np.float32)


def resized(crop: Image, side: int) -> Image:
    """Resizes a crop to a square as training does."""
    square = np.empty((side, side, 3), np.uint8)
    resize_into(crop, square)
    return square
