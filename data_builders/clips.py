"""From a video file to a clip: its frames, its face, and the qualities that are not on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from data_builders import faces, h264
from data_builders.errors import UnusableClipError, UserError
from data_builders.records import Clip, Image

#: A CRF that is drawn for each video from the seed: no detector was trained on exactly that one.
RANDOM = "random"
_RANDOM_CRF = (18, 45)
#: The video after one messenger has shrunk and compressed it, and another has compressed it again.
MESSENGER = "messenger"
_MESSENGER_SIDE = 480  # px, the shorter side at most
_MESSENGER_CRFS = (28, 32)


@dataclasses.dataclass(frozen=True)
class VideoFiles:
    """The files of one video of a dataset.

    Attributes:
      method: Manipulation method, 'original' for a real video.
      video: Name of the video, unique within the method.
      identity: Who is seen; in a fake, its target.
      label: 'real' or 'fake'.
      files: The qualities on disk, best first.
      mask: A video that is white where the frames are manipulated, or None.
    """

    method: str
    video: str
    identity: str
    label: str
    files: Mapping[str, Path]
    mask: Path | None = None

    @property
    def best(self) -> Path:
        """The file of the best quality."""
        return next(iter(self.files.values()))

    def __str__(self) -> str:
        return f"{self.method}/{self.video}"


@dataclasses.dataclass(frozen=True)
class Layout:
    """The videos in a folder that the user has downloaded.

    Attributes:
      splits: The videos of each split.
      missing: Videos that the official lists name and that are not there.
      notes: What the user should know about how the folder was read.
    """

    splits: Mapping[str, Sequence[VideoFiles]]
    missing: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How clips are cut out of videos. It is part of what identifies a dataset.

    Attributes:
      qualities: Qualities of the records, best first.
      frames_per_video: Number of frames, spread evenly over the video.
      faces: Where boxes come from, see `data_builders.faces`.
      seed: Seed of the CRF of quality 'random'.
    """

    qualities: tuple[str, ...]
    frames_per_video: int = 32
    faces: faces.FaceSource = dataclasses.field(default_factory=faces.Detected)
    seed: int = 0

    def describe(self) -> dict[str, Any]:
        """Gives the recipe as JSON values, for the dataset's information and for its name."""
        return {
            "qualities": list(self.qualities),
            "frames_per_video": self.frames_per_video,
            "seed": self.seed,
            **self.faces.recipe,
        }


@dataclasses.dataclass(frozen=True)
class ClipSource:
    """All that a worker needs to make one clip."""

    files: VideoFiles
    recipe: Recipe

    def __str__(self) -> str:
        return str(self.files)


def check_qualities(qualities: Sequence[str]) -> tuple[str, ...]:
    """Returns the qualities as a tuple.

    Raises:
      UserError: One is not 'raw', 'cNN' with a CRF from 1 to 51, 'random' or 'messenger'; or one is
        repeated; or there is none.
    """
    for quality in qualities:
        if quality not in ("raw", RANDOM, MESSENGER) and not _crf_of(quality):
            raise UserError(
                f"--qualities: {quality!r} is not a quality; raw, random, messenger, or c and a "
                "CRF from 1 to 51, such as c23"
            )
    if len(set(qualities)) < len(qualities) or not qualities:
        raise UserError(f"--qualities: {', '.join(qualities)} must be different, at least one")
    return tuple(qualities)


def _crf_of(quality: str) -> int | None:
    number = re.fullmatch(r"c([1-9]\d?)", quality)
    return int(number[1]) if number and int(number[1]) <= 51 else None


def crf_of(source: ClipSource, quality: str) -> int:
    """Returns the CRF with which a quality of a video is made from the best one."""
    if quality == RANDOM:
        key = f"{source.recipe.seed}/{source.files.method}/{source.files.video}"
        draw = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
        return _RANDOM_CRF[0] + draw % (_RANDOM_CRF[1] - _RANDOM_CRF[0] + 1)
    crf = _crf_of(quality)
    if crf is None:
        raise UnusableClipError(f"{source}: there is no {quality} file, and it cannot be made")
    return crf


def read(source: ClipSource) -> Clip:
    """Makes a clip: frames are spread evenly, and the same boxes are cut out of every quality.

    Faces are detected in the best quality. A quality that is not on disk is made from the whole
    video of the best one. Frames of different qualities pair by index. Where one has fewer frames,
    the video ends there.

    Raises:
      UnusableClipError: A file cannot be read to its end, or no face was found.
    """
    files = source.files
    on_disk = {q: files.files[q] for q in source.recipe.qualities if q in files.files}
    counts = {path: h264.probe(path).frames for path in {files.best, *on_disk.values()}}
    while True:
        try:
            return _read(source, on_disk, min(counts.values()))
        except _FewerFramesError as error:  # than the index says
            path, decoded = error.args
            counts[path] = decoded


