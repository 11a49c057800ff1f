"""Another person's face, brought into the place and the colours of a face."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from data_builders.self_blended import footage
from data_builders.self_blended.face import Face, Map, onto

Image = npt.NDArray[np.uint8]

# In sizes of the face: how far a landmark's step reaches, the longest step that is made, and from
# where on it fades out. Heads that are turned in another way stay as they are. In a video, what
# fades does not switch from frame to frame.
_REACH, _STEP, _LONGEST = 0.3, 0.08, 0.12
# By how much at most the step changes from a pixel to its neighbours. Below a half, nothing is
# folded: neighbours stay in their order, and the map keeps its orientation.
_STEEPEST = 0.45


def worn(
    donor: tuple[Image, Face], face: Face, shape: tuple[int, int], *, fitted: bool
) -> npt.NDArray[np.float32]:
    """The donor's image, turned, scaled and moved so that the faces lie upon each other.

    Args:
      donor: Another person's image and face.
      face: The face whose place is taken.
      shape: `(height, width)` of the image in which it is.
      fitted: Whether eyes, nose and corners of the mouth also come to the same pixels.

    Returns:
      `(height, width, 3)` float32, of 255.
    """
    image, theirs = _no_larger(donor, face)
    matrix = onto(theirs, face)
    placed = cv2.warpAffine(
        image,
        matrix,
        (shape[1], shape[0]),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    ).astype(np.float32)
    if not fitted:
        return placed
    steps = theirs.landmarks @ matrix[:, :2].T + matrix[:, 2] - face.landmarks
    # A sum of bells, one on each landmark, which is exactly the step on each.
    width = _REACH * face.size
    apart = np.linalg.norm(face.landmarks[:, None] - face.landmarks[None], axis=2) / width
    heights = np.linalg.solve(np.exp(-(apart**2)) + 1e-3 * np.eye(len(apart)), steps)
    heights *= np.interp(np.abs(steps).max() / face.size, [_STEP, _LONGEST], [1, 0])
    columns, rows = np.meshgrid(np.arange(shape[1]), np.arange(shape[0]), sparse=True)
    moves = np.zeros((2, *shape), np.float32)
    for (u, v), step in zip(face.landmarks, heights, strict=True):
        across = np.exp(-(((columns - u) / width) ** 2))
        bell = np.asarray(np.exp(-(((rows - v) / width) ** 2)) * across, np.float32)
        moves += step.astype(np.float32)[:, None, None] * bell
    steepest = max(float(np.abs(np.diff(moves, axis=axis)).max()) for axis in (1, 2))
    moves *= _STEEPEST / max(steepest, _STEEPEST)
    moved = cv2.remap(
        placed,
        np.asarray(columns + moves[0], np.float32),
        np.asarray(rows + moves[1], np.float32),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.asarray(moved, np.float32)


def _no_larger(donor: tuple[Image, Face], face: Face) -> tuple[Image, Face]:
    """The donor, shrunk where it is larger than the face. A warp would skip pixels."""
    image, theirs = donor
    matrix = onto(theirs, face)
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if scale >= 1:
        return donor
    small = footage.scaled(image, scale)
    across, down = small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]
    # A pixel's centre is half a pixel from the edge.
    shrink = np.array([[across, 0, across / 2 - 0.5], [0, down, down / 2 - 0.5]])
    return small, theirs.moved(shrink)


def matched(image: Map, target: Image, mask: Map) -> Map:
    """Gives an image the mean and the spread of another's colours under a mask, in Lab.

    Args:
      image: `(height, width, 3)` float32 RGB, of 255.
      target: The same shape.
      mask: `(height, width)` from 0 to 1.
    """
    inside = mask > 0.5
    if not inside.any():
        return image
    lab, wanted = (
        cv2.cvtColor(np.clip(one, 0, 255).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        for one in (image, target)
    )
    mean, std = lab[inside].mean(0), lab[inside].std(0)
    to_mean, to_std = wanted[inside].mean(0), wanted[inside].std(0)
    ratio = np.clip(to_std / np.maximum(std, 1e-3), 0.6, 1.6)
    same = (lab - mean) * ratio + to_mean
    return np.asarray(cv2.cvtColor(np.float32(same), cv2.COLOR_LAB2RGB) * 255, np.float32)


def seamless(image: Map, target: Image, mask: Map) -> Map:
    """Gives an image the colours of another's along the edge of a mask, and keeps its detail.

    Reference: Pérez, Gangnet & Blake, "Poisson Image Editing", SIGGRAPH 2003.

    Args:
      image: `(height, width, 3)` float32 RGB, of 255.
      target: The same shape.
      mask: `(height, width)` from 0 to 1.
    """
    area = np.asarray((mask > 0.02) * 255, np.uint8)
    area[[0, -1]] = 0
    area[:, [0, -1]] = 0
    x, y, width, height = cv2.boundingRect(area)
    if min(width, height) < 3:
        return image
    plain = np.asarray(np.rint(np.clip(image, 0, 255)), np.uint8)
    middle = x + width // 2, y + height // 2
    cloned = cv2.seamlessClone(plain, target, area, middle, cv2.NORMAL_CLONE)
    return np.asarray(cloned, np.float32)
