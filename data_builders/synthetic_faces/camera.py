"""From light to pixels: exposure and tone, then lens blur, sensor noise and rounding.

Real and fake videos go through the same camera. The fake is made between its two halves: on
developed images, as real fakes are, but before blur and noise, so that these do not differ inside a
mask.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import numpy.typing as npt

from data_builders.synthetic_faces.face import Map


@dataclasses.dataclass(frozen=True)
class Camera:
    """One camera with its settings.

    Attributes:
      gain: Exposure of red, green and blue.
      contrast: Strength of the S-shaped tone curve.
      blur: Standard deviation of the lens blur, pixels.
      read_noise: Standard deviation of the noise in the dark, as a part of full scale.
      shot_noise: Standard deviation that is added at full scale.
    """

    gain: tuple[float, float, float]
    contrast: float
    blur: float
    read_noise: float
    shot_noise: float

    def develop(self, light: Map) -> Map:
        """Turns linear light into an image.

        Args:
          light: `(height, width, 3)` linear RGB.

        Returns:
          The same shape, gamma-encoded, in [0, 1].
        """
        exposed = np.maximum(light * np.asarray(self.gain, np.float32), 0)
        # Highlights roll off instead of clipping; 1 - exp(-x) is nearly x in the shadows.
        image = cv2.pow(1 - np.exp(-1.25 * exposed), 1 / 2.2)
        curve = image * image * (3 - 2 * image)
        return image + np.float32(self.contrast) * (curve - image)

    def record(self, image: Map, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        """Adds the blur of the lens and the noise of the sensor.

        Args:
          image: `(height, width, 3)`, gamma-encoded, in [0, 1].
          rng: Source of the noise.

        Returns:
          The frame as uint8 RGB.
        """
        blurred = cv2.GaussianBlur(image, (0, 0), self.blur)
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        deviation = self.read_noise + self.shot_noise * np.sqrt(np.clip(blurred, 0, 1))
        return np.clip((blurred + deviation * noise) * 255 + 0.5, 0, 255).astype(np.uint8)


def sample_camera(rng: np.random.Generator) -> Camera:
    """Draws a camera and its settings."""
    exposure, warmth = rng.uniform(0.85, 1.2), rng.uniform(-0.06, 0.06)
    return Camera(
        gain=(float(exposure * (1 + warmth)), float(exposure), float(exposure * (1 - warmth))),
        contrast=float(rng.uniform(0.1, 0.45)),
        blur=float(rng.uniform(0.3, 0.55)),
        read_noise=float(rng.uniform(0.002, 0.007)),
        shot_noise=float(rng.uniform(0.002, 0.009)),
    )
