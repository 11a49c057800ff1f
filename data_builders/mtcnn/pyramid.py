"""The levels of an image pyramid side by side on one canvas: P-Net looks once at each frame.

A level for itself needs a call and, for most sizes of frames, a compiled shape of its own. Small
ones would be padding for the most part.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from data_builders.mtcnn import networks

_STEP = 0.709  # scale from one level of the pyramid to the next: half the area
_MULTIPLES = 16, 32  # height and width of a canvas: frames of nearly one size share a shape

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Pyramid:
    """Where each level lies on the canvas.

    Attributes:
      scales: Scale of each level, the largest first.
      sizes: `(height, width)` of each level.
      corners: `(y, x)` of the top left pixel of each level; even numbers.
      canvas: `(height, width)` of the canvas; multiples of 16 and 32.
      pooled: `(height / 2 - 1, width / 2 - 1, 2, 2)` bool, which outputs of the first convolution
        may be pooled: the last window of a level of odd size has one row or column less.
      rows: `(heights of all levels, height of the image)` sparse: the means that shrink the rows.
      level: `(height / 2, width / 2)` int8: of which level a window of P-Net is that begins at this
        cell of 2x2 px; -1 where it is not within one.
    """

    scales: npt.NDArray[np.float64]
    sizes: tuple[Size, ...]
    corners: npt.NDArray[np.int64]
    canvas: Size
    pooled: npt.NDArray[np.bool_]
    level: npt.NDArray[np.int8]
    rows: Any

    def drawn(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Draws all levels of an image of the size that the pyramid was made for.

        Args:
          image: `(height, width, 3)`.

        Returns:
          The canvas, `(height, width, 3)`, values 0 to 255.
        """
        canvas = np.zeros((*self.canvas, 3), np.float32)
        height, width = image.shape[:2]
        # OpenCV shrinks rows fast, and columns slowly: what is left of the columns is fewer.
        shrunk = (self.rows @ image.reshape(height, -1).astype(np.float32)).reshape(-1, width, 3)
        top = 0
        for (high, wide), (y, x) in zip(self.sizes, self.corners, strict=True):
            level = resized(shrunk[top : top + high], (high, wide))
            canvas[y : y + high, x : x + wide] = level
            top += high
        return canvas


def levels(growth: float) -> int:
    """How many levels of a pyramid lie between a face and one that is so many times as large."""
    return max(0, int(math.log(max(growth, 1)) / -math.log(_STEP)))


@functools.lru_cache(maxsize=16)
def pyramid(size: Size, min_face: float, skipped: int = 0) -> Pyramid | None:
    """Plans the canvas of images of one size.

    Args:
      size: `(height, width)` of the images.
      min_face: Side of the smallest face, in pixels of the images; at least that of a window.
      skipped: How many of the largest levels to leave out, which show the smallest faces. One level
        is left in any case, and all that are left are as they would be with the others.

    Returns:
      The plan. None where the image is smaller than the smallest face.
    """
    from scipy.sparse import vstack

    scales, sizes = [], []
    scale = networks.WINDOW / min_face
    while min(size) * scale >= networks.WINDOW:
        scales.append(scale)
        sizes.append((int(size[0] * scale), int(size[1] * scale)))
        scale *= _STEP
    if not scales:
        return None
    first = min(skipped, len(scales) - 1)
    scales, sizes = scales[first:], sizes[first:]
    width = _multiple(sizes[0][1], _MULTIPLES[1])
    corners = _packed(sizes, width)
    bottom = max(y + height for (y, _), (height, _) in zip(corners, sizes, strict=True))
    canvas = _multiple(bottom, _MULTIPLES[0]), width
    rows = [_means(size[0], height) for height, _ in sizes]
    pooled = np.ones(canvas, np.bool_)
    level = np.full((canvas[0] // 2, canvas[1] // 2), -1, np.int8)
    for i, ((y, x), (high, wide)) in enumerate(zip(corners, sizes, strict=True)):
        pooled[y + high - 2 : y + high, x : x + wide] = False
        pooled[y : y + high, x + wide - 2 : x + wide] = False
        down, right = networks.cells(high), networks.cells(wide)
        level[y // 2 : y // 2 + down, x // 2 : x // 2 + right] = i
    by_cells = pooled.reshape(canvas[0] // 2, 2, canvas[1] // 2, 2).swapaxes(1, 2)[:-1, :-1]
    return Pyramid(
        np.array(scales), tuple(sizes), np.array(corners), canvas, by_cells, level, vstack(rows)
    )


def _means(pixels: int, fewer: int) -> Any:
    """The sparse matrix that shrinks a column of pixels: each row is a mean, with parts of pixels.

    Returns:
      `(fewer, pixels)` float32.
    """
    from scipy.sparse import csr_array

    step = pixels / fewer
    # A mean begins within a pixel, and ends within another.
    begin, first = np.arange(fewer) * step, np.arange(pixels)
    begin = begin[:, None]
    shared = np.minimum(first + 1, begin + step) - np.maximum(first, begin)
    return csr_array((np.maximum(shared, 0) / step).astype(np.float32))


def _packed(sizes: list[Size], width: int) -> list[Size]:
    """Places rectangles, the largest first, each as far up and then as far left as it fits.

    Returns:
      `(y, x)` of each, even numbers.
    """
    placed: list[tuple[int, int, int, int]] = []  # top, left, bottom, right
    for high, wide in ((height + height % 2, wide + wide % 2) for height, wide in sizes):
        corners = [(max((box[2] for box in placed), default=0), 0)]
        corners += [(top, right) for top, _, _, right in placed]
        corners += [(bottom, left) for _, left, bottom, _ in placed]
        top, left = min(
            (y, x)
            for y, x in corners
            if x + wide <= width
            and all(
                y >= bottom or y + high <= top or x >= right or x + wide <= left
                for top, left, bottom, right in placed
            )
        )
        placed.append((top, left, top + high, left + wide))
    return [(top, left) for top, left, _, _ in placed]


def _multiple(pixels: int, of: int) -> int:
    return -(-pixels // of) * of


def resized(image: npt.NDArray[Any], size: Size) -> npt.NDArray[Any]:
    """Shrinks or enlarges an image by the means of areas.

    Args:
      image: `(height, width, 3)`.
      size: `(height, width)` of the result.

    Returns:
      The result; the image itself where it has this size.
    """
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
