"""Video: encodes with the compression that this project is about, and decodes what people have.

Every file is opened by `video_file` and decoded here, so that all places see the same frames:

- Frames are as a player shows them: turned and mirrored by the display matrix; with square pixels,
  for which the shorter side of a pixel is enlarged; without those that an edit list hides.
- A frame whose size changes on the way is scaled to the size of the first, where the shape is the
  same. Where it is not, the video is refused.
- Text in the file, such as a title, may be in any encoding. It is not used.

The recipe is that of FaceForensics++: libx264 with its default preset at a constant rate factor
(CRF). CRF 23 is ordinary web video, 40 is heavy compression, and 0 loses nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple, TypeAlias

import av
import numpy as np
import numpy.typing as npt

from data_builders import shown
from data_builders.encoders import Encoders
from data_builders.mp4_claims import MOST_SAMPLES
from data_builders.video_file import BrokenVideoError, VideoFile, cut_short, opened

Frame: TypeAlias = npt.NDArray[np.uint8]

_FPS = Fraction(25)  # where a file does not say, or says what no camera does
_LEAST_FPS, _MOST_FPS = Fraction(1, 100), 1000
#: Pixels of all frames of a video together: 67 hours of 640 x 480, or an hour of 4K at 30 a second.
MOST_PIXELS_IN_ALL = 10**12


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
    encoders = Encoders([crf], fps=fps)
    for frame in frames:
        encoders.add(frame)
    return encoders.finish()[0]


class Facts(NamedTuple):
    """What is known of a video before all of it is decoded.

    Attributes:
      frames: Number of frames that decode.
      rate: Frames per second, on the average; 25 where the file does not say, or says what no
        camera does.
      notes: What was decided where the file leaves a choice, in words.
    """

    frames: int
    rate: Fraction
    notes: tuple[str, ...] = ()


def probe(path: str | os.PathLike[str], check: Callable[[], None] | None = None) -> Facts:
    """Reads a video's index and decodes its first frame.

    Where the index cannot be believed, the frames are counted: the file has no index, or begins
    with frames that need earlier ones, which were cut off.

    Args:
      path: The file.
      check: Is called before each packet is decoded; what it raises ends the reading.

    Raises:
      BrokenVideoError: The file is not a video, is not complete, or has no frame that decodes.
      FileNotFoundError: There is no such file.
    """
    with opened(path, check) as video:
        indexed, rate, notes = video.shown, video.stream.average_rate, video.notes
        first, lost = _first_frame(video)
        notes += shown.View.of(first, video.stream).notes()
    frames = count(path, check) if lost or indexed is None else indexed
    if indexed is not None and frames != indexed:
        notes.append("begins with frames that cannot be decoded: they are left out")
    rate = Fraction(rate or 0)  # an AVRational in PyAV 19
    return Facts(frames, rate if _LEAST_FPS <= rate <= _MOST_FPS else _FPS, tuple(notes))


def count(path: str | os.PathLike[str], check: Callable[[], None] | None = None) -> int:
    """Counts the frames of a video by decoding all of them.

    Args:
      path: The file.
      check: See `probe`.

    Raises:
      BrokenVideoError: As `decode`.
      FileNotFoundError: There is no such file.
    """
    with opened(path, check) as video:
        return sum(1 for _ in _decoded(video))


def last_time(
    path: str | os.PathLike[str], check: Callable[[], None] | None = None
) -> float | None:
    """Reads when the last frame of a video is shown, from its packets: no frame is decoded.

    Args:
      path: The file.
      check: See `probe`.

    Returns:
      The time in seconds, counted as `av.VideoFrame.time` is; None where the file says none, or
      where times go back, as in files that were put behind each other.

    Raises:
      BrokenVideoError: The file is not a video, or claims too much.
      FileNotFoundError: There is no such file.
    """
    last: float | None = None
    before: int | None = None
    with opened(path, check) as video:
        for packet in video.packets_in_turn():
            if not packet.size or packet.is_corrupt or packet.is_discard:
                continue
            if packet.dts is not None:
                if before is not None and packet.dts < before:
                    return None
                before = packet.dts
            ticks = packet.dts if packet.pts is None else packet.pts
            if ticks is not None and packet.time_base is not None:
                at = float(ticks * packet.time_base)
                last = at if last is None else max(last, at)
    return last


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
    with opened(source) as video:
        yield from (frame for _, frame in _shown(video))


def sampled(
    source: bytes | str | os.PathLike[str],
    indices: Collection[int],
    look: Callable[[av.VideoFrame], None] | None = None,
    *,
    options: Mapping[str, str] | None = None,
    check: Callable[[], None] | None = None,
) -> Iterator[tuple[int, Frame]]:
    """Yields some of the frames of `decode`; the others are decoded and not converted to RGB.

    Args:
      source: As for `decode`.
      indices: Which frames. Nothing is decoded after the last of them.
      look: Is called with every decoded frame up to there, as it is stored.
      options: More options of FFmpeg's decoder.
      check: See `probe`.

    Yields:
      Index and frame, in order. Where the video ends before an index, there are fewer.

    Raises:
      BrokenVideoError: As `decode`, for what is wrong up to the last of the frames.
      FileNotFoundError: There is no such file.
    """
    with opened(source, check) as video:
        codec = video.stream.codec_context
        codec.options = {**codec.options, **(options or {})}
        yield from _shown(video, frozenset(indices), look)


def _shown(
    video: VideoFile,
    wanted: frozenset[int] | None = None,
    look: Callable[[av.VideoFrame], None] | None = None,
) -> Iterator[tuple[int, Frame]]:
    view: shown.View | None = None
    shape: tuple[int, ...] | None = None
    stored: tuple[int, int] | None = None
    last = max(wanted, default=-1) if wanted is not None else None
    for number, decoded in enumerate(_decoded(video)):
        if look is not None:
            look(decoded)
        size = decoded.height, decoded.width
        stored = stored or size
        if not shown.same_shape(size, stored):
            raise BrokenVideoError(
                f"{video.name}: frame {number} has {size[1]}x{size[0]} pixels and the first has "
                f"{stored[1]}x{stored[0]}, which is another shape; cut the video there, or "
                "convert it to one size"
            )
        if view is None or wanted is None or number in wanted:
            view = view or shown.View.of(decoded, video.stream)
            frame = shown.pixels(decoded, view)
            shape = shape or frame.shape
            if wanted is None or number in wanted:
                yield number, frame if frame.shape == shape else shown.scaled(frame, shape)
        if number == last:
            return


def _decoded(video: VideoFile) -> Iterator[av.VideoFrame]:
    packets = decoded = seen = 0
    for packet in video.packets_in_turn():
        packets += packet.size > 0 and not packet.is_corrupt
        for frame in packet.decode():
            seen += frame.width * frame.height
            if seen > MOST_PIXELS_IN_ALL or decoded == MOST_SAMPLES:
                raise BrokenVideoError(
                    f"{video.name}: has more than {MOST_SAMPLES:,} frames, or more than "
                    f"{MOST_PIXELS_IN_ALL:,} pixels in all of them; cut the video, or make it "
                    "smaller"
                )
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
        raise cut_short(video.name, packets, video.packets)
    if not decoded:
        raise _no_frame(video.name)


def _no_frame(name: str) -> BrokenVideoError:
    return BrokenVideoError(f"{name}: holds no frame that can be decoded; fetch the video again")


def _first_frame(video: VideoFile) -> tuple[av.VideoFrame, bool]:
    """Decodes the first frame. Tells also whether packets that are shown before it gave none."""
    times: list[int] = []
    first: av.VideoFrame | None = None
    for packet in video.packets_in_turn():
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
