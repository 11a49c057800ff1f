"""The one way in which a crop gets the size that a network takes, in training and after it."""

from __future__ import annotations

import cv2

from qad_jax.training.threaded_batches import Images


def resize_into(image: Images, target: Images) -> None:
    """Resizes a crop to the square that a network takes.

    Args:
      image: `(height, width, 3)` uint8.
      target: `(side, side, 3)` uint8, where the pixels go.
    """
    if image.shape == target.shape:
        target[...] = image
        return
    side = len(target)
    shrinks = min(image.shape[:2]) > side
    cv2.resize(
        image,
        (side, side),
        dst=target,
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC,
    )