def _read(source: ClipSource, on_disk: Mapping[str, Path], frames_in_all: int) -> Clip:
    files, recipe = source.files, source.recipe
    indices = spread(frames_in_all, recipe.frames_per_video)
    best = list(_pick(h264.decode(files.best), indices, files.best))
    masks = None if files.mask is None else _masks(files.mask, indices)
    track = recipe.faces(str(files), indices, best, masks=masks)
    if track is None:
        raise UnusableClipError(f"{files.best}: no face was found")
    boxes = track.boxes
    crops: dict[str, list[Image]] = {}
    for quality in recipe.qualities:
        if on_disk.get(quality) == files.best:
            frames: Sequence[Image] = best
        elif quality in on_disk:
            frames = list(_pick(h264.decode(on_disk[quality]), indices, on_disk[quality]))
        elif quality == MESSENGER:
            frames = _sent_on(files.best, indices)
        else:
            frames = _reencoded(files.best, crf_of(source, quality), indices)
        crops[quality] = [faces.crop(f, box) for f, box in zip(frames, boxes, strict=True)]
    return Clip(
        method=files.method,
        video=files.video,
        identity=files.identity,
        label=files.label,
        frames=indices,
        boxes=np.asarray(boxes, np.float32),
        crops=crops,
    )


def spread(total: int, wanted: int) -> list[int]:
    """Indices of the middles of `wanted` equal parts of a video; all frames where it has fewer."""
    if total <= wanted:
        return list(range(total))
    return [(2 * i + 1) * total // (2 * wanted) for i in range(wanted)]


class _FewerFramesError(Exception):
    """A file, and how many frames it gives: fewer than were expected."""


def _pick(frames: Iterator[Image], indices: Sequence[int], path: Path) -> Iterator[Image]:
    """Yields frames by index, which rise. It decodes in order, as not every file seeks exactly."""
    wanted, decoded = list(reversed(indices)), 0
    while wanted:  # nothing is decoded after the last of them
        frame = next(frames, None)
        if frame is None:
            raise _FewerFramesError(path, decoded)
        if decoded == wanted[-1]:
            wanted.pop()
            yield frame
        decoded += 1


def _masks(path: Path, indices: Sequence[int]) -> list[Image]:
    """Reads the mask of each frame. A mask that ends before the video keeps its last frame."""
    masks: list[Image] = []
    for index, mask in enumerate(h264.decode(path)):
        if index == indices[len(masks)]:
            masks.append(mask[..., 0])
            if len(masks) == len(indices):
                return masks
    if not masks:
        raise UnusableClipError(f"{path}: the mask ends before the first chosen frame")
    return masks + [masks[-1]] * (len(indices) - len(masks))


def _reencoded(path: Path, crf: int, indices: Sequence[int]) -> list[Image]:
    """Frames of a video after compression of the whole video: a codec uses neighbouring frames.

    The encoder looks further ahead than the frames that follow the last chosen one: to stop there
    would change its bits, and would save next to nothing.
    """
    rate: Fraction = h264.probe(path).rate
    data = h264.encode(_even(h264.decode(path)), crf=crf, fps=rate)
    return list(_pick(h264.decode(data), indices, path))


def _sent_on(path: Path, indices: Sequence[int]) -> list[Image]:
    """Frames of a video that was made smaller and compressed twice.

    The frames are enlarged to the size of the source, because the boxes are in its pixels.
    """
    rate: Fraction = h264.probe(path).rate
    height, width = next(h264.decode(path)).shape[:2]
    shorter = min(height, width)
    frames = h264.decode(path)
    if shorter > _MESSENGER_SIDE:
        scale = _MESSENGER_SIDE / shorter
        small = (2 * round(width * scale / 2), 2 * round(height * scale / 2))
        frames = (cv2.resize(f, small, interpolation=cv2.INTER_AREA) for f in frames)
    data = h264.encode(_even(frames), crf=_MESSENGER_CRFS[0], fps=rate)
    data = h264.encode(h264.decode(data), crf=_MESSENGER_CRFS[1], fps=rate)
    received = list(_pick(h264.decode(data), indices, path))
    if shorter <= _MESSENGER_SIDE:
        return received
    enlarged = (cv2.resize(f, (width, height), interpolation=cv2.INTER_CUBIC) for f in received)
    return [np.asarray(frame, np.uint8) for frame in enlarged]


def _even(frames: Iterator[Image]) -> Iterator[npt.NDArray[np.uint8]]:
    """Repeats an odd last row or column, as 4:2:0 needs even sides; boxes do not reach it."""
    for frame in frames:
        odd = [(0, side % 2) for side in frame.shape[:2]]
        yield np.pad(frame, [*odd, (0, 0)], mode="edge")
