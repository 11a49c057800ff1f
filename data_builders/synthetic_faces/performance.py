"""What a person does in a video: position of the head and expression of the face in each frame."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Pose:
    """Position of the head and expression of the face in one frame.

    Attributes:
      x: Column of the head's centre, in pixels of the frame.
      y: Row of the head's centre, in pixels of the frame.
      scale: Half the head's height, in pixels.
      yaw: Turn to the side, radians.
      pitch: Nod, radians; positive looks down.
      roll: Tilt in the image plane, radians.
      talk: How far the mouth is open, 0 to 1.
      smile: How wide the mouth is, -0.5 to 1.
      lids: How far the eyes are open, 0 (a blink) to 1.
      gaze_x: Sideways look, -1 to 1.
      gaze_y: Look down, -1 to 1.
    """

    x: float
    y: float
    scale: float
    yaw: float
    pitch: float
    roll: float
    talk: float
    smile: float
    lids: float
    gaze_x: float
    gaze_y: float


def perform(rng: np.random.Generator, frames: int, size: int) -> list[Pose]:
    """Draws a few frames of a talking head, some tenths of a second apart.

    Args:
      rng: Source of the motion.
      frames: Number of frames.
      size: Width and height of the frame in pixels.

    Returns:
      The pose in each frame.
    """
    steps = np.arange(frames)

    def wave(middle: float, swing: float) -> np.ndarray:
        """A motion back and forth."""
        phase, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.1)
        return middle + swing * np.sin(phase + speed * steps)

    def sweep(middle: float, step: float) -> np.ndarray:
        """A motion in one direction: no two frames are equal, as may happen where a wave turns."""
        return middle + rng.choice((-1, 1)) * step * rng.uniform(0.6, 1.2) * (steps - steps.mean())

    def spread(width: float) -> float:
        return float(rng.normal(0.0, width))

    scale = rng.uniform(0.255, 0.295) * size
    motion = {
        "x": sweep(size * (0.5 + spread(0.015)), 0.03 * size),
        "y": sweep(size * (0.46 + spread(0.01)), 0.02 * size),
        "scale": wave(scale, 0.01 * scale),
        "yaw": sweep(spread(0.18), 0.18),
        "pitch": wave(spread(0.07), 0.06),
        "roll": wave(spread(0.06), 0.05),
        "talk": np.clip(wave(0.35, 0.5), 0.0, 1.0) * rng.uniform(0.5, 1.0),
        "smile": wave(rng.uniform(-0.2, 0.7), 0.2),
        "lids": np.where(rng.random(frames) < 0.03, 0.15, rng.uniform(0.85, 1.0, frames)),
        "gaze_x": wave(spread(0.25), 0.15),
        "gaze_y": wave(spread(0.15), 0.1),
    }
    return [
        Pose(**{name: float(values[frame]) for name, values in motion.items()})
        for frame in range(frames)
    ]
