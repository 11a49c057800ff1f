"""The qualities that are not on disk: a whole video is compressed as others have done it."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from data_builders import h264
from data_builders.encoders import Encoders
from data_builders.records import Image

# The default preset of libx264 looks 40 frames ahead, and 3 for frames between two others. What
# comes later changes no bit of a frame.
_AHEAD = 48
# Pixels of a frame. Each encoder holds some fifty frames: larger ones are encoded one by one.
_MOST_TOGETHER = 1920 * 1088
_MESSENGER_SIDE = 480  # px, the shorter side at most
_MESSENGER_CRFS = (28, 32)


class Encodings:
    """A whole video at several CRFs, encoded while somebody looks at its frames.

    A codec uses neighbouring frames, so all of them are encoded up to the last that is wanted. What
    the encoder does not look at is left out.
    """

    def __init__(self, path: Path, crfs: Iterable[int], *, rate: Fraction, last: int) -> None:
        """Opens nothing yet.

        Args:
          path: The video.
          crfs: Constant rate factors, see `h264.encode`.
          rate: Frames per second.
          last: Index of the last frame that is wanted.
        """
        self._path, self._rate, self._last = path, rate, last
        self._waiting = list(dict.fromkeys(crfs))  # those that are not encoded yet
        self._running: list[int] = []
        self._begin()

    def frames(self) -> Iterator[Image]:
        """The frames of the video, see `h264.decode`. Each is encoded when it is taken."""
        return self._frames

    def decoded(self, indices: Collection[int]) -> dict[int, list[Image]]:
        """Some of the frames after compression, for each CRF. It takes what is left of the video.

        Args:
          indices: Which frames, up to `last`.

        Returns:
          `(height, width, 3)` frames; an odd height or width is larger by one.

        Raises:
          BrokenVideoError: The video cannot be read as far as the encoder looks.
        """
        made: dict[int, list[Image]] = {}
        while True:
            for _ in itertools.islice(self._frames, max(0, self._looked_at - self._taken)):
                pass
            if self._broken is not None:
                raise self._broken
            for crf, data in zip(self._running, self._encoders.finish(), strict=True):
                made[crf] = [frame for _, frame in h264.sampled(data, indices)]
            if not self._waiting:
                return made
            self._begin()

    @property
    def _looked_at(self) -> int:
        return self._last + 1 + _AHEAD

    def _begin(self) -> None:
        self._taken = 0
        self._broken: h264.BrokenVideoError | None = None
        self._frames = self._encoded_on_the_way()

    def _encoded_on_the_way(self) -> Iterator[Image]:
        try:
            for frame in h264.decode(self._path):
                if not self._taken:
                    together = len(self._waiting) if frame.size <= 3 * _MOST_TOGETHER else 1
                    self._running = self._waiting[:together]
                    self._waiting = self._waiting[together:]
                    self._encoders = Encoders(self._running, fps=self._rate, last=self._last)
                if self._taken < self._looked_at:
                    self._encoders.add(_even(frame))
                self._taken += 1
                yield frame
        except h264.BrokenVideoError as error:
            # Who takes the frames may need none of these; the encoder does.
            if self._taken < self._looked_at:
                self._broken = error
            raise


def compressed(
    frames: Iterable[Image], crfs: Iterable[int], indices: Sequence[int]
) -> dict[int, list[Image]]:
    """Some of the frames of a clip of 25 a second after compression, for each CRF.

    Args:
      frames: `(height, width, 3)` frames, of even sides.
      crfs: Constant rate factors, see `h264.encode`.
      indices: Which frames, ascending.
    """
    different = list(dict.fromkeys(crfs))
    encoders = Encoders(different, last=indices[-1])
    for frame in frames:
        encoders.add(frame)
    return {
        crf: [frame for _, frame in h264.sampled(data, indices)]
        for crf, data in zip(different, encoders.finish(), strict=True)
    }


def sent_on(path: Path, *, last: int) -> Iterator[Image]:
    """Frames of a video that two messengers have passed on, see `messenger`.

    Args:
      path: The video.
      last: As in `Encodings`.
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
    data = h264.encode(map(_even, frames), crf=_MESSENGER_CRFS[0], fps=rate)
    received = h264.decode(h264.encode(h264.decode(data), crf=_MESSENGER_CRFS[1], fps=rate))
    if shorter <= _MESSENGER_SIDE:
        return received
    enlarged = (cv2.resize(f, (width, height), interpolation=cv2.INTER_CUBIC) for f in received)
    return (np.asarray(frame, np.uint8) for frame in enlarged)


def _even(frame: Image) -> Image:
    """Repeats an odd last row or column, as 4:2:0 needs even sides; boxes do not reach it."""
    height, width = frame.shape[:2]
    if height % 2 == width % 2 == 0:
        return frame
    return np.pad(frame, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")
