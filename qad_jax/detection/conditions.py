"""What a detector was measured on: outside of it, nothing is told.

Error rates hold for faces like those that were measured. A face that is smaller, more blurred, more
turned to the side, tilted more, or in a file that is compressed more, is not like them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from data_builders.files import is_number
from qad_jax.detection.scoring import resized

# The side at which blur is measured, in pixels: a crop that was enlarged to it is blurred.
_SIDE = 224


@dataclasses.dataclass(frozen=True)
class Appearance:
    """How a face looks in a file.

    Attributes:
      side: Median of its larger side, in pixels of the file.
      sharpness: See `sharpness`.
      turn: See `turn`; NaN where the landmarks are not known.
      compression: Of the file, as the CRF of H.264 that loses as much, see `quality.Quality`.
      tilt: See `tilt`; NaN where the landmarks are not known.
      quarters: See `upright.quarters`.
    """

    side: float
    sharpness: float = math.inf
    turn: float = math.nan
    compression: float = 0.0
    tilt: float = math.nan
    quarters: int = 0


@dataclasses.dataclass(frozen=True)
class Conditions:
    """The bounds of what was measured, see `benchmarks/conditions.py`.

    Attributes:
      smallest_face: The least `Appearance.side`.
      least_sharpness: The least `Appearance.sharpness`.
      largest_turn: The largest `Appearance.turn`.
      most_compression: The largest `Appearance.compression`.
      largest_tilt: The largest `Appearance.tilt`. It has a default, because older model files do
        not say it: the rates of the detector of the package hold up to there, and at 45 degrees
        many real faces are called fake (`benchmarks/tilted_faces.py`).
    """

    smallest_face: float = 60.0
    least_sharpness: float = 0.0
    largest_turn: float = math.inf
    most_compression: float = math.inf
    largest_tilt: float = 20.0

    @classmethod
    def of(cls, measured: Mapping[str, Any]) -> Conditions:
        """Reads them from the description of a model file.

        Raises:
          ValueError: They are no finite numbers.
        """
        stored = measured.get("conditions") or {}
        if not isinstance(stored, dict):
            raise ValueError("the conditions are no numbers")
        known = [field.name for field in dataclasses.fields(cls) if field.name in stored]
        for name in known:
            # No face breaks a bound that is NaN, so all would count as measured.
            if not is_number(stored[name]):
                raise ValueError(f"the condition {name} is {stored[name]!r}, no finite number")
        return cls(**{name: float(stored[name]) for name in known})

    def broken_by(self, face: Appearance) -> str:
        """Says in words which condition a face does not meet; empty where it meets all."""
        if face.side < self.smallest_face:
            return (
                f"the face has {face.side:.0f} pixels, and nothing was measured below "
                f"{self.smallest_face:.0f}"
            )
        if face.compression > self.most_compression:
            return (
                f"the file is compressed as by CRF {face.compression:.0f}, and nothing was "
                f"measured above {self.most_compression:.0f}"
            )
        if face.sharpness < self.least_sharpness:
            return "the face is blurred more than nearly all that were measured"
        if face.turn > self.largest_turn:
            return "the face is turned farther to the side than nearly all that were measured"
        if face.quarters:
            lies = "stands upside down" if face.quarters == 2 else "lies on its side"
            return f"the face {lies}, as none that was measured; turn the picture upright"
        if face.tilt > self.largest_tilt:
            return (
                f"the face is tilted by {face.tilt:.0f} degrees, more than nearly all that were "
                "measured"
            )
        return ""


def sharpness(crops: Sequence[npt.NDArray[np.uint8]]) -> float:
    """How much fine detail the crops of a face have, beside their contrast.

    Args:
      crops: `(height, width, 3)` uint8 RGB each.

    Returns:
      The median of the mean absolute difference of the luminance from itself after a Gaussian blur
      of 1 pixel, at 224 pixels a side, as a share of its standard deviation; 0 for a flat image.
    """
    found = []
    for crop in crops:
        grey = cv2.cvtColor(resized(crop, _SIDE), cv2.COLOR_RGB2GRAY).astype(np.float32)
        detail = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1.0)).mean()
        found.append(float(detail / max(float(grey.std()), 1e-6)))
    return float(np.median(found))


def turn(landmarks: npt.NDArray[np.floating] | None) -> float:
    """How far a face is turned to the side.

    Args:
      landmarks: `(n, 5, 2)` as in `tracks.Track`, of n frames.

    Returns:
      The median distance of the tip of the nose from the middle of the eyes, along the line of the
      eyes and in halves of their distance: 0 from the front, 1 where the nose is before an eye.
      NaN where no frame has landmarks.
    """
    known = _known(landmarks)
    if not len(known):
        return math.nan
    left, right, nose = known[:, 0], known[:, 1], known[:, 2]
    across = right - left
    along = np.sum((nose - (left + right) / 2) * across, axis=1)
    return float(np.median(2 * np.abs(along) / np.maximum(np.sum(across**2, axis=1), 1e-6)))


def tilt(landmarks: npt.NDArray[np.floating] | None) -> float:
    """How far a face is tilted within the picture, as when its head lies on a shoulder.

    Args:
      landmarks: `(n, 5, 2)` as in `tracks.Track`, of n frames.

    Returns:
      The median angle in degrees, of 0 to 180, by which the face has to be rotated to be upright.
      The line of the eyes and the line from them down to the mouth tell it together. NaN where no
      frame has landmarks.
    """
    known = _known(landmarks)
    if not len(known):
        return math.nan
    across = known[:, 1] - known[:, 0]
    down = (known[:, 3] + known[:, 4] - known[:, 0] - known[:, 1]) / 2
    both = across + np.stack([down[:, 1], -down[:, 0]], axis=1)  # down, after a quarter turn
    return float(np.median(np.degrees(np.abs(np.arctan2(both[:, 1], both[:, 0])))))


def _known(landmarks: npt.NDArray[np.floating] | None) -> npt.NDArray[np.float64]:
    """The landmarks of the frames that have them: `(k, 5, 2)`."""
    if landmarks is None:
        return np.zeros((0, 5, 2))
    return landmarks[np.isfinite(landmarks).all(axis=(1, 2))].astype(np.float64)
