"""Changes of training images that leave real real and fake fake, alike at every quality."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from qad_jax.training import overlays
from qad_jax.training.threaded_batches import Images


class Shape(NamedTuple):
    """How a square image is bent.

    Attributes:
      middle: What is seen in its middle was so much nearer to it, as a part of the distance.
      width: By which part it is widened.
      turn: By how many degrees it is turned.
      steps: `(5, 5, 2)` float32: how far the places of a coarse grid move, x and y, in parts of
        the side; what lies between moves smoothly.
    """

    middle: float
    width: float
    turn: float
    steps: npt.NDArray[np.float32]


class View(NamedTuple):
    """How one tuple is shown.

    Attributes:
      mirrored: Whether its images are mirrored.
      window: Left, top and side of the part that is shown, in parts of the crop's sides.
      tone: `(1, 256, 3)` uint8: the new value of each value of each colour; None changes nothing.
      shape: How it is bent; None leaves it.
      overlay: Seed of what lies over it, see `overlays`; None for nothing.
    """

    mirrored: bool = False
    window: tuple[float, float, float] = (0.0, 0.0, 1.0)
    tone: Images | None = None
    shape: Shape | None = None
    overlay: int | None = None


#: The crop as it is stored.
PLAIN = View()


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is drawn for each tuple besides mirroring.

    Attributes:
      crop: Least side of a square window of the crop, in parts of the crop's side; 1 shows all.
      colour: Largest change of the gain of each colour, and of the logarithm of gamma; 0 for none.
      lens: Largest `Shape.middle`, to either side; the width changes by half of it at most. A face
        near the camera looks so, and one in a video of a wrong aspect ratio.
      turn: Largest turn, in degrees.
      warp: Standard deviation of a smooth uneven movement, in parts of the side.
      overlay: Chance that something lies over the face, such as words or a mask.
    """

    crop: float = 1.0
    colour: float = 0.0
    lens: float = 0.0
    turn: float = 0.0
    warp: float = 0.0
    overlay: float = 0.0

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
        shapes: list[Shape | None] = [None] * count
        if self.lens or self.turn or self.warp:
            bounds = self.lens, self.lens / 2, self.turn
            drawn = (rng.uniform(-1, 1, (count, 3)) * bounds).tolist()
            steps = self.warp * rng.standard_normal((count, 5, 5, 2), np.float32)
            shapes = [
                Shape(middle, width, turn, moved)
                for (middle, width, turn), moved in zip(drawn, steps, strict=True)
            ]
        seeds: list[int | None] = [None] * count
        if self.overlay:
            laid = (rng.random(count) < self.overlay).tolist()
            drawn = rng.integers(2**31, size=count).tolist()
            seeds = [seed if one else None for one, seed in zip(laid, drawn, strict=True)]
        return [View(*parts) for parts in zip(mirrored, windows, tones, shapes, seeds, strict=True)]


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
    x, y = min(round(left * width), width - 1), min(round(top * height), height - 1)
    return image[y : y + max(1, round(side * height)), x : x + max(1, round(side * width))]


def finish(row: Images, view: View) -> None:
    """Gives a tuple the colours, the direction, the shape and the overlay of a view, in place.

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
    if view.shape is not None:
        places = _sources(row.shape[1], view.shape)
        for image in row:
            image[...] = cv2.remap(
                image, *places, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
            )
    if view.overlay is not None:
        overlays.lay(row, view.overlay)


def _sources(side: int, shape: Shape) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Where each pixel of a bent square comes from, as `cv2.remap` takes it: x and y."""
    half = (side - 1) / 2
    across = np.arange(side, dtype=np.float32) - np.float32(half)
    cos, sin = np.cos(np.deg2rad(shape.turn)), np.sin(np.deg2rad(shape.turn))
    x = np.float32(cos) * across + np.float32(sin) * across[:, None]
    y = np.float32(cos) * across[:, None] - np.float32(sin) * across
    factor = 1 - np.float32(shape.middle) * _nearness(side)
    moved = side * cv2.resize(shape.steps, (side, side), interpolation=cv2.INTER_CUBIC)
    x = half + factor * x / np.float32(1 + shape.width) + moved[..., 0]
    y = half + factor * y + moved[..., 1]
    return x.astype(np.float32), y.astype(np.float32)


@functools.lru_cache(maxsize=4)
def _nearness(side: int) -> npt.NDArray[np.float32]:
    """A bell over a square, 1 in its middle: about as wide as a face in a crop."""
    across = (np.arange(side, dtype=np.float32) - (side - 1) / 2) / (side / 2)
    return np.exp(-(across[:, None] ** 2 + across**2) / 0.55**2)
