"""The fakes: a face that is changed as generators change it, and blended into its own image.

Each family has one trace that is always there, named in `FAMILIES`, and some of the others by
chance. All of them come before the camera, the noise and the codec, which real and fake share.

References:
  Li et al., "Face X-ray for More General Face Forgery Detection", CVPR 2020.
  Shiohara & Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from data_builders.self_blended import face as faces
from data_builders.self_blended import footage
from data_builders.self_blended.face import Face, Map

Image = npt.NDArray[np.uint8]

#: What each family always does. The names are the methods of the records.
FAMILIES = {
    "full_face": "the whole face comes from a moved copy",
    "lower_face": "mouth and chin come from a moved copy",
    "upper_face": "eyes and forehead come from a moved copy",
    "eyes": "each eye comes from a moved copy",
    "low_resolution": "the face went through a third to two thirds of its pixels",
    "colour": "colours and light do not fit",
    "seam": "the edge is hard, or doubled",
    "sharpness": "the face is sharpened or smoothed",
    "swap": "another person's face is warped into place",
    "flicker": "colours and place change from frame to frame",
}
#: The family that needs a second person, and the one that needs more than one frame.
SWAP, FLICKER = "swap", "flicker"
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


def draw(family: str, size: float, scale: float, rng: np.random.Generator) -> Recipe:
    """Draws a fake of a family.

    Args:
      family: One of `FAMILIES`.
      size: Size of the face in the image that is changed, in pixels.
      scale: From those pixels to the pixels of the clip.
      rng: Draws.
    """
    seen = size * min(1.0, scale)  # what a larger face has, the clip does not show
    part_of = {"lower_face": faces.LOWER, "upper_face": faces.UPPER, "eyes": faces.EYES}
    free = [faces.FULL, faces.FULL, faces.INNER, faces.LOWER, faces.UPPER]
    part = part_of.get(family, faces.FULL)
    if family in ("low_resolution", "colour", "seam", "sharpness", FLICKER):
        part = str(rng.choice(free))
    elif family == SWAP:
        part = str(rng.choice([faces.FULL, faces.INNER]))
    # The moved copy is the trace of four families, and a companion of the rest.
    move = 1.0 if family in ("full_face", *part_of) else float(rng.choice([0.0, 0.6]))

    def also(chance: float) -> bool:
        return bool(rng.random() < chance)

    sharpen = 0.0
    if family == "sharpness" or also(0.3):
        sharpen = float(rng.choice([rng.uniform(0.8, 2.2), rng.uniform(-2.2, -0.8)]))
    resolution = 0
    if family == "low_resolution":
        resolution = round(seen * float(rng.uniform(0.25, 0.6)))
    elif also(0.6 if family == SWAP else 0.3):
        resolution = round(seen * float(rng.uniform(0.4, 1)))
    off = 1.0 if family == "colour" else float(rng.choice([0.15, 0.5]))
    light = rng.uniform(-0.15, 0.15)  # of all colours together
    gain = 1 + off * (light + rng.uniform(-0.1, 0.1, 3))
    bias = off * rng.uniform(-14, 14, 3)
    if family == "colour":  # none of them is small
        bias += 6 * np.sign(bias)
    angle = move * rng.uniform(1.5, 6) * rng.choice([-1, 1])
    direction = rng.uniform(0, 2 * np.pi)
    distance = move * rng.uniform(0.02, 0.07)
    hard = family == "seam"
    return Recipe(
        part=part,
        softness=float(rng.uniform(0.02, 0.08) if hard else rng.uniform(0.08, 0.6)),
        strength=float(rng.uniform(0.9, 1) if also(0.8) else rng.uniform(0.6, 0.9)),
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
    )


def apply(
    image: Image,
    face: Face,
    recipe: Recipe,
    *,
    clean: Image | None = None,
    donor: tuple[Image, Face] | None = None,
    moment: int = 0,
) -> Image:
    """Makes the fake of an image.

    Args:
      image: `(height, width, 3)` uint8 RGB.
      face: The face in it.
      recipe: From `draw`.
      clean: The image before its past; the same image where there is none.
      donor: Another person's image and face, for a swap.
      moment: Index of the frame; only flicker depends on it.

    Returns:
      The image with the blended face.
    """
    height, width = image.shape[:2]
    at_frame = np.random.default_rng([recipe.seed, moment])
    waver = recipe.flicker * at_frame.uniform(-1, 1, 4)
    if donor is None:
        own = image if clean is None or not recipe.clean else clean
        changed = own.astype(np.float32)
    else:
        matrix = faces.onto(donor[1], face)
        changed = cv2.warpAffine(
            donor[0],
            matrix,
            (width, height),
            flags=cv2.INTER_AREA if abs(np.linalg.det(matrix[:, :2])) < 1 else cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT,
        ).astype(np.float32)
    changed = _moved(changed, face, recipe, waver)
    mask = faces.mask(
        face,
        recipe.part,
        (height, width),
        np.random.default_rng(recipe.seed),
        softness=recipe.softness,
    )
    if donor is not None:
        changed = _matched(changed, image.astype(np.float32), mask)
    changed = changed * np.array(recipe.gain) + np.array(recipe.bias) + 6 * waver[3]
    changed = _resampled(changed.astype(np.float32), face, recipe)
    changed = np.clip(_sharpened(changed, recipe.sharpen, recipe.grain), 0, 255)
    if recipe.jpeg:
        changed = footage.jpeg(np.asarray(np.rint(changed), np.uint8), recipe.jpeg).astype(
            np.float32
        )
    weight = (recipe.strength * mask)[..., None]
    blended = image * (1 - weight) + changed * weight
    if recipe.double:
        off = np.array([[1, 0, 0.02 * face.size], [0, 1, 0.015 * face.size]])
        again = cv2.warpAffine(mask, off, (width, height))[..., None] * 0.6
        blended = blended * (1 - again) + changed * again
    return np.asarray(np.rint(np.clip(blended, 0, 255)), np.uint8)


def _moved(image: Map, face: Face, recipe: Recipe, waver: npt.NDArray[Any]) -> Map:
    centre = (face.box[:2] + face.box[2:]) / 2
    matrix = cv2.getRotationMatrix2D(
        (float(centre[0]), float(centre[1])), recipe.angle, recipe.scale + 0.012 * waver[2]
    )
    matrix[:, 2] += face.size * (np.array(recipe.shift) + 0.015 * waver[:2])
    if not np.allclose(matrix, [[1, 0, 0], [0, 1, 0]]):
        size = image.shape[1], image.shape[0]
        image = np.asarray(
            cv2.warpAffine(
                image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
            ),
            np.float32,
        )
    return _stretched(image, face, recipe) if recipe.elastic else image


def _stretched(image: Map, face: Face, recipe: Recipe) -> Map:
    """Moves the parts of a face against each other, smoothly: features of a third of its size."""
    height, width = image.shape[:2]
    x0, y0 = face.box[:2]
    rng = np.random.default_rng([recipe.seed, 1])
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height))
    rows = rows.astype(np.float32)
    # A coarse grid of steps around the face, read between its points.
    grid = rng.normal(0, recipe.elastic * face.size, (9, 9, 2)).astype(np.float32)
    u, v = (((at - start) / face.size * 4 + 2) for at, start in ((columns, x0), (rows, y0)))
    steps = cv2.remap(
        grid, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR, borderValue=0
    )
    return np.asarray(
        cv2.remap(
            image,
            columns + steps[..., 0],
            rows + steps[..., 1],
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT,
        ),
        np.float32,
    )


def _matched(image: Map, target: Map, mask: Map) -> Map:
    """Gives an image the mean and the spread of another's colours under a mask, in Lab."""
    inside = mask > 0.5
    if not inside.any():
        return image
    lab, wanted = (
        cv2.cvtColor(np.clip(one, 0, 255) / 255, cv2.COLOR_RGB2LAB) for one in (image, target)
    )
    mean, std = lab[inside].mean(0), lab[inside].std(0)
    to_mean, to_std = wanted[inside].mean(0), wanted[inside].std(0)
    ratio = np.clip(to_std / np.maximum(std, 1e-3), 0.6, 1.6)
    matched = (lab - mean) * ratio + to_mean
    return np.asarray(cv2.cvtColor(np.float32(matched), cv2.COLOR_LAB2RGB) * 255, np.float32)


def _resampled(image: Map, face: Face, recipe: Recipe) -> Map:
    """The image as if the face had been made at the generator's resolution."""
    scale = recipe.resolution / face.size
    if not 0 < scale < 1:
        return image
    height, width = image.shape[:2]
    small = max(1, round(width * scale)), max(1, round(height * scale))
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return np.asarray(
        cv2.resize(shrunk, (width, height), interpolation=recipe.enlarging), np.float32
    )


def _sharpened(image: Map, amount: float, grain: float) -> Map:
    """Sharpens by an unsharp mask, or smooths by a Gaussian, of a width in pixels of the clip."""
    if amount == 0:
        return image
    if amount > 0:
        return footage.sharpened(image, amount, grain * 1.2)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), grain * -amount), np.float32)
