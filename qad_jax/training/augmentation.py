"""Changes of training images that leave real real and fake fake, alike at every quality."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from qad_jax.training.threaded_batches import Images


class View(NamedTuple):
    """How one tuple is shown.

    Attributes:
      mirrored: Whether its images are mirrored.
      window: Left, top and side of the part that is shown, in parts of the crop's sides.
      tone: `(1, 256, 3)` uint8: the new value of each value of each colour; None changes nothing.
    """

    mirrored: bool = False
    window: tuple[float, float, float] = (0.0, 0.0, 1.0)
    tone: Images | None = None


#: The crop as it is stored.
PLAIN = View()


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is drawn for each tuple besides mirroring.

    Attributes:
      crop: Least side of a square window of the crop, in parts of the crop's side; 1 shows all.
      colour: Largest change of the gain of each colour, and of the logarithm of gamma; 0 for none.
    """

    crop: float = 1.0
    colour: float = 0.0

    def draw(self, rng: np.random.Generator, count: int) -> Sequence[View]:
        """Draws the views of a batch.

        Args:
          rng: Draws. Mirroring comes first, so that it does not depend on the rest.
          count: Number of tuples.
        """
        mirrored = (rng.integers(2, size=count) == 1).tolist()
        windows: list[tuple[float, float, float]] = [PLAIN.window] * count
        tones: list[Images | None] = [None] * count
        if self.crop < 1:
            sides = rng.uniform(self.crop, 1, count)
            corners = rng.random((count, 2)) * (1 - sides[:, None])
            windows = [
                (float(left), float(top), float(side))
                for (left, top), side in zip(corners, sides, strict=True)
            ]
        if self.colour:
            gains = rng.uniform(1 - self.colour, 1 + self.colour, (count, 1, 3))
            gammas = np.exp(rng.uniform(-self.colour, self.colour, count))
            values = np.arange(256)[:, None] / 255
            tones = [
                np.rint(255 * np.clip(values**gamma * gain, 0, 1)).astype(np.uint8)[None]
                for gain, gamma in zip(gains, gammas, strict=True)
            ]
        return [View(*drawn) for drawn in zip(mirrored, windows, tones, strict=True)]


#: Mirroring alone.
MIRRORING = Augmentation()


def cut(image: Images, view: View) -> Images:
    """The part of a crop that a view shows, before it is resized.

    Args:
      image: `(height, width, 3)` uint8.
      view: Its window is rounded to whole pixels, at least one.
    """
    left, top, side = view.window
    height, width = image.shape[:2]
    x, y = round(left * width), round(top * height)
    return image[y : y + max(1, round(side * height)), x : x + max(1, round(side * width))]


def finish(row: Images, view: View) -> None:
    """Gives a tuple the colours and the direction of a view, in place.

    Args:
      row: `(Q, side, side, 3)` uint8, one block of memory.
      view: As drawn.
    """
    # All images in one call each: after each call a thread waits for Python's lock.
    images = row.reshape(-1, *row.shape[2:], copy=False)  # of a copy, `row` would not change
    if view.mirrored:
        cv2.flip(images, 1, images)
    if view.tone is not None:
        cv2.LUT(images, view.tone, images)
