"""H.264: encodes and decodes with the compression that this project is about.

The recipe is that of FaceForensics++: libx264 with its default preset at a constant rate factor
(CRF). CRF 23 is ordinary web video, 40 is heavy compression, and 0 loses nothing.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

import av
import numpy as np
import numpy.typing as npt

from data_builders.errors import UnusableClipError

Frame: TypeAlias = npt.NDArray[np.uint8]

_MAX_CRF = 51  # of 8-bit libx264


class BrokenVideoError(UnusableClipError):
    """The file is not a video, or ends before its index says so."""


def encode(frames: Iterable[Frame], *, crf: int, fps: int | Fraction = 25) -> bytes:
    """Encodes frames as an MP4 file in memory. The same frames always give the same bytes.

    Args:
      frames: `(height, width, 3)` uint8 RGB frames, all of one size.
      crf: Constant rate factor, 0 to 51. At 0 the frames stay RGB and nothing is lost. Above it
        they become 4:2:0, so height and width must be even.
      fps: Frames per second: the rate control spends fewer bits on frames that are shown for a
        shorter time.

    Returns:
      The bytes of the file.

    Raises:
      ValueError: There are no frames, or their shape, type or size cannot be encoded.
    """
    if not 0 <= crf <= _MAX_CRF:
        raise ValueError(f"crf must lie between 0 and {_MAX_CRF}, got {crf}")
    file = io.BytesIO()
    shape: tuple[int, ...] | None = None
    # Bit-exact: the file has neither the name of the library nor the date.
    with av.open(file, "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        # Above CRF 0, quantisation loses more than the conversion from RGB. At 0 the conversion
        # would be the only loss, so the frames stay RGB.
        stream = container.add_stream("libx264" if crf else "libx264rgb", rate=fps)
        stream.pix_fmt = "yuv420p" if crf else "rgb24"
        # The number of slices and the lookahead depend on the number of threads, and the bytes on
        # them: there is one thread on every machine.
        stream.options = {"crf": str(crf), "threads": "1"}
        if crf == 0:  # the preset changes no pixel then: 15 % more bytes in a third of the time
            stream.options["preset"] = "ultrafast"
        for frame in frames:
            if shape is None:
                shape = frame.shape
                _check_size(shape, even=crf > 0)
                stream.height, stream.width = shape[:2]
            if frame.shape != shape or frame.dtype != np.uint8:
                raise ValueError(
                    f"every frame must be uint8 of shape {shape}, got {frame.dtype} {frame.shape}"
                )
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            if crf:
                # The encoder's own conversion gives other chroma values now and then.
                image = image.reformat(format="yuv420p")
            container.mux(stream.encode(image))
        if shape is None:
            raise ValueError("a video needs at least one frame")
        container.mux(stream.encode(None))
    return file.getvalue()


class Facts(NamedTuple):
    """Number of frames of a video, and frames per second."""

    frames: int
    rate: Fraction


def probe(path: str | os.PathLike[str]) -> Facts:
    """Reads a video's index, and counts the frames where the index does not say how many.

    Args:
      path: The file.

    Raises:
      BrokenVideoError: The file is not a video, or has no index: it is not complete.
      FileNotFoundError: There is no such file.
    """
    try:
        with av.open(os.fspath(path), "r") as file:
            stream = _video_stream(file, path)
            frames, rate = stream.frames, stream.average_rate or Fraction(25)
    except FileNotFoundError:
        raise
    except av.FFmpegError as error:
        raise _broken(path, error) from error
    return Facts(frames or sum(1 for _ in decode(path)), rate)


def _video_stream(file: av.container.InputContainer, name: object) -> Any:
    if not file.streams.video:
        raise BrokenVideoError(f"{name}: holds no video stream; expected an H.264 video")
    return file.streams.video[0]


def _broken(name: object, error: av.FFmpegError) -> BrokenVideoError:
    return BrokenVideoError(
        f"{name}: cannot be decoded ({error.strerror}): it is damaged or not complete; fetch it "
        "again"
    )


def _check_size(shape: tuple[int, ...], *, even: bool) -> None:
    if len(shape) != 3 or shape[2] != 3:
        raise ValueError(f"frames must be (height, width, 3), got {shape}")
    if even and (shape[0] % 2 or shape[1] % 2):
        raise ValueError(
            f"frames are {shape[1]}x{shape[0]}, but 4:2:0 video has an even width and height: "
            "crop or pad them by one pixel, or use crf=0"
        )


def decode(source: bytes | str | os.PathLike[str]) -> Iterator[Frame]:
    """Yields the frames of a video in order.

    A video that an interrupted download has cut is an error and never a shorter video: its index
    lists more frames than the file holds, or the index is missing.

    Args:
      source: A path, or the bytes of a file.

    Yields:
      `(height, width, 3)` uint8 RGB frames.

    Raises:
      BrokenVideoError: The source is not a video, is damaged, or is not complete.
      FileNotFoundError: There is no such file.
    """
    name = f"the video in memory ({len(source)} bytes)" if isinstance(source, bytes) else source
    try:
        data = io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source)
        with av.open(data, "r") as file:
            yield from _frames(file, name)
    except FileNotFoundError:
        raise
    except av.FFmpegError as error:
        raise _broken(name, error) from error


def _frames(file: av.container.InputContainer, name: object) -> Iterator[Frame]:
    stream = _video_stream(file, name)
    stream.codec_context.thread_count = (
        1  # callers read many videos at a time, each in its own process
    )
    packets = decoded = 0
    for packet in file.demux(stream):
        packets += packet.size > 0 and not packet.is_corrupt
        for frame in packet.decode():
            if frame.is_corrupt:
                raise BrokenVideoError(
                    f"{name}: frame {decoded} is damaged or not complete; fetch the video again"
                )
            yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            decoded += 1
    # Packets are counted and not frames, because an edit list may hide frames. 0 means "not known".
    if packets < stream.frames:
        raise BrokenVideoError(
            f"{name}: ends after {packets} of {stream.frames} frames; fetch the video again"
        )
