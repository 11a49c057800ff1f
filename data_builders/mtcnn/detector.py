"""The cascade: from frames to boxes, a few frames at a time, few shapes compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from data_builders.mtcnn import networks, weights
from data_builders.mtcnn.boxes import Boxes, area, moved, squared, strongest

Frame = npt.NDArray[np.uint8]

_WINDOW = 12  # pixels that P looks at
_STEP = 0.709  # from one level of the pyramid to the next: half the area

# What a face must score to pass P, R and O.
_PROPOSED, _REFINED, _FACE = 0.6, 0.7, 0.8

# Shapes that are compiled: levels and frames are padded to multiples, counts to powers of two.
_LEVEL_MULTIPLE, _FRAME_MULTIPLE = 32, 128
_FRAMES_AT_ONCE = 8
_CROPS_AT_ONCE = 16, 512

# Faces smaller than this part of the shorter side are nobody's portrait, and a pyramid that starts
# at half the size costs four times as much.
_SMALLEST_PART = 1 / 16
_SMALLEST_PIXELS = 20


class Detections(NamedTuple):
    """The faces of one frame, the surest first.

    Attributes:
      boxes: `(k, 4)` float32 x0, y0, x1, y1 in pixels of the frame, within it.
      scores: `(k,)` float32, 0.8 to 1.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]


class _Candidates(NamedTuple):
    which: npt.NDArray[np.intp]  # (k,) the frame
    boxes: Boxes  # (k, 4)
    scores: npt.NDArray[np.floating]  # (k,)

    def take(self, index: Any) -> _Candidates:
        return _Candidates(*(field[index] for field in self))

    def strongest(self, limit: float, *, of_smaller: bool = False) -> _Candidates:
        return self.take(strongest(*self, limit=limit, of_smaller=of_smaller))


class Detector:
    """MTCNN with the weights of the `mtcnn` wheel.

    Example:
      >>> detector = Detector()
      >>> boxes, scores = detector.detect(frames)[0]

    Args:
      min_face: Side of the smallest face that is looked for, in pixels of the frame. None: a
        sixteenth of the frame's shorter side, or 20 pixels where that is more.
      max_side: Frames whose longer side is more are shrunk for detection, so that a film in 4K
        takes no longer than one in SD. None: never. In the shrunk frame, too, no face under 12
        pixels is found.

    Raises:
      UserError: The wheel is not installed, or carries other weights.
    """

    def __init__(self, *, min_face: float | None = None, max_side: int | None = 640) -> None:
        if min_face is not None and not min_face >= _WINDOW:
            raise ValueError(f"min_face must be at least {_WINDOW} pixels, got {min_face}")
        if max_side is not None and max_side < _WINDOW:
            raise ValueError(f"max_side must be at least {_WINDOW} pixels, got {max_side}")
        self.min_face = min_face
        self.max_side = max_side
        import jax

        self._weights = jax.device_put(weights.load())

    def detect(self, frames: Sequence[Frame] | Frame) -> list[Detections]:
        """Finds the faces in frames of one size.

        Args:
          frames: `(n, height, width, 3)` uint8 RGB, one array or one for each frame.

        Returns:
          What was found in each frame.
        """
        for frame in frames:
            if frame.shape != frames[0].shape or frame.ndim != 3 or frame.shape[2] != 3:
                raise ValueError(
                    "frames must be (height, width, 3) and of one size, got "
                    f"{frames[0].shape} and {frame.shape}"
                )
            if frame.dtype != np.uint8:
                raise ValueError(f"frames must be uint8, got {frame.dtype}")
        found: list[Detections] = []
        for start in range(0, len(frames), _FRAMES_AT_ONCE):
            found.extend(self._detect(frames[start : start + _FRAMES_AT_ONCE]))
        return found

    def _detect(self, frames: Sequence[Frame] | Frame) -> list[Detections]:
        height, width = frames[0].shape[:2]
        shrink = min(1, (self.max_side or np.inf) / max(height, width))
        size = max(1, round(height * shrink)), max(1, round(width * shrink))
        pictures = [_resized(frame, size) for frame in frames]
        min_face = (
            max(_SMALLEST_PIXELS, _SMALLEST_PART * min(size))
            if self.min_face is None
            else max(_WINDOW, self.min_face * shrink)
        )
        found = self._propose(pictures, min_face)
        if len(found.which):
            stages = networks.compiled()
            look = functools.partial(_look, _padded(pictures, _FRAME_MULTIPLE), size)
            found = look(stages.refinement, self._weights.refinement, 24, found)
            found = found.take(found.scores > _REFINED).strongest(0.7)
            found = found._replace(boxes=squared(found.boxes))
            found = look(stages.output, self._weights.output, 48, found)
            found = found.take(found.scores > _FACE).strongest(0.7, of_smaller=True)
        boxes = found.boxes * np.tile([width / size[1], height / size[0]], 2)
        boxes = np.clip(boxes, 0, np.tile([width - 1, height - 1], 2)).astype(np.float32)
        scores = found.scores.astype(np.float32)
        seen = area(boxes) > 0
        mine = [seen & (found.which == i) for i in range(len(frames))]
        return [Detections(boxes[one], scores[one]) for one in mine]

    def _propose(self, pictures: Sequence[Frame], min_face: float) -> _Candidates:
        """Everything that P takes for a face, at all levels of the pyramid."""
        proposal = networks.compiled().proposal
        floats = [picture.astype(np.float32) for picture in pictures]
        results = []
        for scale, size in _levels(pictures[0].shape[:2], min_face):
            level = _padded([_resized(picture, size) for picture in floats], _LEVEL_MULTIPLE)
            # Not waited for: the next level is resized meanwhile.
            results.append((scale, size, proposal(self._weights.proposal, level, *size)))
        found = []
        for scale, (height, width), (offsets, scores) in results:
            valid = np.s_[: len(pictures), : networks.cells(height), : networks.cells(width)]
            level_scores = np.asarray(scores)[valid].astype(np.float64)
            which, rows, columns = np.nonzero(level_scores > _PROPOSED)
            corner = 2 * np.stack([columns, rows], axis=1)
            windows = np.concatenate([corner + 1, corner + _WINDOW], axis=1)
            offset = np.asarray(offsets)[valid][which, rows, columns].astype(np.float64)
            boxes = (windows + (_WINDOW - 1) * offset) / scale
            level_found = _Candidates(which, boxes, level_scores[which, rows, columns])
            found.append(level_found.strongest(0.5))
        if not found:
            return _Candidates(np.zeros(0, np.intp), np.zeros((0, 4)), np.zeros(0))
        every = _Candidates(*map(np.concatenate, zip(*found, strict=True))).strongest(0.7)
        return every._replace(boxes=squared(every.boxes))


