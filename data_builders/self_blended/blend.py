"""The fakes: a face that is changed as generators change it, and blended into its own image.

Each family has one trace that is always there, named in `recipes.FAMILIES`, and some of the others
by chance. All of them come before the camera, the noise and the codec, which real and fake share.

References:
  Li et al., "Face X-ray for More General Face Forgery Detection", CVPR 2020.
  Shiohara & Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from data_builders.self_blended import face as faces
from data_builders.self_blended import footage, swaps
from data_builders.self_blended.face import Face, Map
from data_builders.self_blended.recipes import Recipe

Image = npt.NDArray[np.uint8]


def apply(
    image: Image,
    face: Face,
    recipe: Recipe,
    *,
    clean: Image | None = None,
    donor: tuple[Image, Face] | None = None,
    paint: Callable[[Map, Face], Map] | None = None,
    moment: int = 0,
) -> Image:
    """Makes the fake of an image.

    Args:
      image: `(height, width, 3)` uint8 RGB.
      face: The face in it.
      recipe: From `recipes.draw`.
      clean: The image before its past; the same image where there is none.
      donor: Another person's image and face, for a swap.
      paint: Paints the new face, given the image with it in its place.
      moment: Index of the frame; only flicker depends on it.

    Returns:
      The image with the blended face.
    """
    height, width = image.shape[:2]
    at_frame = np.random.default_rng([recipe.seed, 3, moment])
    waver = recipe.flicker * at_frame.uniform(-1, 1, 4)
    if donor is None:
        own = image if clean is None or not recipe.clean else clean
        changed = own.astype(np.float32)
    else:
        changed = swaps.worn(donor, face, (height, width), fitted=recipe.fitted)
    if paint is not None:
        changed = paint(changed, face)
    changed = _moved(changed, face, recipe, waver)
    mask = faces.mask(
        face,
        recipe.part,
        (height, width),
        np.random.default_rng(recipe.seed),
        softness=recipe.softness,
    )
    if donor is not None:
        suited = swaps.seamless if recipe.seamless else swaps.matched
        changed = suited(changed, image, mask)
    changed = changed * np.array(recipe.gain) + np.array(recipe.bias) + 6 * waver[3]
    changed = _smoothed(changed.astype(np.float32), recipe)
    changed = _resampled(changed, face, recipe)
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


def change(real: Image, fake: Image, face: Face, scale: float) -> float:
    """How visible a fake is.

    Args:
      real: `(height, width, 3)` uint8.
      fake: The same image with another face.
      face: The face in it.
      scale: From those pixels to the pixels of the clip: a finer difference would be lost.

    Returns:
      The largest mean difference, in grey values of 255, over a square of a sixteenth of the face.
    """
    difference = np.abs(
        footage.scaled(real, scale).astype(np.float32) - footage.scaled(fake, scale)
    )
    side = max(1, round(face.size * scale / 16))
    return float(cv2.blur(difference.mean(axis=2), (side, side)).max())


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


def _smoothed(image: Map, recipe: Recipe) -> Map:
    """The image without pores, as generators paint skin."""
    if not recipe.smooth:
        return image
    plain = np.asarray(np.rint(np.clip(image, 0, 255)), np.uint8)
    return footage.smoothed(plain, recipe.smooth, footage.pores(recipe.grain)).astype(np.float32)


def _resampled(image: Map, face: Face, recipe: Recipe) -> Map:
    """The image as if the face had been made at the generator's resolution."""
    scale = recipe.resolution / face.size
    if not 0 < scale < 1:
        return image
    height, width = image.shape[:2]
    small = max(1, round(width * scale)), max(1, round(height * scale))
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    if recipe.grid:
        # Transposed convolutions and the like treat each pixel of a cell in a way of its own.
        rng = np.random.default_rng([recipe.seed, 2])
        cell = 1 + recipe.grid * rng.standard_normal((4, 4, 1), np.float32)
        # The generator's picture begins at the face: in a video the grid goes with it.
        rows, columns = (
            (np.arange(length) - round(float(start) * scale)) % 4
            for length, start in zip(shrunk.shape, face.box[1::-1], strict=False)
        )
        shrunk = shrunk * cell[np.ix_(rows, columns)]
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
