"""The cascade: from frames to boxes, a few frames at a time, with few compiled shapes."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data_builders.mtcnn import networks, weights
from data_builders.mtcnn.boxes import Boxes, area, moved, squared, strongest
from data_builders.mtcnn.pyramid import levels, pyramid, resized

Frame = npt.NDArray[np.uint8]

# The thresholds of P-Net, R-Net and O-Net.
_PROPOSED, _REFINED, _FACE = 0.6, 0.7, 0.8

# Compiled shapes: frames are padded to multiples, counts to powers of two.
_FRAME_MULTIPLE = 128
_FRAMES_AT_ONCE = 8
_CROPS_AT_ONCE = 16, 64  # the maps of 64 crops stay in the cache of a processor's core

# Between two frames, faces have this part of the smaller size of both. A window of P-Net that is
# much smaller than a face has no part in its box. What is left with four levels fewer costs little.
_NO_SMALLER, _MOST_SKIPPED = 0.6, 4

# The smallest face, as a part of the shorter side. No video is about smaller faces, and a pyramid
# that starts at half the size costs four times as much.
_SMALLEST_PART = 1 / 16
_SMALLEST_PIXELS = 20


class Detections(NamedTuple):
    """The faces of one frame, the highest score first.

    Attributes:
      boxes: `(k, 4)` float32 x0, y0, x1, y1 in pixels of the frame, within it.
      scores: `(k,)` float32, 0.8 to 1.
      landmarks: `(k, 5, 2)` float32 x, y of the eye on the image's left, the other eye, the tip of
        the nose, the corner of the mouth on the image's left, and the other corner, in pixels of
        the frame. None where nobody has placed them.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    landmarks: npt.NDArray[np.float32] | None = None


class _Candidates(NamedTuple):
    frame_index: npt.NDArray[np.intp]  # (k,)
    boxes: Boxes  # (k, 4)
    scores: npt.NDArray[np.floating]  # (k,)
    landmarks: npt.NDArray[np.floating]  # (k, 5, 2); before O-Net (k, 0, 2)

    def take(self, index: Any) -> _Candidates:
        return _Candidates(*(field[index] for field in self))

    def strongest(self, limit: float, *, of_smaller: bool = False) -> _Candidates:
        found = self.frame_index, self.boxes, self.scores
        return self.take(strongest(*found, limit=limit, of_smaller=of_smaller))


