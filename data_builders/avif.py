"""AVIF pictures, which Pillow reads: it puts the tiles together that many of them are cut into.

FFmpeg gives one tile and does not say so. Here is whether Pillow can read a file as one picture,
and whether what is in it is as large as it says. libavif, which Pillow decodes with, makes a frame
of any size fit the size that the file states, but has to decode it first.
"""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import av
import PIL.Image

from data_builders import mp4_claims, shown, video_file

#: Pillow's name of the format.
FORMAT = "AVIF"
#: Whether this Pillow reads it: from version 11.3 on, where it was built with libavif.
SUPPORTED = importlib.util.find_spec("PIL._avif") is not None
#: Bytes at the start of a file that tell whether it may be one.
HEADER = 12
# With one of these, a file is shown as a picture, whatever is beside it.
_STILL = b"ftypavif"
# With these it may also be an animation, or hold pictures of another codec.
_ANY = (_STILL, b"ftypavis", b"ftypmif1", b"ftypmsf1")
_AV1 = av.Codec("av1", "r").id
# The picture, its transparency, a thumbnail and what a screen of more contrast adds to it.
_MOST_PIXELS = 4 * shown.MOST_PIXELS


def is_one(head: bytes) -> bool:
    """Whether a file may be an AVIF picture or animation, by its first `HEADER` bytes."""
    return head[4:HEADER] in _ANY


def is_still(path: Path) -> bool:
    """Whether Pillow reads a file of which `is_one` holds, and as a picture.

    Otherwise it is an animation, has another codec than AV1, or Pillow does not know the format.

    Args:
      path: The file.

    Raises:
      OSError: It cannot be read.
    """
    with path.open("rb") as file:
        if not SUPPORTED:
            return False
        if file.read(HEADER)[4:] == _STILL:
            return True
        # Whatever is wrong with the file, the reader of videos says it.
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images: `check_frames` bounds them
            check_tables(path)
            file.seek(0)
            with PIL.Image.open(file, formats=(FORMAT,)) as image:
                return not getattr(image, "is_animated", False)
    return False


def check_tables(path: Path) -> None:
    """Raises a `ValueError` where the tables of a file count more than is read."""
    with path.open("rb") as file:
        if (excess := mp4_claims.excess(file)) is not None:
            raise ValueError(f"it claims {excess}")


def check_frames(path: Path) -> None:
    """Decodes all tiles within bounds, of memory and of time, which libavif does not have.

    Each of thousands of tiles can be a few bytes of any other tile, and claim to be small.

    Args:
      path: The file, whose tables were checked.

    Raises:
      ValueError: A tile is larger than a frame of a video may be; together they are much larger
        than a picture may be; or one of them cannot be decoded.
    """
    pixels = 0
    try:
        with path.open("rb") as file, video_file.container(str(path), file) as tiles:
            # libavif decodes no other codec.
            decoded = [s for s in tiles.streams.video if s.codec_context and s.codec.id == _AV1]
            if not decoded:
                raise ValueError("it holds no picture of the codec AV1")
            for stream in decoded:
                stream.codec_context.thread_count = 1
                stream.codec_context.options = video_file.BOUNDS
            for packet in tiles.demux(decoded):
                frames: Any = packet.decode()
                for frame in frames:
                    pixels += frame.width * frame.height
                    if pixels > _MOST_PIXELS:
                        raise ValueError(f"its tiles have more than {_MOST_PIXELS:,} pixels in all")
    except (av.FFmpegError, video_file.BrokenVideoError) as error:
        raise ValueError(
            f"a part of it is damaged, or has more than {shown.MOST_PIXELS // 10**6} megapixels"
        ) from error
