"""Where the face is: one square box for each frame, found once and used at every quality.

The recipe is the same for every source of faces: a square of 1.3 times the larger side about the
centre of the face, shifted into the frame. A model trained on crops of one recipe is nearly blind
on those of another, so each source describes its own (`recipe`), which is stored with the dataset.

Boxes are x0, y0, x1, y1 in pixels of the frame; pixel columns x0 to x1 - 1 are inside.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import math
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from data_builders.errors import UserError, nearest
from data_builders.home import expanded
from data_builders.lists import read_json
from data_builders.mtcnn.weights import VERSION
from data_builders.tracks import Track, between, choose_track

if TYPE_CHECKING:
    from data_builders.mtcnn import Detector

Frame: TypeAlias = npt.NDArray[np.uint8]
Box: TypeAlias = Sequence[float] | npt.NDArray[Any]

SCALE = 1.3
#: Names of the sources of faces.
SOURCES = ("mtcnn", "file", "none")

_FAR = 1e6  # pixels: no frame is so large


class FaceSource(Protocol):
    """Where boxes of faces come from. It is picklable, because workers get it.

    Attributes:
      chooses: Whether it chooses among the faces of a frame, by a mask where there is one.
    """

    chooses: ClassVar[bool]

    @property
    def recipe(self) -> dict[str, Any]:
        """Describes how these crops are made, as JSON values for the dataset's information."""

    def __call__(
        self,
        video: str,
        indices: Sequence[int],
        frames: Sequence[Frame],
        *,
        masks: Sequence[npt.NDArray[Any]] | None = None,
    ) -> Track | None:
        """Finds the boxes of the face of one clip.

        Args:
          video: Name of the video, `method/video` as in the records' keys.
          indices: Index of each frame in the video, ascending.
          frames: The frames, `(height, width, 3)` uint8 RGB, at the best quality there is.
          masks: For each frame the manipulated pixels, as in `tracks.choose_track`.

        Returns:
          The boxes to `crop`, integers within the frame, and in which frames they are kept; None
          where there is no face.
        """


def source(name: str, *, path: str | Path = "") -> FaceSource:
    """Makes a source of faces by name.

    Args:
      name: 'mtcnn', 'file', or 'none'.
      path: The file of boxes, for 'file'.

    Raises:
      UserError: The name is another one, or the file has a mistake.
    """
    if name == "mtcnn":
        return Detected()
    if name == "file":
        if not str(path):
            raise UserError("the source of faces 'file' needs the path of a file of boxes")
        return FromFile(str(expanded(path)))
    if name == "none":
        return Whole()
    raise UserError(f"there is no source of faces {name!r}: {nearest(name, SOURCES)}")


@dataclasses.dataclass(frozen=True)
class Detected:
    """Faces that MTCNN detects.

    Attributes:
      min_face: As in `mtcnn.Detector`.
      max_side: As in `mtcnn.Detector`.
      scale: Side of the square, in larger sides of the face.
      max_gap: A frame in which the face is not found is kept only between two in which it is, at
        most this many frames of the video apart: a second in which somebody blinks or turns.
    """

    chooses: ClassVar[bool] = True

    min_face: float | None = None
    max_side: int | None = 640
    scale: float = SCALE
    max_gap: int = 30

    @property
    def recipe(self) -> dict[str, Any]:
        """Names the detector, its settings and the square."""
        return {"faces": f"mtcnn {VERSION}", **dataclasses.asdict(self)}

    def __call__(
        self,
        video: str,
        indices: Sequence[int],
        frames: Sequence[Frame],
        *,
        masks: Sequence[npt.NDArray[Any]] | None = None,
    ) -> Track | None:
        """Detects the faces of every frame and follows one of them."""
        del video
        for mask, frame in () if masks is None else zip(masks, frames, strict=True):
            if mask.shape != frame.shape[:2]:
                raise ValueError(f"a mask of {mask.shape} for a frame of {frame.shape[:2]}")
        detections = detector(self.min_face, self.max_side).detect(frames)
        track = choose_track(detections, masks=masks, times=indices, max_gap=self.max_gap)
        return None if track is None else squares(track, frames, self.scale)


