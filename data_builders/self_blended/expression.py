"""Faces that close their eyes, or one of them: photographs of people hardly ever show that.

A detector that learns from portraits takes closed eyes for the sign of a fake, because only fakes
have eyes that are unlike those of portraits. So some faces close them here before anything else is
done, and real clip and fake share it.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from data_builders.records import Image
from data_builders.self_blended.face import Face, Map, places

# In the coordinates of `Face.coordinates`: where the eyes are, how far from there skin moves, and
# half the height of an open eye. An eye is about a sixth as high as the eyes are apart, and
# landmarks are not exact.
_EYES = (-0.5, 0.5)
_WIDE, _HIGH = 0.38, 0.34
_OPEN = 0.1
_LOWER = 0.05  # the upper lid comes down to the lower one, so the slit is below the middle
_SLIT = 0.12  # of the height of an open eye: lashes between the lids


class Lids(NamedTuple):
    """How far the eye on the left and on the right of the image are closed: 0 not, 1 wholly."""

    left: float = 0.0
    right: float = 0.0


def draw(rng: np.random.Generator) -> Lids:
    """Draws whether a face closes its eyes: three in twenty do, and one in twenty closes one.

    Args:
      rng: Draws.
    """
    chance, closed = rng.uniform(), float(rng.uniform(0.5, 1.0))
    if chance < 0.15:
        return Lids(closed, closed)
    if chance < 0.2:
        return Lids(closed, 0.0) if rng.random() < 0.5 else Lids(0.0, closed)
    return Lids()


def shown(image: Image, face: Face, lids: Lids) -> Image:
    """The image in which the lids come together.

    The pixels of an open eye are pressed together to a slit, and the skin above and below is
    stretched as far as the brow and the cheek, which stay where they are.

    Args:
      image: `(height, width, 3)` uint8 RGB.
      face: The face in it.
      lids: How far they close.

    Returns:
      A new image; the same one where nothing moves.
    """
    if not any(lids):
        return image
    to_pixels = np.linalg.inv(face.coordinates()[:, :2])
    eyes = face.landmarks[:2].mean(axis=0)
    reach = np.abs(to_pixels) @ (_EYES[1] + _WIDE, _HIGH)
    size = image.shape[1::-1]
    left, top = np.clip(np.floor(eyes - reach), 0, size).astype(int)
    right, bottom = np.clip(np.ceil(eyes + reach) + 1, 0, size).astype(int)
    if min(right - left, bottom - top) < 2:  # the eyes are outside of the image
        return image
    part = image[top:bottom, left:right]
    here = face.moved(np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]]))
    u, v = places(here, part.shape[:2])
    down = _steps(u, v, lids)
    across, along = to_pixels[:, 1].astype(np.float32)  # of one unit downwards
    rows, columns = np.indices(u.shape, np.float32)
    result = image.copy()
    result[top:bottom, left:right] = cv2.remap(
        part,
        columns + across * down,
        rows + along * down,
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    return result


def _steps(u: Map, v: Map, lids: Lids) -> Map:
    """From how far below each pixel comes, in the coordinates of the face; above where negative."""
    down = np.zeros(u.shape, np.float32)
    for centre, closed in zip(_EYES, lids, strict=True):
        # Fewer and fewer towards the corners of the eye, where the lids meet anyway.
        aside = np.clip(1 - np.abs(u - centre) / _WIDE, 0, 1)
        near = np.clip(2 * aside, 0, 1)
        share = closed * near * near * (3 - 2 * near)
        half = _OPEN * (1 - share * (1 - _SLIT))
        middle = share * _LOWER
        above, below = middle - half, middle + half
        # Where each height comes from: piecewise linear from brow to lid, lid to lid, lid to cheek.
        source = np.where(
            v < above,
            -_HIGH + (v + _HIGH) * (_HIGH - _OPEN) / (above + _HIGH),
            np.where(
                v > below,
                _HIGH + (v - _HIGH) * (_HIGH - _OPEN) / (_HIGH - below),
                (v - middle) * _OPEN / half,
            ),
        )
        down += np.where(np.abs(v) < _HIGH, source - v, 0).astype(np.float32)
    return down
