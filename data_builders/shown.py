"""The pixels of a decoded frame as a player shows them: upright, and with square pixels."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import SideDataContainer

# Encoders round sizes to whole blocks: shapes and pixels that differ by less are the same.
_SAME_SHAPE = 0.02
#: Pixels of a frame. The largest of H.264 has 8192 x 4320.
MOST_PIXELS = 36_000_000
_LONGEST_PIXEL = 4  # width to height, or height to width; a file that says more is not believed
_UPRIGHT = 1, 0, 0, 1


class View(NamedTuple):
    """How a stream is shown.

    Attributes:
      pixel: Width of a pixel over its height.
      matrix: How x and y on the screen follow from x and y in the file: signs of xx, xy, yx, yy.
    """

    pixel: Fraction
    matrix: tuple[int, int, int, int]

    @classmethod
    def of(cls, decoded: av.VideoFrame, stream: Any) -> View:
        """Reads it from the first frame and its stream, once: a look at every frame takes time."""
        return cls(_pixel_shape(stream, decoded.width * decoded.height), _display_matrix(decoded))

    def notes(self) -> list[str]:
        """Says in words what is shown otherwise than it is stored."""
        notes = []
        if self.matrix != _UPRIGHT:
            notes.append("stored turned or mirrored: the display matrix is obeyed")
        if self.pixel != 1:
            ratio = f"{self.pixel.numerator}:{self.pixel.denominator}"
            notes.append(f"pixels are not square ({ratio}): frames are enlarged")
        return notes


def pixels(decoded: av.VideoFrame, view: View) -> npt.NDArray[np.uint8]:
    """Converts a frame to RGB.

    Args:
      decoded: The frame.
      view: How its stream is shown.

    Returns:
      `(height, width, 3)`. A side is enlarged where pixels are not square, so nothing is lost.
    """
    frame = np.asarray(decoded.to_ndarray(format="rgb24"), np.uint8)
    if view == _PLAIN:
        return frame
    height, width = frame.shape[:2]
    if view.pixel != 1:
        tall, wide = max(1 / view.pixel, Fraction(1)), max(view.pixel, Fraction(1))
        frame = scaled(frame, (round(height * tall), round(width * wide)))
    xx, xy, yx, yy = view.matrix
    if xy:
        frame = frame.transpose(1, 0, 2)
    return np.ascontiguousarray(frame[:: yx or yy, :: xy or xx])


def same_shape(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two sizes, height and width, are of one shape but for rounding."""
    return abs(one[1] * other[0] / (one[0] * other[1]) - 1) <= _SAME_SHAPE


def scaled(frame: npt.NDArray[np.uint8], shape: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Scales a frame to a height and width."""
    how = cv2.INTER_AREA if frame.shape[0] > shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(frame, (shape[1], shape[0]), interpolation=how), np.uint8)


def side_data(decoded: av.VideoFrame, kind: str) -> bytes | None:
    """What a codec tells of a frame beside its pixels.

    `decoded.side_data` would tie the frame and its data into a ring, which only the collector of
    garbage frees: it comes after a hundred frames, which are gigabytes of 4K.

    Args:
      decoded: The frame.
      kind: A name of `av.sidedata.sidedata.Type`.

    Returns:
      The data as libavutil lays it out; None where there is none.
    """
    container: Any = SideDataContainer  # its stub does not know that it takes a frame
    stored = container(decoded).get(kind)
    return None if stored is None else bytes(stored)


def _pixel_shape(stream: Any, pixels: int) -> Fraction:
    """Width of a pixel over its height; 1 where it is nearly so, or is not to be believed."""
    ratio = Fraction(stream.sample_aspect_ratio or 1)  # an AVRational in PyAV 19
    longer = max(ratio, 1 / ratio)
    believed = 1 + _SAME_SHAPE < longer <= _LONGEST_PIXEL and pixels * longer <= MOST_PIXELS
    return ratio if believed else Fraction(1)


def _display_matrix(decoded: av.VideoFrame) -> tuple[int, int, int, int]:
    """Reads the signs of a display matrix.

    Quarter turns and mirrors have one sign in each row. Other angles go to the nearest of these.
    """
    stored = side_data(decoded, "DISPLAYMATRIX")
    if stored is None:
        return _UPRIGHT
    matrix = np.frombuffer(stored, np.int32)[[0, 3, 1, 4]].astype(float)
    xx, xy, yx, yy = map(int, np.sign(matrix))
    size = np.abs(matrix)
    if xy and yx and size[1] + size[2] > size[0] + size[3]:
        return 0, xy, yx, 0
    return (xx, 0, 0, yy) if xx and yy else _UPRIGHT


_PLAIN = View(Fraction(1), _UPRIGHT)
