"""The qualities that are not on disk: a whole video is compressed as others have done it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from data_builders import h264
from data_builders.records import Image

# The default preset of libx264 looks 40 frames ahead, and 3 for frames between two others. What
# comes later changes no bit of a frame.
_AHEAD = 48
_MESSENGER_SIDE = 480  # px, the shorter side at most
_MESSENGER_CRFS = (28, 32)


def reencoded(path: Path, *, crf: int, last: int) -> Iterator[Image]:
    """Frames of a video after compression of the whole video: a codec uses neighbouring frames.

    Args:
      path: The video.
      crf: Constant rate factor, see `h264.encode`.
      last: Index of the last frame that is wanted. What the encoder does not look at is left out.

    Returns:
      `(height, width, 3)` frames; an odd height or width is larger by one.
    """
    rate: Fraction = h264.probe(path).rate
    frames = itertools.islice(h264.decode(path), last + 1 + _AHEAD)
    return h264.decode(h264.encode(_even(frames), crf=crf, fps=rate))


def sent_on(path: Path, *, last: int) -> Iterator[Image]:
    """Frames of a video that two messengers have passed on, see `messenger`.

    Args:
      path: The video.
      last: As in `reencoded`.
    """
    size = next(h264.decode(path)).shape[:2]
    frames = itertools.islice(h264.decode(path), last + 1 + 2 * _AHEAD)  # for two encoders
    return messenger(frames, size, rate=h264.probe(path).rate)


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