@functools.cache
def detector(min_face: float | None = None, max_side: int | None = 640) -> Detector:
    """Makes one detector for each process, because it holds the weights on the device."""
    from data_builders.mtcnn import Detector

    return Detector(min_face=min_face, max_side=max_side)


@dataclasses.dataclass(frozen=True)
class FromFile:
    """Faces that the user has found.

    The file is JSON. It has for each video the box of the face in some of its frames, in pixels of
    the best quality:

        {"original/000": {"0": [312, 96, 420, 240], "30": [318.5, 99, 425, 241]}, ...}

    A box is that of the face, as a detector gives it: it is made square, and larger by `scale`.
    Frames between two that are listed get a box in between. A video without frames, `{}`, shows no
    face.

    Attributes:
      path: The file.
      scale: Side of the square, in larger sides of the face.
    """

    chooses: ClassVar[bool] = False

    path: str
    scale: float = SCALE

    def __post_init__(self) -> None:
        _read_boxes(self.path)  # a mistake ends the build before it begins

    @property
    def recipe(self) -> dict[str, Any]:
        """Names the file, its digest and the square."""
        digest = hashlib.sha256(Path(self.path).read_bytes()).hexdigest()
        return {"faces": f"file {Path(self.path).name}", "sha256": digest, "scale": self.scale}

    def __call__(
        self,
        video: str,
        indices: Sequence[int],
        frames: Sequence[Frame],
        *,
        masks: Sequence[npt.NDArray[Any]] | None = None,
    ) -> Track | None:
        """Looks up the boxes of the video."""
        del masks  # the file says which face it is
        videos = _read_boxes(self.path)
        if video not in videos:
            close = difflib.get_close_matches(video, videos, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {len(videos)} others"
            raise UserError(f"{self.path}: has no video {video!r}; {hint}")
        boxes = videos[video]
        height, width = frames[0].shape[:2]
        for frame, (x0, y0, x1, y1) in boxes.items():
            if not (0 <= (x0 + x1) / 2 <= width and 0 <= (y0 + y1) / 2 <= height):
                raise UserError(
                    f"{self.path}: the box of {video!r} frame {frame} has its centre outside the "
                    f"frame of {width}x{height}; boxes are x0, y0, x1, y1 in its pixels"
                )
        if not boxes:
            return None
        listed = sorted(boxes)
        filled = between(indices, listed, np.array([boxes[frame] for frame in listed]))
        found = np.isin(indices, listed)
        return squares(Track(filled, found, np.ones_like(found)), frames, self.scale)


@dataclasses.dataclass(frozen=True)
class Whole:
    """The whole frame: the images are crops of faces already."""

    chooses: ClassVar[bool] = False

    @property
    def recipe(self) -> dict[str, Any]:
        """Says that nothing is cut."""
        return {"faces": "none"}

    def __call__(
        self,
        video: str,
        indices: Sequence[int],
        frames: Sequence[Frame],
        *,
        masks: Sequence[npt.NDArray[Any]] | None = None,
    ) -> Track | None:
        """Takes the whole of each frame."""
        del video, indices, masks
        boxes = [(0, 0, frame.shape[1], frame.shape[0]) for frame in frames]
        every = np.ones(len(frames), bool)
        return Track(np.array(boxes, np.int64).reshape(-1, 4), every, every)


def square_box(
    box: Box, frame_size: tuple[int, int], scale: float = SCALE
) -> tuple[int, int, int, int]:
    """Computes the square to cut out around a face.

    Args:
      box: x0, y0, x1, y1 of the face; it must not be empty.
      frame_size: `(height, width)` of the frame.
      scale: Side of the square, in larger sides of the box.

    Returns:
      Integer x0, y0, x1, y1 of a square within the frame. It is shifted where it would leave the
      frame, and smaller only where the frame is.
    """
    x0, y0, x1, y1 = (float(edge) for edge in box)
    if not (x0 < x1 and y0 < y1 and all(map(math.isfinite, (x0, y0, x1, y1)))):
        raise ValueError(f"a box is x0, y0, x1, y1 with x0 < x1 and y0 < y1, got {tuple(box)}")
    height, width = frame_size
    side = min(max(1, round(scale * max(x1 - x0, y1 - y0))), height, width)
    left = min(max(0, round((x0 + x1 - side) / 2)), width - side)
    top = min(max(0, round((y0 + y1 - side) / 2)), height - side)
    return left, top, left + side, top + side


def moved_to(
    boxes: npt.NDArray[np.int64], size: tuple[int, int], other: tuple[int, int]
) -> npt.NDArray[np.int64]:
    """Computes the boxes of the same places in frames of another size and of the same shape.

    Args:
      boxes: `(n, 4)` integer x0, y0, x1, y1 within frames of the one size.
      size: Height and width of these frames.
      other: Height and width of the other frames.

    Returns:
      `(n, 4)` integer boxes within the other frames; of boxes of one size, all have one size.
    """
    if size == other:
        return boxes
    scales, limits = np.array(other[::-1]) / size[::-1], np.array(other[::-1])
    sides = np.rint((boxes[:, 2:] - boxes[:, :2]) * scales).clip(1, limits)
    corners = np.rint(boxes[:, :2] * scales).clip(0, limits - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.int64)


def crop(frame: Frame, box: Box) -> Frame:
    """Cuts a box with integer edges out of a frame.

    Args:
      frame: `(height, width, 3)`.
      box: x0, y0, x1, y1 within the frame.

    Returns:
      A copy of the pixels.
    """
    x0, y0, x1, y1 = (int(edge) for edge in box)
    height, width = frame.shape[:2]
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"box {(x0, y0, x1, y1)} is not within the frame of {width}x{height}")
    return frame[y0:y1, x0:x1].copy()


