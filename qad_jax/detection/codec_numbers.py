"""What a file's own codec says of its compression: the quantisers that it was encoded with.

A quantiser divides the coefficients of a block, and what it rounds away is lost. Codecs number
their quantisers in different ways. Here all of them are on the scale of H.264, whose step is
0.625 * 2^(QP / 6): a step of 20 is a QP of 30 in every codec.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import numpy.typing as npt
import PIL.Image

from data_builders import avif, shown, video_file

#: Frames of a video that are looked at, at the most. They lie at four places: a video may begin
#: with a title on black.
MOST_FRAMES = 64
_PLACES = 4
#: Bytes at the start of a file that tell whether it is an image.
HEAD = 12
_JPEG, _AVIF = "jpeg", "avif"
_IMAGES = {
    b"\xff\xd8\xff": _JPEG,
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"RIFF": "webp",
}
# FFmpeg's AVVideoEncParams begins with the number of blocks, the offset of the first, the size of
# each, the kind of codec and the frame's quantiser. PyAV before 17 has no class for it.
_HEADER = struct.Struct("=I4xQQii")
_DELTA = 16  # bytes from the start of a block to its difference from the frame's quantiser
_H264, _MPEG = 1, 2  # kinds of codec: the second is MPEG-1, 2 and 4 and H.263
_FIRST_STEP = 0.625  # of H.264 at QP 0
#: Options with which FFmpeg's decoders tell the quantisers of each frame.
EXPORTED = {"export_side_data": "venc_params"}


@dataclasses.dataclass(frozen=True)
class CodecNumbers:
    """What the codec of a file says.

    Attributes:
      codec: Name of the codec, such as 'h264' or 'jpeg'.
      key_quantiser: Mean quantiser of the key frames, as a QP of H.264; None where it is not known.
      quantiser: The same of the other frames; that of key frames where there are no others.
      frames: Number of frames that were looked at.
    """

    codec: str
    key_quantiser: float | None = None
    quantiser: float | None = None
    frames: int = 0


def codec_numbers(source: str | Path | bytes) -> CodecNumbers:
    """Reads the quantisers of a video or of a JPEG image.

    Of a video at most `MOST_FRAMES` frames count, a quarter of them at each of four places, and at
    most `MOST_FRAMES` packets are decoded at each. A file that is judged is not read by this, but
    by `Quantisers`, while it is decoded: there all decoded frames count.

    Args:
      source: A path, or the bytes of a file.

    Returns:
      The numbers. The quantisers of codecs other than H.264, MPEG-1, 2 and 4, H.263 and JPEG are
      not known.

    Raises:
      BrokenVideoError: The file is no image and no video that can be opened.
      FileNotFoundError: There is no such file.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        form = image_format(file.read(HEAD))
        if form is not None:
            file.seek(0)
            return of_image(form, file)
    return _of_video(source)


def image_format(head: bytes) -> str | None:
    """The format of an image by the first `HEAD` bytes of its file; None where it is none."""
    for magic, name in _IMAGES.items():
        # An AVI video begins with RIFF, too.
        if head.startswith(magic) and (name != "webp" or head[:HEAD].endswith(b"WEBP")):
            return name
    return _AVIF if avif.is_one(head) else None


def of_image(form: str, file: BinaryIO) -> CodecNumbers:
    """Reads the quantiser of an image, see `codec_numbers`.

    Args:
      form: Its format, from `image_format`.
      file: The image, at its start.
    """
    if form != _JPEG:  # the others have no quantiser that is read here
        return CodecNumbers(form, frames=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata and large images: no pixel is read
            with PIL.Image.open(file, formats=("JPEG", "MPO")) as image:
                table = image.quantization[0]  # type: ignore[attr-defined]
    except Exception:  # broken headers make Pillow fail in many ways; the pixels tell then
        return CodecNumbers(_JPEG, frames=1)
    # The mean does not depend on the order, which differs between versions of Pillow.
    quantiser = _as_qp(np.clip(table, 1, 65535))
    return CodecNumbers(_JPEG, quantiser, quantiser, 1)


def _as_qp(step: npt.ArrayLike) -> float:
    """The QP of H.264 that has a step; the mean of several."""
    return float(np.mean(6 * np.log2(np.maximum(step, _FIRST_STEP) / _FIRST_STEP)))


class Quantisers:
    """Collects the quantisers of frames as they are decoded with the options `EXPORTED`."""

    def __init__(self) -> None:
        """Begins with no frame."""
        self.clear()

    def clear(self) -> None:
        """Begins anew."""
        self._means: dict[bool, list[float]] = {True: [], False: []}
        self._frames = 0

    def add(self, frame: av.VideoFrame) -> None:
        """Reads the quantiser of a frame, if its codec tells it."""
        self._frames += 1
        if (mean := _quantiser(frame)) is not None:
            self._means[bool(frame.key_frame)].append(mean)

    def numbers(self, codec: str) -> CodecNumbers:
        """What the frames say together.

        Args:
          codec: Name of their codec.
        """
        key, other = (float(np.mean(each)) if each else None for each in self._means.values())
        return CodecNumbers(
            codec, other if key is None else key, key if other is None else other, self._frames
        )


def _of_video(source: str | Path | bytes) -> CodecNumbers:
    with video_file.opened(source) as video:
        codec = video.stream.codec_context
        codec.options = {**codec.options, **EXPORTED}
        quantisers = Quantisers()
        for frame in _frames(video):
            quantisers.add(frame)
        return quantisers.numbers(codec.name)


def _frames(video: video_file.VideoFile) -> Iterator[av.VideoFrame]:
    """Frames at some places of a video, each once. A damaged place gives fewer."""
    file = video.file
    length = file.duration or 0
    places = _PLACES if length > 0 else 1
    seen: set[int] = set()
    for place in range(places):
        try:
            if place:
                file.seek((file.start_time or 0) + length * place // places)
            new = 0
            for packet in itertools.islice(file.demux(video.stream), MOST_FRAMES):
                for frame in packet.decode():
                    # Where there is one key frame, all places begin at it.
                    if frame.is_corrupt or frame.pts in seen or new == MOST_FRAMES // places:
                        continue
                    if frame.pts is not None:
                        seen.add(frame.pts)
                    new += 1
                    yield frame
                if new == MOST_FRAMES // places:
                    break
        except av.FFmpegError:
            continue


def _quantiser(frame: av.VideoFrame) -> float | None:
    """The mean quantiser of the blocks of a frame, as a QP of H.264."""
    data = shown.side_data(frame, "VIDEO_ENC_PARAMS")
    if data is None:
        return None
    blocks, offset, size, kind, base = _HEADER.unpack_from(data)
    if not blocks or kind not in (_H264, _MPEG):
        return None
    delta = np.ndarray((blocks,), np.int32, data, offset + _DELTA, (size,))
    if kind == _MPEG:  # the steps themselves
        return _as_qp(base + delta)
    # A QP of more bits a sample is larger for the same loss.
    deeper = frame.format.components[0].bits - 8
    return float(base + delta.mean() - 6 * deeper)
