"""Arithmetic of boxes: x0, y0, x1, y1 along the last axis."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Boxes: TypeAlias = npt.NDArray[np.floating]

# Rows of the overlap matrix that are held at a time: a noisy picture has thousands of candidates.
_ROWS = 256


def area(boxes: Boxes) -> npt.NDArray[np.floating]:
    """Width by height."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def overlap(first: Boxes, second: Boxes, *, of_smaller: bool = False) -> npt.NDArray[np.floating]:
    """How much boxes share.

    Args:
      first: `(m, 4)`.
      second: `(k, 4)`.
      of_smaller: The part of the smaller of the two boxes, instead of the part of their union.

    Returns:
      `(m, k)` values from 0 to 1; 0 where a box is empty.
    """
    first, second = first[:, None], second[None]
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = area(first), area(second)
    whole = np.minimum(*areas) if of_smaller else areas[0] + areas[1] - shared
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def strongest(
    which: npt.NDArray[np.integer],
    boxes: Boxes,
    scores: npt.NDArray[np.floating],
    *,
    limit: float,
    of_smaller: bool = False,
) -> npt.NDArray[np.intp]:
    """Non-maximum suppression: drops what overlaps something stronger in the same picture.

    A box is dropped for a stronger one that is itself dropped, too, unlike in the textbook: that is
    how the reference does it.

    Args:
      which: `(k,)` the picture of each box.
      boxes: `(k, 4)`.
      scores: `(k,)`.
      limit: The overlap up to which a box is kept.
      of_smaller: As in `overlap`.

    Returns:
      Indices of the boxes that are left, by picture, the strongest first.
    """
    order = np.lexsort((-scores, which))
    pictures = np.split(order, np.flatnonzero(np.diff(which[order])) + 1)
    return np.concatenate([_undisputed(boxes, one, limit, of_smaller) for one in pictures])


def _undisputed(
    boxes: Boxes, order: npt.NDArray[np.intp], limit: float, of_smaller: bool
) -> npt.NDArray[np.intp]:
    sorted_boxes = boxes[order]
    left = []
    for start in range(0, len(order), _ROWS):
        rows = sorted_boxes[start : start + _ROWS]
        stronger = sorted_boxes[: start + len(rows)]
        disputed = overlap(rows, stronger, of_smaller=of_smaller) > limit
        left.append(~np.tril(disputed, k=start - 1).any(axis=1))
    return order[np.concatenate(left)] if left else order


def squared(boxes: Boxes) -> Boxes:
    """Grows the shorter side of each box to the longer one, about the centre."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    side = sizes.max(axis=1, keepdims=True, initial=0)
    corner = boxes[:, :2] + (sizes - side) / 2
    return np.concatenate([corner, corner + side], axis=1)


def moved(boxes: Boxes, offsets: npt.NDArray[np.floating]) -> Boxes:
    """Moves the edges of boxes by offsets in parts of their size, counted in whole pixels."""
    sizes = boxes[:, 2:] - boxes[:, :2] + 1
    return boxes + offsets * np.tile(sizes, 2)
