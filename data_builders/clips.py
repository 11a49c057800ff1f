"""From a video file to a clip: its frames, its face, and the qualities that are not on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_builders import alignment, compression, faces, h264, shown
from data_builders.errors import UnusableClipError
from data_builders.qualities import MESSENGER, can_be_made, crf_of, drawn_crf
from data_builders.records import Clip, Image
from data_builders.tracks import Track

#: What is noted of a video: chosen frames that do not show the face, and are left out; among how
#: many faces the largest was taken; frames that only a part of the qualities has.
NO_FACE, FACES, UNPAIRED = "frames_without_face", "faces", "frames_without_pair"


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

    @property
    def best_quality(self) -> str:
        """The quality of that file."""
        return next(iter(self.files))

    def gives(self, quality: str) -> bool:
        """Whether a quality is on disk or can be made from the best one."""
        return quality in self.files or can_be_made(quality, self.best_quality)

    def used(self, qualities: Collection[str]) -> dict[str, Path]:
        """The files, by quality, that a clip at some qualities is made of: the best, and theirs."""
        return {q: path for q, path in self.files.items() if path == self.best or q in qualities}

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

    @property
    def videos(self) -> list[VideoFiles]:
        """The videos of all splits."""
        return [files for listed in self.splits.values() for files in listed]


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

    def crf(self, quality: str) -> int:
        """The CRF with which a quality is made, one that was checked and is not 'messenger'."""
        if (known := crf_of(quality)) is not None:
            return known
        return drawn_crf(f"{self.recipe.seed}/{self.drawn_for}", self.files.best_quality)

    @property
    def names(self) -> tuple[str, ...]:
        """The clips that it becomes, as method/video."""
        return (str(self),)

    @property
    def inputs(self) -> list[Path]:
        """The files whose pixels it is made from, the best one first."""
        return [*self.files.used(self.recipe.qualities).values(), *filter(None, [self.files.mask])]

    @property
    def drawn_for(self) -> str:
        """What the CRF of quality 'random' is drawn for; clips with one name have one CRF."""
        return str(self)


def read(source: ClipSource) -> Clip:
    """Makes a clip: frames are spread evenly, and the same boxes are cut out of every quality.

    Faces are detected in the best quality. Frames without the face are left out. A quality that is
    not on disk is made from the whole video of the best one. Frames of different qualities pair by
    index, which is checked. Where one has fewer frames, the video ends there. Where frames of one
    are larger or smaller, the boxes are, too.

    Raises:
      UnusableClipError: A file cannot be read to its end, no face was found, a quality cannot be
        made, or the files do not fit together.
    """
    files = source.files
    for quality in source.recipe.qualities:
        if not files.gives(quality):
            raise UnusableClipError(
                f"{files.best}: {quality} cannot be made of {files.best_quality}, which is the "
                "best quality on disk; fetch a file that is better"
            )
    facts = {path: h264.probe(path) for path in files.used(source.recipe.qualities).values()}
    while True:
        try:
            return _read(source, facts)
        except _FewerFramesError as error:  # than the index says
            path, decoded = error.args
            facts[path] = facts[path]._replace(frames=decoded)


def find_face(
    source: ClipSource,
    frames_in_all: int,
    also: Collection[int] = (),
    thumbnails: dict[int, alignment.Thumbnail] | None = None,
    encodings: compression.Encodings | None = None,
) -> tuple[list[int], list[Image], Track | None]:
    """Reads the chosen frames of the best quality and finds the face in them.

    Args:
      source: The clip.
      frames_in_all: Number of frames of the video.
      also: Indices of frames whose thumbnails are wanted.
      thumbnails: Where they are put.
      encodings: What is made of the frames at the same time.

    Returns:
      Indices of the frames, the frames, and the face; None where there is none.

    Raises:
      UnusableClipError: The file or its mask cannot be read, or they do not fit together.
    """
    files, recipe = source.files, source.recipe
    indices = spread(frames_in_all, recipe.frames_per_video)
    looked_at = {*indices, *also}
    frames = enumerate(encodings.frames()) if encodings else h264.sampled(files.best, looked_at)
    best = _pick(frames, indices, files.best, also, thumbnails)
    mask = files.mask if recipe.faces.chooses else None
    masks = _masks(mask, indices, best[0].shape[:2]) if mask else None
    return indices, best, recipe.faces(str(files), indices, best, masks=masks)


def _read(source: ClipSource, facts: Mapping[Path, h264.Facts]) -> Clip:
    files, recipe = source.files, source.recipe
    frames_in_all = min(fact.frames for fact in facts.values())
    compared = spread(frames_in_all, alignment.COMPARED)
    possible = {
        path: alignment.rules(
            (float(facts[files.best].rate), float(fact.rate)),
            (facts[files.best].frames, fact.frames),
        )
        for path, fact in facts.items()
        if path != files.best
    }
    also = {path: alignment.neighbours(compared, rules) for path, rules in possible.items()}
    thumbnails: dict[int, alignment.Thumbnail] = {}
    of_best = {index for ours, _ in also.values() for index in ours}
    crfs = {
        quality: source.crf(quality)
        for quality in recipe.qualities
        if quality not in files.files and quality != MESSENGER
    }
    last, rate = spread(frames_in_all, recipe.frames_per_video)[-1], facts[files.best].rate
    made_too = compression.Encodings(files.best, crfs.values(), rate=rate, last=last)
    encodings = made_too if crfs else None
    indices, best, track = find_face(source, frames_in_all, of_best, thumbnails, encodings)
    if track is None or not track.kept.any():
        under = f" where {files.mask} is white" if files.mask and recipe.faces.chooses else ""
        raise UnusableClipError(f"{files.best}: no face was found{under}")
    made = encodings.decoded(indices) if encodings else {}
    crops: dict[str, list[Image]] = {}
    for quality in recipe.qualities:
        path = files.files.get(quality)
        if path == files.best:
            frames: Sequence[Image] = best
        elif path is not None:
            others: dict[int, alignment.Thumbnail] = {}
            looked_at = h264.sampled(path, {*indices, *also[path][1]})
            frames = _pick(looked_at, indices, path, also[path][1], others)
            _check_fit(path, frames[0], files.best, best[0])
            misfit = alignment.misfit(thumbnails, others, compared, possible[path])
            if misfit:
                raise _unfit(path, misfit.format(files.best))
        elif quality == MESSENGER:
            sent = enumerate(compression.sent_on(files.best, last=indices[-1]))
            frames = _pick(sent, indices, files.best)
        else:
            frames = made[crfs[quality]]
        crops[quality] = _cut(frames, track, best[0].shape[:2], made=path is None)
    return Clip(
        method=files.method,
        video=files.video,
        identity=files.identity,
        label=files.label,
        frames=[index for index, kept in zip(indices, track.kept, strict=True) if kept],
        boxes=np.asarray(track.boxes[track.kept], np.float32),
        crops=crops,
        notes=_notes(track, [fact.frames for fact in facts.values()]),
    )


def _check_fit(path: Path, frame: Image, better: Path, of_better: Image) -> None:
    if not shown.same_shape(frame.shape, of_better.shape):
        (height, width), (high, wide) = frame.shape[:2], of_better.shape[:2]
        sizes = f"{width}x{height} pixels, another shape than the {wide}x{high} of {better}"
        raise _unfit(path, f"has {sizes}")


def _unfit(path: Path, why: str) -> UnusableClipError:
    return UnusableClipError(
        f"{path}: {why}; make it again from that file, or remove it: it is made here then"
    )


def _cut(
    frames: Sequence[Image], track: Track, size: tuple[int, int], *, made: bool
) -> list[Image]:
    """Cuts out the face of each frame that is kept; boxes are in pixels of frames of `size`.

    A quality that is made here has no other size, but an odd side is even in it.
    """
    boxes = track.boxes if made else faces.moved_to(track.boxes, size, frames[0].shape[:2])
    return faces.crops(frames, track._replace(boxes=boxes))


def _notes(track: Track, frames: Sequence[int]) -> dict[str, int]:
    several = track.rivals + 1 if track.rivals else 0
    noted = {NO_FACE: int((~track.kept).sum()), FACES: several, UNPAIRED: max(frames) - min(frames)}
    return {fact: count for fact, count in noted.items() if count}


def spread(total: int, wanted: int) -> list[int]:
    """Indices of the middles of `wanted` equal parts of a video; all frames where it has fewer."""
    if total <= wanted:
        return list(range(total))
    return [(2 * i + 1) * total // (2 * wanted) for i in range(wanted)]


class _FewerFramesError(Exception):
    """A file, and how many frames it gives: fewer than were expected."""


def _pick(
    frames: Iterator[tuple[int, Image]],
    indices: Sequence[int],
    path: Path,
    also: Collection[int] = (),
    thumbnails: dict[int, alignment.Thumbnail] | None = None,
) -> list[Image]:
    """Reads frames by index, which rise. It decodes in order, as not every file seeks exactly.

    The thumbnails of the frames `also` are put into `thumbnails`, as far as there are these frames.
    """
    chosen: list[Image] = []
    last = max(indices[-1], *also, 0)  # nothing is decoded after it
    try:
        for index, frame in frames:
            if thumbnails is not None and index in also:
                thumbnails[index] = alignment.thumbnail(frame)
            if len(chosen) < len(indices) and index == indices[len(chosen)]:
                chosen.append(frame)
            if index == last:
                break
    except h264.BrokenVideoError:
        if len(chosen) < len(indices):  # else only what is compared is lost
            raise
    if len(chosen) < len(indices):
        raise _FewerFramesError(path, h264.count(path))
    return chosen


def _masks(path: Path, indices: Sequence[int], size: tuple[int, int]) -> list[Image]:
    """Reads the mask of each frame, in frames of `size`. After its end, it marks nothing."""
    masks: list[Image] = []
    for index, mask in enumerate(mask[..., 0] for mask in h264.decode(path)):
        if not shown.same_shape(mask.shape, size):
            raise UnusableClipError(
                f"{path}: the mask has {mask.shape[1]}x{mask.shape[0]} pixels and the video "
                f"{size[1]}x{size[0]}, which is another shape; fetch the mask of this video, or "
                "remove it, and the largest face is taken"
            )
        if index == indices[len(masks)]:
            nearest = cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
            masks.append(np.asarray(nearest, np.uint8))
            if len(masks) == len(indices):
                return masks
    if not masks:
        raise UnusableClipError(f"{path}: the mask ends before the first chosen frame")
    return masks + [np.zeros_like(masks[0])] * (len(indices) - len(masks))
