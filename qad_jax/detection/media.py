"""A stranger's file, opened: some of its frames as a player shows them, and what it says of itself.

Images, videos and animations become the same thing: frames that are spread evenly, with the time of
each, and where another scene begins. Images and videos are decoded by the code that builds the
datasets, so a frame has the pixels that it has in training.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import os
import time
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import PIL.Image
from av.video.reformatter import VideoReformatter

from data_builders import avif, clips, h264, images
from data_builders.errors import UnusableClipError, UserError
from data_builders.files import kind_of_no_file
from data_builders.video_file import opened
from qad_jax.detection import animation, codec_numbers, scenes
from qad_jax.detection.codec_numbers import CodecNumbers

Image = npt.NDArray[np.uint8]

IMAGE, ANIMATION, VIDEO = "image", "animation", "video"
_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif", ".apng")
_MPEG = (".mp4", ".m4v", ".mov", ".mpg", ".mpeg", ".mts", ".m2ts", ".ts", ".3gp")
_OTHERS = (".mkv", ".webm", ".avi", ".flv", ".wmv", ".ogv")
#: Names of files that are looked for in a folder.
SUFFIXES = frozenset((*_IMAGES, *_MPEG, *_OTHERS))
#: Frames of a video that are looked at, unless the caller says another number.
FRAMES = 32
#: Bounds of what one file may take.
MAX_SECONDS = 600.0
# A file whose frames end before this part of its time is not complete, or has much longer sound.
_WHOLE = 0.8


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a file says of itself; None where it does not say.

    Attributes:
      kind: 'image', 'animation' or 'video'.
      width: Of a frame as it is shown, in pixels.
      height: The same.
      frames: Number of frames.
      duration: In seconds.
      rate: Frames per second, on the average.
      container: Format of the file.
      codec: Of the images.
      bit_rate: Bits per second, of the whole file.
      notes: What was decided where the file leaves a choice, in words.
    """

    kind: str
    width: int
    height: int
    frames: int = 1
    duration: float | None = None
    rate: float | None = None
    container: str | None = None
    codec: str | None = None
    bit_rate: int | None = None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Media:
    """Frames of a file.

    Attributes:
      facts: What the file says of itself.
      frames: `(height, width, 3)` uint8 RGB each, all of one size.
      indices: Index of each in the file.
      times: Time of each in seconds, from the first frame of the file; None for an image.
      numbers: What its codec says of its compression, from all frames that were decoded.
      cuts: Positions in `frames` at which another scene begins.
    """

    facts: Facts
    frames: tuple[Image, ...]
    indices: tuple[int, ...]
    times: tuple[float | None, ...]
    numbers: CodecNumbers
    cuts: tuple[int, ...] = ()