class Detector:
    """MTCNN with the weights of the `mtcnn` wheel.

    Example:
      >>> detector = Detector()
      >>> boxes, scores, landmarks = detector.detect(frames)[0]

    Args:
      min_face: Side of the smallest face to detect, in pixels of the frame. None: a sixteenth of
        the frame's shorter side, or 20 pixels where that is more.
      max_side: Frames with a longer side are shrunk for detection, so that a film in 4K takes no
        longer than one in SD. None: never. No face under 12 pixels of the shrunk frame is found.

    Raises:
      UserError: The wheel is not installed, or has other weights.
    """

    def __init__(self, *, min_face: float | None = None, max_side: int | None = 640) -> None:
        if min_face is not None and not min_face >= networks.WINDOW:
            raise ValueError(f"min_face must be at least {networks.WINDOW} pixels, got {min_face}")
        if max_side is not None and max_side < networks.WINDOW:
            raise ValueError(f"max_side must be at least {networks.WINDOW} pixels, got {max_side}")
        self.min_face = min_face
        self.max_side = max_side
        import jax

        self._weights = jax.device_put(networks.prepared(weights.load()))

    def detect(
        self, frames: Sequence[Frame] | Frame, *, wholly: Sequence[int] | None = None
    ) -> list[Detections]:
        """Detects the faces in frames of one size.

        Args:
          frames: `(n, height, width, 3)` uint8 RGB, as one array or one for each frame.
          wholly: Positions of frames that are searched for faces of all sizes, ascending; None: all
            are. Where the frames on both sides of some others show as many faces, these others are
            searched for those that have at least 0.6 of the size of the smallest. In frames that
            follow each other closely, their boxes are those of a whole search, but a smaller face
            that comes and goes in between is not found.

        Returns:
          The faces of each frame.
        """
        for frame in frames:
            if frame.shape != frames[0].shape or frame.ndim != 3 or frame.shape[2] != 3:
                raise ValueError(
                    "frames must be (height, width, 3) and of one size, got "
                    f"{frames[0].shape} and {frame.shape}"
                )
            if frame.dtype != np.uint8:
                raise ValueError(f"frames must be uint8, got {frame.dtype}")
        keys = range(len(frames)) if wholly is None else wholly
        found = dict(zip(keys, self._in_turn([frames[i] for i in keys]), strict=True))
        ends = [-1, *keys, len(frames)]
        for before, after in itertools.pairwise(ends):
            between = range(before + 1, after)
            sizes = _sizes_of_both(found.get(before), found.get(after))
            least = _NO_SMALLER * min(sizes, default=0.0)
            found |= zip(between, self._in_turn([frames[i] for i in between], least), strict=True)
        return [found[i] for i in range(len(frames))]

    def _in_turn(self, frames: Sequence[Frame], least: float = 0.0) -> list[Detections]:
        detections: list[Detections] = []
        for start in range(0, len(frames), _FRAMES_AT_ONCE):
            detections.extend(self._detect(frames[start : start + _FRAMES_AT_ONCE], least))
        return detections

    def _detect(self, frames: Sequence[Frame], least: float) -> list[Detections]:
        height, width = frames[0].shape[:2]
        shrink = min(1, (self.max_side or np.inf) / max(height, width))
        size = max(1, round(height * shrink)), max(1, round(width * shrink))
        images = [resized(frame, size) for frame in frames]
        min_face = (
            max(_SMALLEST_PIXELS, _SMALLEST_PART * min(size))
            if self.min_face is None
            else max(networks.WINDOW, self.min_face * shrink)
        )
        skipped = min(levels(least * shrink / min_face), _MOST_SKIPPED)
        candidates = self._propose(images, min_face, skipped)
        if len(candidates.frame_index):
            stages = networks.compiled()
            look = functools.partial(_look, _padded(images, _FRAME_MULTIPLE), size)
            candidates = look(stages.refinement, self._weights.refinement, 24, candidates)
            candidates = candidates.take(candidates.scores > _REFINED).strongest(0.7)
            candidates = candidates._replace(boxes=squared(candidates.boxes))
            candidates = look(stages.output, self._weights.output, 48, candidates)
            candidates = candidates.take(candidates.scores > _FACE).strongest(0.7, of_smaller=True)
        enlarge = np.array([width / size[1], height / size[0]])
        boxes = candidates.boxes * np.tile(enlarge, 2)
        boxes = np.clip(boxes, 0, np.tile([width - 1, height - 1], 2)).astype(np.float32)
        scores = candidates.scores.astype(np.float32)
        landmarks = (candidates.landmarks * enlarge).astype(np.float32)
        visible = area(boxes) > 0
        masks = [visible & (candidates.frame_index == i) for i in range(len(frames))]
        return [Detections(boxes[one], scores[one], landmarks[one]) for one in masks]

    def _propose(self, images: Sequence[Frame], min_face: float, skipped: int) -> _Candidates:
        """Finds what P-Net takes for faces, at the levels of the pyramid but the first ones."""
        plan = pyramid(images[0].shape[:2], min_face, skipped)
        if plan is None:
            none = np.zeros(0)
            return _Candidates(none.astype(np.intp), np.zeros((0, 4)), none, np.zeros((0, 0, 2)))
        # Frames go one by one, because the maps of one stay in the processor's cache. A result is
        # not waited for: the next canvas is drawn meanwhile.
        proposal = networks.compiled().proposal
        results = [
            proposal(self._weights.proposal, plan.drawn(image), plan.pooled) for image in images
        ]
        outputs = np.stack([np.asarray(result) for result in results])
        logits = outputs[..., 4]
        level_of = plan.level[: logits.shape[1], : logits.shape[2]]
        proposed = np.nonzero((logits > _logit(_PROPOSED)) & (level_of >= 0))
        frame_index, cells = proposed[0], np.stack(proposed[1:], axis=1)
        level = level_of[proposed[1:]]
        corner = (2 * cells - plan.corners[level])[:, ::-1]
        windows = np.concatenate([corner + 1, corner + networks.WINDOW], axis=1)
        offset = outputs[proposed][:, :4].astype(np.float64)
        boxes = (windows + (networks.WINDOW - 1) * offset) / plan.scales[level][:, None]
        every = _Candidates(
            frame_index,
            boxes,
            1 / (1 + np.exp(-logits[proposed].astype(np.float64))),
            np.zeros((len(boxes), 0, 2)),
        )
        group = len(plan.scales) * frame_index + level
        every = every.take(strongest(group, every.boxes, every.scores, limit=0.5)).strongest(0.7)
        return every._replace(boxes=squared(every.boxes))


