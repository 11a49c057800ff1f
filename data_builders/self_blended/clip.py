"""From a file to a pair of clips: the face, the camera around it, the blend, the qualities."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_builders import clips, compression, faces, h264
from data_builders.errors import UnusableClipError
from data_builders.images import read_image
from data_builders.qualities import MESSENGER
from data_builders.records import Clip, Image
from data_builders.self_blended import blend, footage
from data_builders.self_blended.face import Face

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
_FILMED = 4  # frames that are encoded for each that is kept: a codec needs neighbours


@dataclasses.dataclass(frozen=True)
class BlendRecipe(clips.Recipe):
    """How clips are made.

    Attributes:
      variants: Number of pairs of a real clip and a fake from each file.
      families: The families that fakes are of, in turn.
    """

    frames_per_video: int = 2
    variants: int = 4
    families: tuple[str, ...] = tuple(blend.FAMILIES)

    def describe(self) -> dict[str, Any]:
        """Adds what this dataset draws."""
        return {
            **super().describe(),
            "variants": self.variants,
            "families": list(self.families),
        }


@dataclasses.dataclass(frozen=True)
class BlendSource(clips.ClipSource):
    """One clip of a file: real, or a fake.

    Attributes:
      variant: Number of the pair; both clips of a pair draw the same camera.
      donor: The other person's file, for a swap.
    """

    variant: int = 0
    donor: Path | None = None

    @property
    def drawn_for(self) -> str:
        """The name of the pair: both clips are compressed alike."""
        return self.files.video


def _random(source: BlendSource, purpose: str) -> np.random.Generator:
    """Random numbers of a pair, alike for its real clip and its fake."""
    key = f"{source.recipe.seed}/{source.files.video}/{source.variant}/{purpose}"
    return np.random.default_rng(list(hashlib.sha256(key.encode()).digest()[:16]))


@functools.lru_cache(maxsize=4)
def _stills(path: Path, frames: int, start: float) -> tuple[list[Image], list[Face]]:
    """Reads a photograph, or frames of a video that follow each other, and finds the face.

    Args:
      path: The file.
      frames: Number of frames of a video.
      start: Where in the video they begin, from 0 to 1.
    """
    if path.suffix.lower() in IMAGES:
        images = [read_image(path)]
    else:
        total = h264.probe(path).frames
        first = int(start * max(0, total - frames))
        images = list(itertools.islice(h264.decode(path), first, first + frames))
        if len(images) < frames:
            raise UnusableClipError(f"{path}: has {len(images)} frames, and {frames} are needed")
    found = faces.detector().detect(images)
    track = faces.choose_track(found)
    if track is None or not track.found.all():
        raise UnusableClipError(f"{path}: no face was found")
    return images, [_face(one, box) for one, box in zip(found, track.boxes, strict=True)]


def _face(detections: Any, box: npt.NDArray[Any]) -> Face:
    index = int(np.argmin(np.abs(detections.boxes - box).sum(axis=1)))
    return Face(detections.boxes[index], detections.landmarks[index])


def read(source: BlendSource) -> Clip:
    """Makes the real clip of a pair, or its fake.

    The fake is blended in the pixels of the file, before the camera, its noise and any encoding.

    Args:
      source: The clip.

    Raises:
      UnusableClipError: The file cannot be read, or no face was found.
    """
    recipe, kept = source.recipe, source.recipe.frames_per_video
    length = _FILMED * kept
    start = float(_random(source, "start").random())
    images, found = _stills(source.files.best, length, start)
    still = len(images) == 1
    whole = _around(found)
    filmed = footage.draw(
        images[0].shape[:2], whole, length, _random(source, "footage"), moves=still
    )
    aged = [footage.aged(image, filmed.past) for image in images]
    if source.files.label == "fake":
        aged = _blended(source, aged, images, found, filmed.scale, length)
    images = aged
    if still:
        found = found * length
        images = images if len(images) == length else images * length
    frames, placed = footage.film(filmed, images, found)
    indices = [int((i + 0.5) * _FILMED) for i in range(kept)]
    boxes = [faces.square_box(placed[i].box, filmed.size) for i in indices]
    crops = {}
    for quality in recipe.qualities:
        seen = _at(quality, frames, source)
        crops[quality] = [faces.crop(seen[i], box) for i, box in zip(indices, boxes, strict=True)]
    return Clip(
        method=source.files.method,
        video=source.files.video,
        identity=source.files.identity,
        label=source.files.label,
        frames=indices,
        boxes=np.asarray(boxes, np.float32),
        crops=crops,
    )


def _around(found: Sequence[Face]) -> Face:
    """One face for a clip: the box around all boxes, the landmarks of the first."""
    boxes = np.stack([face.box for face in found])
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    return Face(box, found[0].landmarks)


def _blended(
    source: BlendSource,
    images: list[Image],
    clean: list[Image],
    found: list[Face],
    scale: float,
    length: int,
) -> list[Image]:
    rng = _random(source, "blend")
    recipe = blend.draw(source.files.method, found[0].size, scale, rng)
    donor = None
    if source.donor is not None:
        others, their_faces = _stills(source.donor, 1, 0.5)
        donor = others[0], their_faces[0]
    if len(images) == 1 and recipe.flicker:
        images, clean, found = images * length, clean * length, found * length
    return [
        blend.apply(image, face, recipe, clean=before, donor=donor, moment=moment)
        for moment, (image, before, face) in enumerate(zip(images, clean, found, strict=True))
    ]


def _at(quality: str, frames: list[Image], source: BlendSource) -> list[Image]:
    """The frames of a clip at a quality."""
    if quality == "raw":
        return frames
    if quality == MESSENGER:
        return list(compression.messenger(frames, frames[0].shape[:2]))
    return list(h264.decode(h264.encode(frames, crf=source.crf(quality))))
