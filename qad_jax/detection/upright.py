"""Whether a face stands upright in the picture, or lies on its side, or upside down.

A detector that has seen upright faces alone also finds some that lie, and puts their landmarks
anywhere. But it is surer of a face that stands. So the surroundings of the face are shown to it in
all four positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from data_builders.mtcnn import Detector

Image = npt.NDArray[np.uint8]

# The part of the frame that is shown, in sides of the face, and its side in pixels then.
_AROUND, _SIDE = 2.4, 128
# How much larger the odds of a face must be, as a factor, in another position. Of 155 portraits
# none was taken for lying; of 188 that lay in one of three ways and were found at all, four were
# not seen (`python benchmarks/lying_faces.py FACES --every 6`).
_SURER = 2.0
# From this score on, a face that is found in a turned picture counts: the search itself takes what
# has 0.8, and many mistakes.
_SURE = 0.95
# A score counts as no nearer to 0 and 1 than this.
_NEAREST = 1e-3, 1e-5


def quarters(
    frames: Sequence[Image], boxes: npt.NDArray[np.floating[Any]], detector: Detector
) -> int:
    """By how many quarters a picture has to be turned so that the face in it stands.

    Args:
      frames: `(height, width, 3)` uint8 RGB each; a few are enough.
      boxes: `(n, 4)` x0, y0, x1, y1 of the face in each, in pixels.
      detector: Finds faces.

    Returns:
      0 to 3 quarters, counterclockwise.
    """
    shown = [
        np.ascontiguousarray(np.rot90(_around(frame, box), turned))
        for frame, box in zip(frames, boxes, strict=True)
        for turned in range(4)
    ]
    best = [found.scores.max(initial=0) for found in detector.detect(shown)]
    low, high = _NEAREST
    sure = np.clip(np.asarray(best, np.float64).reshape(-1, 4), low, 1 - high)
    odds = np.log(sure / (1 - sure)).mean(axis=0)
    surest = int(odds.argmax())
    return surest if odds[surest] > odds[0] + np.log(_SURER) else 0


def found_when_turned(frames: Sequence[Image], detector: Detector) -> bool:
    """Whether a picture in which no face was found shows one after a quarter turn or two.

    Args:
      frames: `(height, width, 3)` uint8 RGB each; a few are enough, of which all must show it.
      detector: Finds faces.
    """
    for turned in (1, 2, 3):
        shown = [np.ascontiguousarray(np.rot90(frame, turned)) for frame in frames]
        if all(found.scores.max(initial=0) > _SURE for found in detector.detect(shown)):
            return True
    return False


def _around(frame: Image, box: npt.NDArray[np.floating[Any]]) -> Image:
    """The surroundings of a face, mirrored beyond the edge of the frame."""
    width = _AROUND * float(max(box[2] - box[0], box[3] - box[1]))
    scale, middle = _SIDE / width, (box[:2] + box[2:]) / 2
    blur = 0.4 / scale if scale < 1 else 0.0  # else a warp would skip pixels
    # Of a large frame, what is not shown is left out first.
    reach = width / 2 + 4 * blur + 2
    left, top = (max(0, int(place - reach)) for place in middle)
    right, bottom = (int(place + reach) + 1 for place in middle)
    part = frame[top:bottom, left:right]
    if blur:
        part = np.asarray(cv2.GaussianBlur(part, (0, 0), blur), np.uint8)
    matrix = np.array([[scale, 0.0, 0.0], [0.0, scale, 0.0]])
    matrix[:, 2] = _SIDE / 2 - scale * (middle - (left, top))
    shown = cv2.warpAffine(part, matrix, (_SIDE, _SIDE), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(shown, np.uint8)
