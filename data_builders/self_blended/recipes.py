"""What is drawn for a fake: its family, and the traces that come with it."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from data_builders.self_blended.face import EYES, FULL, HEAD, INNER, JAW, LOWER, UPPER

#: What each family always does. The names are the methods of the records.
FAMILIES = {
    "full_face": "the whole face comes from a moved copy",
    "lower_face": "mouth and chin come from a moved copy",
    "upper_face": "eyes and forehead come from a moved copy",
    "eyes": "each eye comes from a moved copy",
    "low_resolution": "the face went through a quarter to three fifths of its resolution",
    "colour": "colours and light do not fit",
    "seam": "the edge is hard, or doubled",
    "sharpness": "the face is sharpened or smoothed",
    "swap": "another person's face is warped into place",
    "flicker": "colours and place change from frame to frame",
    "painted": "a network paints the face",
}
#: The families that need a second person, more than one frame, and painters.
SWAP, FLICKER, PAINTED = "swap", "flicker", "painted"
#: Those that can be made without painters.
UNPAINTED = tuple(family for family in FAMILIES if family != PAINTED)
_ENLARGING = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that was drawn for one fake.

    Attributes:
      part: Which part of the face is replaced.
      softness: Of the mask's edge, see `face.mask`.
      strength: How much of the changed face is seen, 0 to 1.
      shift: Movement of the copy in parts of the face's size, x and y.
      scale: Its size.
      angle: Its turn in degrees.
      gain: Factor of each colour.
      bias: Added to each colour, of 255.
      resolution: Side of the face in the generator, in pixels; 0 leaves it.
      enlarging: How it is enlarged again, one of OpenCV's interpolations.
      elastic: Size of an uneven movement, in parts of the face's size; 0 for none.
      clean: Whether the face comes from the image as it was before its past: a generator adds no
        noise of a sensor.
      jpeg: Quality of a JPEG that only the new face has been through; 0 for none.
      sharpen: Amount of an unsharp mask; negative smooths.
      grain: Pixels of the image for one pixel of the clip, at least 1: a finer trace would be lost.
      double: Whether the edge is blended twice, the second time a little off.
      flicker: Size of the changes from frame to frame; 0 where there are none.
      seed: Of the mask's unevenness.
      grid: Deviation of the factors of a pattern that repeats every four of the generator's pixels;
        0 for none.
      smooth: Strength in grey values of a filter that takes the pores of the new face and leaves
        its edges; 0 for none.
      fitted: Whether the donor's eyes, nose and mouth come onto those of the face, as far as that
        folds nothing.
      seamless: Whether the donor's colours follow from those along the edge.
      painter: Which of the painters paints the new face; None where none does.
      detail: Which of the sides that the painter can paint, see `painter_files.File.load`.
    """

    part: str
    softness: float
    strength: float
    shift: tuple[float, float]
    scale: float
    angle: float
    gain: tuple[float, float, float]
    bias: tuple[float, float, float]
    resolution: int
    enlarging: int
    elastic: float
    clean: bool
    jpeg: int
    sharpen: float
    grain: float
    double: bool
    flicker: float
    seed: int
    grid: float
    smooth: float
    fitted: bool
    seamless: bool
    painter: int | None = None
    detail: float = 0.0


def draw(
    family: str, size: float, scale: float, rng: np.random.Generator, painters: int = 0
) -> Recipe:
    """Draws a fake of a family.

    Args:
      family: One of `FAMILIES`.
      size: Size of the face in the image that is changed, in pixels.
      scale: From those pixels to the pixels of the clip.
      rng: Draws.
      painters: Number of painters. With some, half of the swaps are painted, too.
    """
    seen = size * min(1.0, scale)  # what a larger face has, the clip does not show
    part_of = {"lower_face": LOWER, "upper_face": UPPER, "eyes": EYES}
    free = [FULL, FULL, INNER, LOWER, UPPER]
    part = part_of.get(family, FULL)
    if family in ("low_resolution", "colour", "seam", "sharpness", FLICKER, PAINTED):
        part = str(rng.choice(free))
    elif family == SWAP:
        part = str(rng.choice([FULL, INNER]))

    def also(chance: float) -> bool:
        return bool(rng.random() < chance)

    fitted = family == SWAP and also(0.7)
    seamless = family == SWAP and also(0.3)
    # The moved copy is the trace of four families, and a companion of the rest.
    move = 1.0 if family in ("full_face", *part_of) else float(rng.choice([0.0, 0.6]))
    if fitted:
        move = 0.0
    sharpen = 0.0
    if family == "sharpness" or also(0.3):
        sharpen = float(rng.choice([rng.uniform(0.8, 2.2), rng.uniform(-2.2, -0.8)]))
    resolution = 0
    if family == "low_resolution":
        resolution = round(seen * float(rng.uniform(0.25, 0.6)))
    elif also(0.6 if family == SWAP else 0.3):
        resolution = round(seen * float(rng.uniform(0.4, 1)))
    off = 1.0 if family == "colour" else 0.0 if seamless else float(rng.choice([0.15, 0.5]))
    light = rng.uniform(-0.15, 0.15)  # of all colours together
    gain = 1 + off * (light + rng.uniform(-0.1, 0.1, 3))
    bias = off * rng.uniform(-14, 14, 3)
    if family == "colour":  # none of them is small
        bias += 6 * np.sign(bias)
    angle = move * rng.uniform(1.5, 6) * rng.choice([-1, 1])
    direction = rng.uniform(0, 2 * np.pi)
    distance = move * rng.uniform(0.02, 0.07)
    hard = family == "seam"
    drawn = Recipe(
        part=part,
        softness=float(rng.uniform(0.02, 0.08) if hard else rng.uniform(0.08, 0.6)),
        # Two people's features that shine through each other are no generator's.
        strength=float(
            rng.uniform(0.9, 1) if family == SWAP or also(0.8) else rng.uniform(0.6, 0.9)
        ),
        shift=(float(distance * np.cos(direction)), float(distance * np.sin(direction))),
        scale=float(1 + move * rng.uniform(0.015, 0.07) * rng.choice([-1, 1])),
        angle=float(angle),
        gain=tuple(map(float, gain)),  # type: ignore[arg-type]
        bias=tuple(map(float, bias)),  # type: ignore[arg-type]
        resolution=resolution,
        enlarging=int(rng.choice(_ENLARGING)),
        elastic=float(rng.uniform(0.006, 0.025)) if move and also(0.4) else 0.0,
        clean=also(0.6),
        jpeg=int(rng.integers(30, 85)) if also(0.2) else 0,
        sharpen=sharpen,
        grain=max(1.0, 1 / scale),
        double=hard and also(0.5),
        flicker=float(rng.uniform(0.5, 1)) if family == FLICKER else 0.0,
        seed=int(rng.integers(2**31)),
        grid=float(rng.uniform(0.005, 0.03)) if resolution and also(0.4) else 0.0,
        smooth=float(rng.uniform(12, 60)) if also(0.2) else 0.0,
        fitted=fitted,
        seamless=seamless,
    )
    # Numbers of their own: all else is drawn as without painters.
    apart = np.random.default_rng([drawn.seed, 4])
    if family == PAINTED or (painters and family == SWAP and apart.random() < 0.5):
        which, detail = int(apart.integers(painters)), float(apart.random())
        drawn = dataclasses.replace(drawn, painter=which, detail=detail)
        if family == PAINTED and apart.random() < 0.4:
            return dataclasses.replace(drawn, part=str(apart.choice([HEAD, JAW])))
    return drawn
