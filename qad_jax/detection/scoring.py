"""Scores of crops: batches of a few shapes, on all devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from qad_jax import models
from qad_jax.runs import placement
from qad_jax.training import parallel
from qad_jax.training.input_pipeline import resize_into
from qad_jax.training.step import make_predict_step

Image = npt.NDArray[np.uint8]

# Crops at a time, for each device. Each is compiled once; a few crops need not wait for many.
_BATCHES = 4, 32


class Scorer:
    """A network, ready to score crops."""

    def __init__(self, network: str, image_size: int, variables: Any) -> None:
        """Puts the weights on all devices; compiles nothing yet.

        Args:
          network: See `qad_jax.models.create`.
          image_size: Side that crops are resized to, in pixels.
          variables: `{'params', 'batch_stats'}`.
        """
        self._size = image_size
        self._variables = placement.replicate(variables)
        self._step = parallel.pmap_predict(make_predict_step(models.create(network)))

    def __call__(self, crops: Sequence[Image]) -> npt.NDArray[np.float32]:
        """Scores crops.

        Args:
          crops: `(height, width, 3)` uint8 RGB each, of any size.

        Returns:
          `(n,)` probability of fake of each.
        """
        scores: list[npt.NDArray[np.float32]] = []
        start = 0
        while start < len(crops):
            left, devices = len(crops) - start, parallel.device_count()
            batch = next((b for b in _BATCHES if left <= b * devices), _BATCHES[-1]) * devices
            part = crops[start : start + batch]
            images = np.zeros((batch, 1, self._size, self._size, 3), np.uint8)
            for crop, row in zip(part, images, strict=False):
                resize_into(crop, row[0])
            result = jax.device_get(self._step(self._variables, parallel.shard(images)))
            scores.append(np.asarray(result, np.float32).reshape(-1)[: len(part)])
            start += batch
        return np.concatenate(scores) if scores else np.zeros(0, np.float32)


def resized(crop: Image, side: int) -> Image:
    """Resizes a crop to a square as training does."""
    square = np.empty((side, side, 3), np.uint8)
    resize_into(crop, square)
    return square
