"""Opens video files, which may come from anybody.

- The stream is the best video stream that is not an attached picture, such as a cover.
- A file is refused where it names other files to read, or where it claims more or larger frames
  than `mp4_claims` and the constants here allow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import av

from data_builders import mp4_claims, shown
from data_builders.errors import UnusableClipError, UserError, describe, trace
from data_builders.files import kind_of_no_file

# PyAV before 19 refuses a title that is not in UTF-8. Later ones read any title without a setting.
_ANY_TITLE: dict[str, Any] = (
    {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
)
# The others are playlists, which name more files, and formats that no camera and no site writes.
_FORMATS = (
    "matroska,avi,asf,flv,ogg,mpeg,mpegts,mpegvideo,m4v,h264,hevc,obu,ivf,mxf,nut,rm,wtv,dv,gif,"
    "yuv4mpegpipe"
)
#: Options of decoders; they hold also where the size changes on the way.
BOUNDS = {"max_pixels": str(shown.MOST_PIXELS)}
_CONVERT = "convert it to PNG, or to JPEG of the best quality"
_MOST_SHARING = 10  # how often each byte of a file may be a part of a frame


class BrokenVideoError(UnusableClipError):
    """The file is not a video, cannot be decoded, or ends before its index says so."""


@dataclasses.dataclass
class VideoFile:
    """An open file: the stream that is read, and what its index says.

    Attributes:
      name: The file, for messages.
      file: The container.
      stream: The stream that is read.
      packets: How many packets the stream has at least, 0 where the file does not say.
      shown: How many frames a player shows, None where the file does not say.
      notes: What was decided.
      check: Is called before each packet is decoded; what it raises ends the reading.
    """

    name: str
    file: av.container.InputContainer
    stream: Any
    packets: int = 0
    shown: int | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    check: Callable[[], None] | None = None

    def packets_in_turn(self) -> Iterator[av.Packet]:
        """Reads the packets of the stream; the last is empty and gets the last frames out."""
        for packet in self.file.demux(self.stream):
            if self.check is not None:
                self.check()
            yield packet


@contextlib.contextmanager
def opened(
    source: bytes | str | os.PathLike[str], check: Callable[[], None] | None = None
) -> Iterator[VideoFile]:
    """Opens a video. All errors of FFmpeg, also while frames are read, name the file.

    Args:
      source: A path, or the bytes of a file.
      check: See `VideoFile`.

    Raises:
      BrokenVideoError: The file cannot be read, or claims too much.
      OSError: As the system has it, such as where there is no such file.
    """
    try:
        if isinstance(source, bytes):
            name = f"the video in memory ({len(source)} bytes)"
            looked_at: BinaryIO = io.BytesIO(source)
        else:
            name = os.fspath(source)
            if (kind := kind_of_no_file(name)) is not None:
                raise BrokenVideoError(f"{name}: is {kind} and no file; expected a video file")
            looked_at = open(name, "rb")  # noqa: SIM115
        size = looked_at.seek(0, os.SEEK_END)
        with looked_at, container(name, looked_at) as file:
            video = VideoFile(name, file, _best_stream(file, name), check=check)
            if video.stream.frames == 1 and mp4_claims.holds_pictures(looked_at):
                raise BrokenVideoError(
                    f"{name}: is a picture, such as HEIC or AVIF, whose tiles are not put together "
                    f"here; {_CONVERT}"
                )
            if video.stream.index > 0:
                video.notes.append(f"stream {video.stream.index} is read, the best of its video")
            # Callers read many videos at a time, each in its own process.
            video.stream.codec_context.thread_count = 1
            video.stream.codec_context.options = BOUNDS
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


def container(name: str, file: BinaryIO) -> av.container.InputContainer:
    """Opens a container of a known format, of which no table claims more than is read.

    Args:
      name: The path of the file, or its name in messages if it is in memory.
      file: The file.

    Raises:
      BrokenVideoError: It is no such file, or claims too much.
      av.FFmpegError: It cannot be opened.
    """
    is_mp4 = mp4_claims.is_mp4(file)
    if mp4_claims.is_heic(file):  # FFmpeg reads one of the tiles that such a picture is cut into
        raise BrokenVideoError(f"{name}: is a HEIC picture, which is not read; {_CONVERT}")
    if is_mp4 and (excess := mp4_claims.excess(file)) is not None:
        raise BrokenVideoError(
            f"{name}: claims {excess}: it is damaged, or made to do harm; fetch it again, or cut it"
        )
    file.seek(0)
    # FFmpeg reads a path faster than a file of Python. It takes the file for what was looked at. It
    # takes `12:30.mp4` for an address of the protocol 12, unless a folder stands before it.
    source = file if isinstance(file, io.BytesIO) else str(Path(name).absolute())
    options = {
        "format_whitelist": "mov" if is_mp4 else _FORMATS,
        "protocol_whitelist": "file",
        **BOUNDS,
    }
    try:
        return av.open(source, "r", options=options, **_ANY_TITLE)
    except (av.ArgumentError, av.InvalidDataError) as error:
        if is_mp4 and isinstance(error, av.InvalidDataError):  # it begins as a video
            raise
        raise BrokenVideoError(
            f"{name}: is no video of a format that is read, such as MP4, Matroska or AVI, or its "
            "beginning is lost; convert it to H.264 in MP4, or fetch it again"
        ) from error


def _best_stream(file: av.container.InputContainer, name: str) -> Any:
    videos = list(file.streams.video)
    moving = [s for s in videos if not int(s.disposition) & int(av.stream.Disposition.attached_pic)]
    known = [stream for stream in moving if stream.codec_context is not None]
    if known:
        best = max(known, key=_rank)
        width, height = best.codec_context.width, best.codec_context.height
        if width * height > shown.MOST_PIXELS:
            raise BrokenVideoError(
                f"{name}: claims frames of {width}x{height}; the most that are read have "
                f"{shown.MOST_PIXELS:,} pixels: make the video smaller, or fetch it again if it is "
                "damaged"
            )
        return best
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


def _read_index(video: VideoFile, size: int) -> None:
    """Reads how many packets and frames there are, and whether the file holds all of them."""
    video.packets = video.stream.frames
    if not video.packets or "mov" not in video.file.format.name.split(","):
        return
    entries = list(video.stream.index_entries)
    if sum(entry.size for entry in entries) > _MOST_SHARING * size:
        raise BrokenVideoError(
            f"{video.name}: its frames lie upon each other: it is damaged; fetch it again"
        )
    whole = sum(entry.pos + entry.size <= size for entry in entries)
    if whole < len(entries):
        raise cut_short(video.name, whole, len(entries))
    # An edit list hides entries or removes them from the index. They are no missing frames.
    video.packets = len(entries)
    video.shown = sum(not entry.is_discard for entry in entries)
    if video.shown < video.stream.frames:
        video.notes.append("an edit list hides some of the frames")


def cut_short(name: str, packets: int, of: int) -> BrokenVideoError:
    """The error of a file that holds fewer packets than its index lists."""
    return BrokenVideoError(f"{name}: ends after {packets} of {of} frames; fetch the video again")
