"""The pixels that a pair is made of: a photograph or frames of a video, and the face in them.

They are bounded here, once, whatever the camera: a face that is far larger than in any clip is
scaled down, and of a large image only what is around the face is kept. Everything that comes later
works on these pixels alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from data_builders import faces, h264
from data_builders.errors import UnusableClipError, UserError
from data_builders.images import read_image
from data_builders.records import Image
from data_builders.self_blended import footage
from data_builders.self_blended.face import Face, around

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")

_MOST = 2 * footage.LARGEST_FACE  # px of a face: what is finer is in no clip
_LARGE = 4_000_000  # pixels: smaller images are kept whole
# Sizes of a face that are kept on each side of its middle. A frame, its camera and a turn need 1.8.
_REACH = 2.0


class NoFaceError(UnusableClipError):
    """The file shows no face, or not in every frame that is used."""


def is_of_file(error: Exception, path: Path) -> bool:
    """Whether a file is the reason, and not what fails for all, such as a detector's weights.

    Args:
      error: What was raised while the file was read.
      path: The file.
    """
    if not isinstance(error, UserError):  # a mistake in this program costs one file
        return not isinstance(error, MemoryError)
    return isinstance(error, UnusableClipError) or str(path) in str(error)


class Stills(NamedTuple):
    """Images of one size, and a face in each.

    Attributes:
      images: `(height, width, 3)` uint8 RGB: a photograph, or frames of a video.
      faces: The face in each, in its pixels.
      scale: From pixels of the file to these pixels, at most 1.
    """

    images: list[Image]
    faces: list[Face]
    scale: float = 1.0


def read_stills(path: Path, frames: int, start: float) -> Stills:
    """Reads a photograph, or frames of a video that follow each other, and finds the face.

    Args:
      path: The file.
      frames: Number of frames of a video.
      start: Where in the video they begin, from 0 to 1.

    Raises:
      UserError: The file cannot be read, or no face was found.
    """
    changed = path.stat().st_mtime_ns  # a file that was replaced is read again
    if path.suffix.lower() in IMAGES:
        return _photograph(path, changed)
    images = _taken(path, _frames_in(path, changed), frames, start)
    if len(images) < frames:  # than the index says
        total = h264.count(path)
        if total < frames:
            raise UnusableClipError(f"{path}: has {total} frames, and {frames} are needed")
        images = _taken(path, total, frames, start)
    return _with_faces(path, images)


@functools.lru_cache(maxsize=64)  # without an index, a video is decoded to its end to count them
def _frames_in(path: Path, changed: int) -> int:
    del changed
    return h264.probe(path).frames


def _taken(path: Path, total: int, frames: int, start: float) -> list[Image]:
    """Some frames of a video of so many. Only these are converted to RGB."""
    first = int(start * max(0, total - frames))
    return [image for _, image in h264.sampled(path, range(first, first + frames))]


@functools.lru_cache(maxsize=2)  # of a pair and of its donor: the next pair is of the same file
def _photograph(path: Path, changed: int) -> Stills:
    del changed
    return _with_faces(path, [read_image(path)])


def _with_faces(path: Path, images: list[Image]) -> Stills:
    found = faces.detector().detect(images)
    track = faces.choose_track(found)
    if track is None or not track.found.all():
        raise NoFaceError(f"{path}: no face was found")
    return bounded(images, [_face(one, box) for one, box in zip(found, track.boxes, strict=True)])


def _face(detections: Any, box: npt.NDArray[Any]) -> Face:
    index = int(np.argmin(np.abs(detections.boxes - box).sum(axis=1)))
    return Face(detections.boxes[index], detections.landmarks[index])


def bounded(images: Sequence[Image], found: Sequence[Face]) -> Stills:
    """Scales large faces down, and cuts large images to what is around the face.

    Args:
      images: Images of one size.
      found: The face in each.

    Returns:
      The same images where the face has at most 800 pixels, and the image 4 megapixels.
    """
    height, width = images[0].shape[:2]
    whole = around(found)
    scale = min(1.0, _MOST / whole.size)
    left, top, right, bottom = 0, 0, width, height
    if height * width * scale**2 > _LARGE:
        centre, reach = (whole.box[:2] + whole.box[2:]) / 2, _REACH * whole.size
        left, top = (max(0, int(edge)) for edge in centre - reach)
        right, bottom = (
            min(most, int(edge)) for most, edge in zip((width, height), centre + reach, strict=True)
        )
    elif scale == 1:
        return Stills(list(images), list(found))
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    ratio = np.array(size) / (right - left, bottom - top)
    # Pixels have their places in their middles.
    offset = (ratio - 1) / 2 - ratio * (left, top)
    matrix = np.concatenate([np.diag(ratio), offset[:, None]], axis=1)
    return Stills(
        [_scaled(image[top:bottom, left:right], size) for image in images],
        [face.moved(matrix) for face in found],
        scale,
    )


def _scaled(image: Image, size: tuple[int, int]) -> Image:
    if image.shape[1::-1] == size:
        return image.copy()  # the whole image is given up
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
