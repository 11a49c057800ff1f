"""The qualities that are not on disk: a whole video is compressed as others have done it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from data_builders import h264
from data_builders.records import Image

_MESSENGER_SIDE = 480  # px, the shorter side at most
_MESSENGER_CRFS = (28, 32)


def reencoded(path: Path, *, crf: int) -> Iterator[Image]:
    """Frames of a video after compression of the whole video: a codec uses neighbouring frames.

    The encoder looks further ahead than the frames that follow the last chosen one: to stop there
    would change its bits, and would save next to nothing.

    Args:
      path: The video.
      crf: Constant rate factor, see `h264.encode`.

    Returns:
      `(height, width, 3)` frames; an odd height or width is larger by one.
    """
    rate: Fraction = h264.probe(path).rate
    return h264.decode(h264.encode(_even(h264.decode(path)), crf=crf, fps=rate))


def sent_on(path: Path) -> Iterator[Image]:
    """Frames of a video that two messengers have passed on, see `messenger`."""
    size = next(h264.decode(path)).shape[:2]
    return messenger(h264.decode(path), size, rate=h264.probe(path).rate)


def messenger(
    frames: Iterable[Image], size: tuple[int, ...], *, rate: Fraction | int = 25
) -> Iterator[Image]:
    """Makes frames smaller and compresses them twice, as by two messengers.

    In the end, they are enlarged to their first size, because boxes are in its pixels.

    Args:
      frames: The frames.
      size: Their `(height, width)`.
      rate: Frames per second.

    Returns:
      `(height, width, 3)` frames; an odd height or width may be larger by one.
    """
    height, width = size
    shorter = min(height, width)
    if shorter > _MESSENGER_SIDE:
        scale = _MESSENGER_SIDE / shorter
        small = (2 * round(width * scale / 2), 2 * round(height * scale / 2))
        frames = (cv2.resize(f, small, interpolation=cv2.INTER_AREA) for f in frames)
    data = h264.encode(_even(frames), crf=_MESSENGER_CRFS[0], fps=rate)
    received = h264.decode(h264.encode(h264.decode(data), crf=_MESSENGER_CRFS[1], fps=rate))
    if shorter <= _MESSENGER_SIDE:
        return received
    enlarged = (cv2.resize(f, (width, height), interpolation=cv2.INTER_CUBIC) for f in received)
    return (np.asarray(frame, np.uint8) for frame in enlarged)


def _even(frames: Iterable[Image]) -> Iterator[Image]:
    """Repeats an odd last row or column, as 4:2:0 needs even sides; boxes do not reach it."""
    for frame in frames:
        odd = [(0, side % 2) for side in frame.shape[:2]]
        yield np.pad(frame, [*odd, (0, 0)], mode="edge")