def crops(frames: Sequence[Frame], track: Track) -> list[Frame]:
    """Cuts a face with integer boxes out of each frame that is kept, see `crop`."""
    return [
        crop(frame, box)
        for frame, box, kept in zip(frames, track.boxes, track.kept, strict=True)
        if kept
    ]


def squares(track: Track, frames: Sequence[Frame], scale: float) -> Track:
    """The same face with the square of each frame, see `square_box`, as integers."""
    pairs = zip(track.boxes, frames, strict=True)
    squares = [square_box(box, frame.shape[:2], scale) for box, frame in pairs]
    return track._replace(boxes=np.array(squares, np.int64))


@functools.lru_cache(maxsize=4)
def _read_boxes(path: str) -> dict[str, dict[int, tuple[float, ...]]]:
    content = read_json(Path(path), "file of boxes")
    if not isinstance(content, dict):
        raise UserError(f'{path}: must be an object {{"video": {{"frame": [x0, y0, x1, y1]}}}}')
    return {video: _checked(path, video, boxes) for video, boxes in content.items()}


def _checked(path: str, video: str, boxes: Any) -> dict[int, tuple[float, ...]]:
    if not isinstance(boxes, dict):
        raise UserError(
            f'{path}: {video!r} must be an object {{"frame": [x0, y0, x1, y1]}}, got '
            f"{reprlib.repr(boxes)}"
        )
    checked = {}
    for frame, box in boxes.items():
        if not (frame.isascii() and frame.isdigit() and len(frame) < 10):
            raise UserError(
                f"{path}: {video!r} has a frame {frame!r}; frames are indices in the video, from 0"
            )
        four = isinstance(box, list) and len(box) == 4
        if not (four and all(type(edge) in (int, float) and abs(edge) < _FAR for edge in box)):
            raise UserError(
                f"{path}: the box of {video!r} frame {frame} must be four numbers, x0, y0, x1, y1, "
                f"got {reprlib.repr(box)}"
            )
        if not (box[0] < box[2] and box[1] < box[3]):
            raise UserError(
                f"{path}: the box of {video!r} frame {frame} is empty: {box}; it must "
                "be x0, y0, x1, y1 (not width and height) with x0 < x1 and y0 < y1"
            )
        checked[int(frame)] = tuple(box)
    return checked
