"""Encodes frames with libx264 as they come, at several CRFs at a time; `h264` names the recipe."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import cv2
import numpy as np

from data_builders.png import Image

_MAX_CRF = 51  # of 8-bit libx264
# In libx264, the AVX-512 code that weighs blocks by the frames to come reads memory that nobody has
# written, where a row is no multiple of 8 blocks of 16 pixels: the bytes of a file then depend on
# what the process did before. The AVX2 code does not, and takes up to 10 % longer. libx264 believes
# what it is told, so it is told only where there is AVX-512, which includes AVX2.
_AVX512 = 256  # OpenCV's number of AVX512-SKX, the part that libx264 uses
_EXACT: dict[str, str] = {"x264-params": "asm=AVX2"} if cv2.checkHardwareSupport(_AVX512) else {}


class Encoders:
    """Encodes the same frames at several CRFs as `h264.encode` does, and converts them once."""

    def __init__(
        self, crfs: Sequence[int], *, fps: int | Fraction = 25, last: int | None = None
    ) -> None:
        """Begins files that have no frame yet.

        Args:
          crfs: Constant rate factors.
          fps: As for `h264.encode`.
          last: Index of the last frame that is wanted; None: all are. Frames after it are looked
            at, as the encoder looks ahead, and most of them are not written.

        Raises:
          ValueError: A CRF is out of range.
        """
        self._encodings = [_Encoding(crf, fps, last) for crf in crfs]
        self._shape: tuple[int, ...] | None = None

    def add(self, frame: Image) -> None:
        """Encodes one more frame, see `h264.encode`.

        Raises:
          ValueError: Its shape, type or size cannot be encoded, or is not that of the others.
        """
        if self._shape is None:
            _check_size(frame.shape, even=any(one.crf for one in self._encodings))
            self._shape = frame.shape
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ValueError(
                f"every frame must be uint8 of shape {self._shape}, got {frame.dtype} {frame.shape}"
            )
        if all(one.is_complete() for one in self._encodings):
            return
        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        halved: av.VideoFrame | None = None
        for one in self._encodings:
            if one.crf and halved is None:
                # The encoder's own conversion gives other chroma values now and then.
                halved = image.reformat(format="yuv420p")
            one.add(image if halved is None or not one.crf else halved)

    def finish(self) -> list[bytes]:
        """Ends the files. Nothing can be added after it.

        Returns:
          The bytes of the file of each CRF. Frames up to `last` decode as those of the whole file
          would.

        Raises:
          ValueError: There are no frames.
        """
        if self._shape is None:
            raise ValueError("a video needs at least one frame")
        return [one.finish() for one in self._encodings]


class _Encoding:
    """One file that is written."""

    def __init__(self, crf: int, fps: int | Fraction, last: int | None) -> None:
        if not 0 <= crf <= _MAX_CRF:
            raise ValueError(f"crf must lie between 0 and {_MAX_CRF}, got {crf}")
        self.crf = crf
        self._step = 1 / Fraction(fps)
        self._added = 0
        self._last = last
        self._missing = None if last is None else last + 1  # wanted frames that are not written
        self._file = io.BytesIO()
        # Bit-exact: the file has neither the name of the library nor the date.
        options = {"fflags": "+bitexact"}
        self._container = av.open(self._file, "w", format="mp4", container_options=options)
        # Above CRF 0, quantisation loses more than the conversion from RGB. At 0 the conversion
        # would be the only loss, so the frames stay RGB.
        stream = self._container.add_stream("libx264" if crf else "libx264rgb", rate=fps)
        stream.pix_fmt = "yuv420p" if crf else "rgb24"
        # The number of slices and the lookahead depend on the number of threads, and the bytes on
        # them: there is one thread on every machine.
        stream.options = {"crf": str(crf), "threads": "1", **_EXACT}
        if crf == 0:  # the preset changes no pixel then: 15 % more bytes in a third of the time
            stream.options["preset"] = "ultrafast"
        self._stream = stream

    def is_complete(self) -> bool:
        """Whether all frames that are wanted are written."""
        return self._missing is not None and self._missing <= 0

    def add(self, image: av.VideoFrame) -> None:
        if not self._added:
            self._stream.height, self._stream.width = image.height, image.width
        # One image goes to several encoders, so none of them shall number it.
        image.pts, image.time_base = self._added, self._step
        self._added += 1
        self._write(image)

    def finish(self) -> bytes:
        self._write(None)
        self._container.close()
        return self._file.getvalue()

    def _write(self, image: av.VideoFrame | None) -> None:
        """Writes what the encoder gives for an image, or for the end, up to what is wanted."""
        if self.is_complete():
            return
        for packet in self._stream.codec_context.encode_lazy(image):
            if self._last is not None and self._missing is not None:
                # Packets come in the order of decoding: all that a frame needs are before it.
                self._missing -= packet.pts is not None and packet.pts <= self._last
            packet.stream = self._stream
            self._container.mux(packet)
            if self.is_complete():
                return


def _check_size(shape: tuple[int, ...], *, even: bool) -> None:
    if len(shape) != 3 or shape[2] != 3:
        raise ValueError(f"frames must be (height, width, 3), got {shape}")
    if even and (shape[0] % 2 or shape[1] % 2):
        raise ValueError(
            f"frames are {shape[1]}x{shape[0]}, but 4:2:0 video has an even width and height: "
            "crop or pad them by one pixel, or use crf=0"
        )