def _sizes_of_both(before: Detections | None, after: Detections | None) -> list[float]:
    """The larger side of each face of two frames; none where they show not as many."""
    if before is None or after is None or len(before.boxes) != len(after.boxes):
        return []
    boxes = np.concatenate([before.boxes, after.boxes])
    return (boxes[:, 2:] - boxes[:, :2]).max(axis=1).tolist()


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _look(
    padded: Frame,
    size: tuple[int, int],
    network: Callable[..., Any],
    parameters: Sequence[Any],
    crop_size: int,
    candidates: _Candidates,
) -> _Candidates:
    """Makes R-Net or O-Net score the candidates of all frames and move their boxes."""
    offsets, scores, landmarks = [np.zeros((0, 4))], [np.zeros(0)], []
    for start in range(0, len(candidates.frame_index), _CROPS_AT_ONCE[1]):
        block = candidates.take(np.s_[start : start + _CROPS_AT_ONCE[1]])
        count = len(block.frame_index)
        more = _power_of_two(count, at_least=_CROPS_AT_ONCE[0]) - count
        frame_index = np.pad(block.frame_index, (0, more)).astype(np.int32)
        boxes = np.pad(block.boxes, ((0, more), (0, 0))).astype(np.float32)
        crops = networks.compiled().cut(padded, *size, frame_index, boxes, size=crop_size)
        block_offsets, block_scores, *points = network(parameters, crops)
        offsets.append(np.asarray(block_offsets)[:count])
        scores.append(np.asarray(block_scores)[:count])
        landmarks += [_placed(block.boxes, np.asarray(one)[:count]) for one in points]
    boxes = moved(candidates.boxes, np.concatenate(offsets))
    placed = np.concatenate(landmarks) if landmarks else np.zeros((len(boxes), 0, 2))
    return _Candidates(candidates.frame_index, boxes, np.concatenate(scores), placed)


def _placed(boxes: Boxes, parts: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """From parts of a box to pixels."""
    corner, size = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
    return corner + parts * size


def _padded(images: Sequence[npt.NDArray[Any]], multiple: int) -> npt.NDArray[Any]:
    """Stacks images and pads: their number to a power of two, height and width to multiples."""
    height, width = (-(-pixels // multiple) * multiple for pixels in images[0].shape[:2])
    shape = _power_of_two(len(images)), height, width, 3
    stack = np.zeros(shape, images[0].dtype)
    for target, image in zip(stack, images, strict=False):
        target[: image.shape[0], : image.shape[1]] = image
    return stack


def _power_of_two(count: int, *, at_least: int = 1) -> int:
    return max(at_least, 1 << (count - 1).bit_length())
