"""Arithmetic of boxes: x0, y0, x1, y1 along the last axis."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Boxes: TypeAlias = npt.NDArray[np.floating]

# Rows of the overlap matrix in memory at a time: a noisy image has thousands of candidates.
_ROWS = 256


def area(boxes: Boxes) -> npt.NDArray[np.floating]:
    """Width times height."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def overlap(first: Boxes, second: Boxes, *, of_smaller: bool = False) -> npt.NDArray[np.floating]:
    """Computes the overlap of boxes: IoU, or a variant of it.

    Args:
      first: `(m, 4)`.
      second: `(k, 4)`.
      of_smaller: Whether to divide by the area of the smaller box, instead of that of the union.

    Returns:
      `(m, k)` values from 0 to 1; 0 where a box is empty.
    """
    # Edge by edge: numpy is slow along an axis of two.
    sides = [
        np.minimum.outer(first[:, i + 2], second[:, i + 2])
        - np.maximum.outer(first[:, i], second[:, i])
        for i in (0, 1)
    ]
    shared = np.maximum(sides[0], 0) * np.maximum(sides[1], 0)
    areas = area(first)[:, None], area(second)[None]
    whole = np.minimum(*areas) if of_smaller else areas[0] + areas[1] - shared
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def strongest(
    image_index: npt.NDArray[np.integer],
    boxes: Boxes,
    scores: npt.NDArray[np.floating],
    *,
    limit: float,
    of_smaller: bool = False,
) -> npt.NDArray[np.intp]:
    """Non-maximum suppression (NMS): drops boxes that overlap a stronger one in the same image.

    Unlike in the textbook, a stronger box that is dropped itself still drops others, as in the
    reference.

    Args:
      image_index: `(k,)` index of the image of each box.
      boxes: `(k, 4)`.
      scores: `(k,)`.
      limit: The largest overlap at which a box is kept.
      of_smaller: As in `overlap`.

    Returns:
      Indices of the boxes that are kept, by image, the strongest first.
    """
    order = np.lexsort((-scores, image_index))
    images = np.split(order, np.flatnonzero(np.diff(image_index[order])) + 1)
    return np.concatenate([_undisputed(boxes, one, limit, of_smaller) for one in images])


def _undisputed(
    boxes: Boxes, order: npt.NDArray[np.intp], limit: float, of_smaller: bool
) -> npt.NDArray[np.intp]:
    sorted_boxes = boxes[order]
    kept = []
    for start in range(0, len(order), _ROWS):
        rows = sorted_boxes[start : start + _ROWS]
        stronger = sorted_boxes[: start + len(rows)]
        disputed = overlap(rows, stronger, of_smaller=of_smaller) > limit
        kept.append(~np.tril(disputed, k=start - 1).any(axis=1))
    return order[np.concatenate(kept)] if kept else order


def squared(boxes: Boxes) -> Boxes:
    """Grows the shorter side of each box to the longer one, about its centre."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    side = sizes.max(axis=1, keepdims=True, initial=0)
    corner = boxes[:, :2] + (sizes - side) / 2
    return np.concatenate([corner, corner + side], axis=1)


def moved(boxes: Boxes, offsets: npt.NDArray[np.floating]) -> Boxes:
    """Moves the edges of boxes by offsets in parts of their size, counted in whole pixels."""
    sizes = boxes[:, 2:] - boxes[:, :2] + 1
    return boxes + offsets * np.tile(sizes, 2)