def _levels(size: tuple[int, int], min_face: float) -> Iterator[tuple[float, tuple[int, int]]]:
    """Yields scale and (height, width) of each level of the pyramid, the largest first."""
    scale = _WINDOW / min_face
    while min(size) * scale >= _WINDOW:
        yield scale, (int(size[0] * scale), int(size[1] * scale))
        scale *= _STEP


def _look(
    padded: Frame,
    size: tuple[int, int],
    network: Callable[..., Any],
    parameters: Sequence[Any],
    crop_size: int,
    candidates: _Candidates,
) -> _Candidates:
    """Has R or O score the candidates of all frames and move their boxes."""
    offsets, scores = [np.zeros((0, 4))], [np.zeros(0)]
    for start in range(0, len(candidates.which), _CROPS_AT_ONCE[1]):
        block = candidates.take(np.s_[start : start + _CROPS_AT_ONCE[1]])
        count = len(block.which)
        more = _power_of_two(count, at_least=_CROPS_AT_ONCE[0]) - count
        which = np.pad(block.which, (0, more)).astype(np.int32)
        boxes = np.pad(block.boxes, ((0, more), (0, 0))).astype(np.float32)
        crops = networks.compiled().cut(padded, *size, which, boxes, size=crop_size)
        block_offsets, block_scores = network(parameters, crops)
        offsets.append(np.asarray(block_offsets)[:count])
        scores.append(np.asarray(block_scores)[:count])
    boxes = moved(candidates.boxes, np.concatenate(offsets))
    return _Candidates(candidates.which, boxes, np.concatenate(scores))


def _resized(picture: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    if picture.shape[:2] == size:
        return picture
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)


def _padded(pictures: Sequence[npt.NDArray[Any]], multiple: int) -> npt.NDArray[Any]:
    """Stacks pictures, their number a power of two, height and width multiples."""
    height, width = (-(-pixels // multiple) * multiple for pixels in pictures[0].shape[:2])
    shape = _power_of_two(len(pictures)), height, width, 3
    stack = np.zeros(shape, pictures[0].dtype)
    for target, picture in zip(stack, pictures, strict=False):
        target[: picture.shape[0], : picture.shape[1]] = picture
    return stack


def _power_of_two(count: int, *, at_least: int = 1) -> int:
    return max(at_least, 1 << (count - 1).bit_length())