def sha256(path: Path) -> str:
    """The digest of a file's bytes.

    Raises:
      UserError: It is no plain file, such as a pipe.
      OSError: It cannot be read.
    """
    _check_plain(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_plain(path: Path) -> None:
    if (kind := kind_of_no_file(path)) is not None:
        if path.is_dir():  # one in which no files could be looked for has a reason of its own
            os.scandir(path).close()
        raise UserError(f"{path}: is {kind} and no file; name an image or a video, or a copy of it")


def read(
    path: Path,
    frames: int,
    *,
    max_seconds: float = MAX_SECONDS,
    tell: Callable[[int, int], None] | None = None,
) -> Media:
    """Reads a file.

    Args:
      path: An image, a video or an animation; its content tells which.
      frames: Number of frames to take, spread evenly.
      max_seconds: Time that decoding may take, from the start of reading.
      tell: Is told, after each frame of a video, how many are decoded, and of how many.

    Raises:
      UserError: The file cannot be read, or takes more than it may.
    """
    check = deadline(path, max_seconds, "decode")
    try:
        _check_plain(path)
        with path.open("rb") as file:
            head = file.read(codec_numbers.HEAD)
            file.seek(0)
            form = codec_numbers.image_format(head)
            numbers = None if form is None else codec_numbers.of_image(form, file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if not head:
        raise UserError(f"{path}: is empty")
    if numbers is None or (avif.is_one(head) and not avif.is_still(path)):
        return _video(path, frames, check, tell)
    return _image_or_animation(path, frames, numbers, check)


def deadline(path: Path, max_seconds: float, work: str) -> Callable[[], None]:
    """Makes what is called again and again during work on a file, and ends it when it takes long.

    Args:
      path: The file.
      max_seconds: Time for the work, from now on.
      work: What is done, as in "takes more than 600 s to decode".

    Returns:
      A function that raises an `UnusableClipError` when the time is over.
    """
    end = time.monotonic() + max_seconds

    def check() -> None:
        if time.monotonic() > end:
            raise UnusableClipError(
                f"{path}: takes more than {max_seconds:g} s to {work}; cut it, or make it smaller"
            )

    return check


def _image_or_animation(
    path: Path, frames: int, numbers: CodecNumbers, check: Callable[[], None]
) -> Media:
    codec = None
    try:
        images.check_size(path)
        with warnings.catch_warnings(), _Checked(path, check) as file:
            warnings.simplefilter("ignore")  # of large images; how large they may be is known here
            with PIL.Image.open(file, formats=images.FORMATS) as opened_image:
                codec = opened_image.format
                if codec in animation.FORMATS and getattr(opened_image, "is_animated", False):
                    return _animation(path, opened_image, frames, numbers, check)
    except (UserError, MemoryError):
        raise
    except Exception:  # whatever it is, the reader of images says what is wrong with it
        pass
    image = images.read_image(path)
    facts = Facts(IMAGE, image.shape[1], image.shape[0], codec=codec)
    return Media(facts, (image,), (0,), (None,), numbers)


class _Checked(io.BufferedReader):
    """A file that calls a function whenever some of it is read: Pillow counts frames unwatched."""

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        super().__init__(io.FileIO(path))
        self._check = check

    def read(self, size: int | None = -1) -> bytes:
        self._check()
        return super().read(size)


def _animation(
    path: Path,
    opened_image: PIL.Image.Image,
    frames: int,
    numbers: CodecNumbers,
    check: Callable[[], None],
) -> Media:
    taken, indices, times = animation.frames_of(path, opened_image, frames, check)
    looks = scenes.Glimpses()
    for image in taken:
        looks.add(np.asarray(PIL.Image.fromarray(image).convert("L").resize(scenes.SIZE)))
    cuts = tuple(looks.cuts(range(len(taken))))
    facts = Facts(
        ANIMATION, *opened_image.size, animation.count(opened_image), codec=opened_image.format
    )
    return Media(facts, tuple(taken), tuple(indices), tuple(times), numbers, cuts)


def _video(
    path: Path, frames: int, check: Callable[[], None], tell: Callable[[int, int], None] | None
) -> Media:
    facts, rate = _facts_of_video(path, check)
    total, looks = facts.frames, scenes.Glimpses()
    stated: list[float | None] = []  # time of each frame, as the file has it
    quantisers = codec_numbers.Quantisers()
    watched = _watched(looks, quantisers)

    def watch(decoded: av.VideoFrame) -> None:
        watched(decoded)
        stated.append(decoded.time)
        if tell is not None:
            tell(looks.count, total)

    while True:
        indices = clips.spread(total, frames)
        taken = dict(
            h264.sampled(path, indices, watch, options=codec_numbers.EXPORTED, check=check)
        )
        if len(taken) == len(indices):
            break
        if looks.count >= total or not looks.count:  # it decodes, and gives no frame
            raise UnusableClipError(f"{path}: holds fewer frames than its index says")
        total = looks.count  # the index says more: it is read again to its real end
        looks.clear()
        stated.clear()
        quantisers.clear()
    chosen = tuple(taken[index] for index in indices)
    since = _since_first(stated)
    notes = facts.notes
    if facts.rate is None and any(since[index] is None for index in indices):
        notes += (f"says neither times nor a rate of its frames: {rate:g} a second are assumed",)
    last = max((at for at in since if at is not None), default=None)
    early = _WHOLE * (facts.duration or 0) - 1 / rate
    if last is not None and last < early and looks.count < total:
        # Decoding stops at the last chosen frame, and says nothing of what comes after it.
        end, begin = h264.last_time(path, check), stated[0]
        last = None if end is None or begin is None else end - begin
    if last is not None and last < early:
        notes += (
            f"its frames end after {last:.2f} s, and it says that it lasts {facts.duration:.2f} s: "
            "it may not be complete",
        )
    facts = dataclasses.replace(
        facts, frames=total, width=chosen[0].shape[1], height=chosen[0].shape[0], notes=notes
    )
    times = tuple(
        round(index / rate if (at := since[index]) is None else at, 3) for index in indices
    )
    numbers = quantisers.numbers(str(facts.codec))
    return Media(facts, chosen, tuple(indices), times, numbers, tuple(looks.cuts(indices)))


def _since_first(stated: Sequence[float | None]) -> Sequence[float | None]:
    """The times of frames in seconds from the first one.

    Args:
      stated: Those that the file gives, in the order in which the frames are shown.

    Returns:
      As many; None where the file gives none that can be believed. In AVI files, and where files
      were put behind each other, times go back: then none of them is believed.
    """
    known = [at for at in stated if at is not None]
    first = stated[0] if stated else None
    if first is None or any(after < before for before, after in itertools.pairwise(known)):
        return [None] * len(stated)
    return [None if at is None else at - first for at in stated]


def _watched(
    looks: scenes.Glimpses, quantisers: codec_numbers.Quantisers
) -> Callable[[av.VideoFrame], None]:
    """Is called with every decoded frame: looks for cuts, and at the quantiser."""
    # One for all frames: a new one for each, as a frame makes it, takes a quarter of the decoding.
    shrinking = VideoReformatter()

    def watch(decoded: av.VideoFrame) -> None:
        small = shrinking.reformat(
            decoded, *scenes.SIZE, format="gray", interpolation="FAST_BILINEAR"
        )
        looks.add(small.to_ndarray())
        quantisers.add(decoded)

    return watch


def _facts_of_video(path: Path, check: Callable[[], None]) -> tuple[Facts, float]:
    """What a video says of itself, and its rate: one that is assumed where it does not say it."""
    known = h264.probe(path, check)
    rate = float(known.rate)
    with opened(path) as video:
        says = Fraction(video.stream.average_rate or 0) == known.rate  # an AVRational in PyAV 19
        lasts = known.frames / rate if says else None
        context: Any = video.stream.codec_context
        duration = video.file.duration
        facts = Facts(
            VIDEO,
            context.width,
            context.height,
            known.frames,
            duration=_rounded(duration / av.time_base if duration else lasts),
            rate=_rounded(rate if says else None),
            container=video.file.format.name,
            codec=context.name,
            bit_rate=video.file.bit_rate or None,
            notes=known.notes,
        )
    return facts, rate


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
