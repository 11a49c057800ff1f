"""Video: encodes with the compression that this project is about, and decodes what people have.

Every file is opened here and nowhere else, so that all places see the same frames:

- The stream is the best video stream that is not an attached picture, such as a cover.
- Frames are as a player shows them: turned and mirrored by the display matrix; with square pixels,
  for which the shorter side of a pixel is enlarged; without those that an edit list hides.
- A frame whose size changes on the way is scaled to the size of the first, where the shape is the
  same. Where it is not, the video is refused.
- Text in the file, such as a title, may be in any encoding. It is not used.

The recipe is that of FaceForensics++: libx264 with its default preset at a constant rate factor
(CRF). CRF 23 is ordinary web video, 40 is heavy compression, and 0 loses nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

import av
import cv2
import numpy as np
import numpy.typing as npt

from data_builders import shown
from data_builders.errors import UnusableClipError, UserError, describe, trace

Frame: TypeAlias = npt.NDArray[np.uint8]

_MAX_CRF = 51  # of 8-bit libx264
# PyAV before 19 refuses a title that is not in UTF-8. Later ones read any title without a setting.
_ANY_TITLE: dict[str, Any] = (
    {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
)
# In libx264, the AVX-512 code that weighs blocks by the frames to come reads memory that nobody has
# written, where a row is no multiple of 8 blocks of 16 pixels: the bytes of a file then depend on
# what the process did before. The AVX2 code does not, and takes up to 10 % longer. libx264 believes
# what it is told, so it is told only where there is AVX-512, which includes AVX2.
_AVX512 = 256  # OpenCV's number of AVX512-SKX, the part that libx264 uses
_EXACT: dict[str, str] = {"x264-params": "asm=AVX2"} if cv2.checkHardwareSupport(_AVX512) else {}
_FPS = Fraction(25)  # where a file does not say, or says what no camera does
_MOST_FPS = 1000


class BrokenVideoError(UnusableClipError):
    """The file is not a video, cannot be decoded, or ends before its index says so."""


def encode(frames: Iterable[Frame], *, crf: int, fps: int | Fraction = 25) -> bytes:
    """Encodes frames as an MP4 file in memory. The same frames always give the same bytes.

    That is so on one kind of processor: libx264 has other code for others, which may round
    differently.

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
        stream.options = {"crf": str(crf), "threads": "1", **_EXACT}
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


def _check_size(shape: tuple[int, ...], *, even: bool) -> None:
    if len(shape) != 3 or shape[2] != 3:
        raise ValueError(f"frames must be (height, width, 3), got {shape}")
    if even and (shape[0] % 2 or shape[1] % 2):
        raise ValueError(
            f"frames are {shape[1]}x{shape[0]}, but 4:2:0 video has an even width and height: "
            "crop or pad them by one pixel, or use crf=0"
        )


class Facts(NamedTuple):
    """What is known of a video before all of it is decoded.

    Attributes:
      frames: Number of frames that decode.
      rate: Frames per second.
      notes: What was decided where the file leaves a choice, in words.
    """

    frames: int
    rate: Fraction
    notes: tuple[str, ...] = ()


def probe(path: str | os.PathLike[str]) -> Facts:
    """Reads a video's index and decodes its first frame.

    Where the index cannot be believed, the frames are counted: the file has no index, or begins
    with frames that need earlier ones, which were cut off.

    Args:
      path: The file.

    Raises:
      BrokenVideoError: The file is not a video, is not complete, or has no frame that decodes.
      FileNotFoundError: There is no such file.
    """
    with _opened(path) as video:
        indexed, rate, notes = video.shown, video.stream.average_rate, video.notes
        first, lost = _first_frame(video)
        notes += shown.View.of(first, video.stream).notes()
    frames = count(path) if lost or indexed is None else indexed
    if indexed is not None and frames != indexed:
        notes.append("begins with frames that cannot be decoded: they are left out")
    rate = Fraction(rate) if rate and 0 < rate <= _MOST_FPS else _FPS  # an AVRational in PyAV 19
    return Facts(frames, rate, tuple(notes))


def count(path: str | os.PathLike[str]) -> int:
    """Counts the frames of a video by decoding all of them.

    Raises:
      BrokenVideoError: As `decode`.
      FileNotFoundError: There is no such file.
    """
    with _opened(path) as video:
        return sum(1 for _ in _decoded(video))


def decode(source: bytes | str | os.PathLike[str]) -> Iterator[Frame]:
    """Yields the frames of a video in order, as a player shows them.

    A video that an interrupted download has cut is an error and never a shorter video: its index
    lists more frames than the file holds, or the index is missing.

    Args:
      source: A path, or the bytes of a file.

    Yields:
      `(height, width, 3)` uint8 RGB frames, all of one size.

    Raises:
      BrokenVideoError: The source is not a video, is damaged, or is not complete; or the shape of
        its frames changes.
      FileNotFoundError: There is no such file.
    """
    with _opened(source) as video:
        view: shown.View | None = None
        shape: tuple[int, ...] | None = None
        for number, decoded in enumerate(_decoded(video)):
            view = view or shown.View.of(decoded, video.stream)
            frame = shown.pixels(decoded, view)
            shape = shape or frame.shape
            if frame.shape != shape and not shown.same_shape(frame.shape, shape):
                raise BrokenVideoError(
                    f"{video.name}: frame {number} has {frame.shape[1]}x{frame.shape[0]} pixels "
                    f"and the first has {shape[1]}x{shape[0]}, which is another shape; cut the "
                    "video there, or convert it to one size"
                )
            yield frame if frame.shape == shape else shown.scaled(frame, shape)


