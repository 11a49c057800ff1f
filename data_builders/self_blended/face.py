"""Where a face is in an image, and soft masks of its parts that follow five landmarks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Points: TypeAlias = npt.NDArray[np.floating]
Map: TypeAlias = npt.NDArray[np.float32]

#: The parts of a face that are replaced.
FULL, LOWER, UPPER, EYES, INNER = "full", "lower", "upper", "eyes", "inner"
#: Those of generators that put a rectangle back: about the head, and about mouth and chin.
HEAD, JAW = "head", "jaw"
PARTS = (FULL, LOWER, UPPER, EYES, INNER, HEAD, JAW)

# For each part its ellipses, in the coordinates of `Face.coordinates`: the centre, and half the
# width and the height. The eyes are at (-0.5, 0) and (0.5, 0), the mouth is around (0, 1).
_ELLIPSES: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    FULL: ((0.0, 0.45, 1.0, 1.35),),
    LOWER: ((0.0, 1.05, 0.8, 0.75),),
    UPPER: ((0.0, 0.0, 1.0, 0.6),),
    EYES: ((-0.5, 0.0, 0.36, 0.26), (0.5, 0.0, 0.36, 0.26)),
    INNER: ((0.0, 0.5, 0.88, 0.95),),
}
# The same for rectangles. The first lies within what a painter paints, see `painter.REACH`.
_RECTANGLES: dict[str, tuple[float, float, float, float]] = {
    HEAD: (0.0, 0.45, 1.4, 1.4),
    JAW: (0.0, 1.15, 1.1, 0.85),
}


@dataclasses.dataclass(frozen=True)
class Face:
    """A face in an image.

    Attributes:
      box: `(4,)` x0, y0, x1, y1 of the face, as a detector gives it, in pixels.
      landmarks: `(5, 2)` x, y of eyes, nose and corners of the mouth, in pixels, in the order of
        `mtcnn.Detections`.
    """

    box: Points
    landmarks: Points

    @property
    def size(self) -> float:
        """The larger side of the box."""
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))

    def moved(self, matrix: npt.NDArray[Any]) -> Face:
        """The face after an affine map of the image.

        Args:
          matrix: `(2, 3)`, from old to new pixels. It keeps squares nearly square: the box stays
            upright about its centre.
        """
        scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
        centre = matrix[:, :2] @ ((self.box[:2] + self.box[2:]) / 2) + matrix[:, 2]
        half = (self.box[2:] - self.box[:2]) / 2 * scale
        landmarks = self.landmarks @ matrix[:, :2].T + matrix[:, 2]
        return Face(np.concatenate([centre - half, centre + half]), landmarks)

    def coordinates(self) -> npt.NDArray[np.float64]:
        """The affine map from pixels to the coordinates of the face.

        Returns:
          `(2, 3)`. The eyes come to (-0.5, 0) and (0.5, 0), the middle of the mouth to (s, 1), with
          a small s where the head is turned.
        """
        left, right, _, *mouth = self.landmarks.astype(np.float64)
        middle = (left + right) / 2
        across = right - left
        down = np.mean(mouth, axis=0) - middle
        # A head in profile has its eyes on one line: the width is then that of a narrow face.
        least = 0.5 * np.linalg.norm(down)
        upright = np.array([down[1], -down[0]])
        if np.linalg.norm(across) < least:
            across = upright * (least / max(1e-6, float(np.linalg.norm(upright))))
        square = np.stack([across, down - across * (down @ across) / (across @ across)], axis=1)
        inverse = np.linalg.inv(square)
        return np.concatenate([inverse, -(inverse @ middle)[:, None]], axis=1)


def around(found: Sequence[Face]) -> Face:
    """One face for several images: the box around all boxes, the landmarks of the first."""
    boxes = np.stack([face.box for face in found])
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    return Face(box, found[0].landmarks)


def places(face: Face, shape: tuple[int, int]) -> tuple[Map, Map]:
    """The coordinates of the face, see `Face.coordinates`, at each pixel of an image."""
    columns, rows = np.meshgrid(np.arange(shape[1]), np.arange(shape[0]), sparse=True)
    u, v = (np.asarray(a * columns + b * rows + c, np.float32) for a, b, c in face.coordinates())
    return u, v


def mask(
    face: Face,
    part: str,
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    softness: float,
) -> Map:
    """Draws a part of a face: ellipses with an uneven, soft edge, or a rectangle with a soft one.

    Args:
      face: The face.
      part: One of `PARTS`.
      shape: `(height, width)` of the image.
      rng: Draws the size and the unevenness.
      softness: Width of the edge, in parts of the shape; 0.02 is a hard edge, 0.5 a broad one.

    Returns:
      `shape` float32 from 0 to 1.
    """
    height, width = shape
    u, v = places(face, shape)
    grow = rng.uniform(0.88, 1.12)
    # Smooth noise over the image: where the face fills it, of the size of its features.
    small = rng.standard_normal((8, 8)).astype(np.float32)
    uneven = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC) * 0.06
    # 1 in the middle, 0 on the edge, below outside.
    if part in _RECTANGLES:
        x, y, half_width, half_height = _RECTANGLES[part]
        across, down = np.abs(u - x) / (half_width * grow), np.abs(v - y) / (half_height * grow)
        depth = np.asarray(1 - np.maximum(across, down), np.float32)
    else:
        depth = np.full(shape, -np.inf, np.float32)
        for x, y, half_width, half_height in _ELLIPSES[part]:
            radius = np.hypot((u - x) / (half_width * grow), (v - y) / (half_height * grow))
            depth = np.maximum(depth, 1 - radius + uneven)
    inside = np.clip(depth / max(softness, 1e-3), 0, 1)
    return np.asarray(inside * inside * (3 - 2 * inside), np.float32)


def around_face(face: Face, shape: tuple[int, int]) -> Map:
    """A face with its neck and a broad, soft edge, which reaches past what fakes replace.

    Args:
      face: The face.
      shape: `(height, width)` of the image.

    Returns:
      `shape` float32 from 0 to 1.
    """
    u, v = places(face, shape)
    depth = 1 - np.hypot(u / 1.5, (v - 0.6) / 2.1)
    return np.asarray(np.clip(depth / 0.35, 0, 1), np.float32)


def person(face: Face, shape: tuple[int, int]) -> Map:
    """About where a person is: an ellipse for the head with its hair, and shoulders below.

    Args:
      face: The face.
      shape: `(height, width)` of the image.

    Returns:
      `shape` float32, 1 on the person and 0 behind, with an edge that is a fifth of the distance
      of the eyes wide.
    """
    u, v = places(face, shape)
    head = 1 - np.hypot(u / 1.5, (v - 0.3) / 2.1)
    shoulders = np.minimum(v - 1.6, 1.1 + 1.2 * (v - 1.6) - np.abs(u))
    edge = 0.2
    return np.asarray(np.clip(0.5 + np.maximum(1.5 * head, shoulders) / edge, 0, 1), np.float32)


def onto(source: Face, target: Face) -> npt.NDArray[np.float64]:
    """The similarity that brings one face onto another, by least squares over the landmarks.

    Returns:
      `(2, 3)`, from pixels of the source to pixels of the target.
    """
    a, b = (face.landmarks.astype(np.float64) for face in (source, target))
    mean_a, mean_b = a.mean(0), b.mean(0)
    # As complex numbers, a rotation with a scale is one factor.
    p, q = ((points - mean) @ np.array([1, 1j]) for points, mean in ((a, mean_a), (b, mean_b)))
    factor = np.vdot(p, q) / max(1e-9, float(np.vdot(p, p).real))
    turn = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.concatenate([turn, (mean_b - turn @ mean_a)[:, None]], axis=1)