@dataclasses.dataclass
class _Video:
    """An open file: the stream that is read, and what its index says.

    Attributes:
      name: The file, for messages.
      file: The container.
      stream: The stream that is read.
      packets: How many packets the stream has at least, 0 where the file does not say.
      shown: How many frames a player shows, None where the file does not say.
      notes: What was decided.
    """

    name: str
    file: av.container.InputContainer
    stream: Any
    packets: int = 0
    shown: int | None = None
    notes: list[str] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def _opened(source: bytes | str | os.PathLike[str]) -> Iterator[_Video]:
    """Opens a video. All errors of FFmpeg, also while frames are read, name the file."""
    data: Any
    try:
        if isinstance(source, bytes):
            name, size = f"the video in memory ({len(source)} bytes)", len(source)
            data = io.BytesIO(source)
        else:
            name = data = os.fspath(source)
            size = os.stat(name).st_size
        with av.open(data, "r", **_ANY_TITLE) as file:
            video = _Video(name, file, _best_stream(file, name))
            if video.stream.index > 0:
                video.notes.append(f"stream {video.stream.index} is read, the best of its video")
            # Callers read many videos at a time, each in its own process.
            video.stream.codec_context.thread_count = 1
            _read_index(video, size)
            yield video
    except (FileNotFoundError, PermissionError):
        raise
    except av.FFmpegError as error:
        raise BrokenVideoError(
            f"{name}: cannot be decoded ({error.strerror}): it is damaged or not complete; fetch "
            "it again"
        ) from error
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # of PyAV, or of this module: the file is named nevertheless
        broken = BrokenVideoError(f"{name}: cannot be read ({describe(error)})")
        broken.add_note(trace(error))
        raise broken from error


def _best_stream(file: av.container.InputContainer, name: str) -> Any:
    videos = list(file.streams.video)
    moving = [s for s in videos if not int(s.disposition) & int(av.stream.Disposition.attached_pic)]
    known = [stream for stream in moving if stream.codec_context is not None]
    if known:
        return max(known, key=_rank)
    if moving:
        raise BrokenVideoError(
            f"{name}: no decoder knows its video codec, or its header is damaged; convert the "
            "video to H.264, or fetch it again"
        )
    held = "only a cover image" if videos else "only sound" if file.streams.audio else "nothing"
    raise BrokenVideoError(
        f"{name}: holds no video stream ({held}); expected a video, such as H.264 in MP4"
    )


def _rank(stream: Any) -> tuple[bool, bool, int]:
    """Of several streams, the one that moves, that players show, and that is larger."""
    codec = stream.codec_context
    shown = bool(int(stream.disposition) & int(av.stream.Disposition.default))
    return stream.frames != 1, shown, (codec.width or 0) * (codec.height or 0)


def _read_index(video: _Video, size: int) -> None:
    """Reads how many packets and frames there are, and whether the file holds all of them."""
    video.packets = video.stream.frames
    if not video.packets or "mov" not in video.file.format.name.split(","):
        return
    entries = list(video.stream.index_entries)
    whole = sum(entry.pos + entry.size <= size for entry in entries)
    if whole < len(entries):
        raise _cut_short(video.name, whole, len(entries))
    # An edit list hides entries or removes them from the index. They are no missing frames.
    video.packets = len(entries)
    video.shown = sum(not entry.is_discard for entry in entries)
    if video.shown < video.stream.frames:
        video.notes.append("an edit list hides some of the frames")


def _cut_short(name: str, packets: int, of: int) -> BrokenVideoError:
    return BrokenVideoError(f"{name}: ends after {packets} of {of} frames; fetch the video again")


def _decoded(video: _Video) -> Iterator[av.VideoFrame]:
    packets = decoded = 0
    for packet in video.file.demux(video.stream):
        packets += packet.size > 0 and not packet.is_corrupt
        for frame in packet.decode():
            if not frame.is_corrupt:
                yield frame
                decoded += 1
            elif decoded:  # before the first whole frame, it needs frames that were cut off
                raise BrokenVideoError(
                    f"{video.name}: frame {decoded} is damaged or not complete; fetch the video "
                    "again"
                )
    # Packets are counted and not frames, because an edit list may hide frames.
    if packets < video.packets:
        raise _cut_short(video.name, packets, video.packets)
    if not decoded:
        raise _no_frame(video.name)


def _no_frame(name: str) -> BrokenVideoError:
    return BrokenVideoError(f"{name}: holds no frame that can be decoded; fetch the video again")


def _first_frame(video: _Video) -> tuple[av.VideoFrame, bool]:
    """Decodes the first frame. Tells also whether packets that are shown before it gave none."""
    times: list[int] = []
    first: av.VideoFrame | None = None
    for packet in video.file.demux(video.stream):
        if packet.size and packet.pts is not None and not packet.is_discard:
            times.append(packet.pts)
        if first is None:
            first = next((frame for frame in packet.decode() if not frame.is_corrupt), None)
        # A packet comes before it is shown: what is shown before the first frame has come by now.
        if first is not None and (first.pts is None or (packet.dts or first.pts) >= first.pts):
            return first, first.pts is not None and any(time < first.pts for time in times)
    if first is None:
        raise _no_frame(video.name)
    return first, first.pts is not None and any(time < first.pts for time in times)
