"""Corruptions of images between a camera and a detector, each at several strengths.

A corruption changes the crop as it is stored, before it is resized for the network: a blur of one
pixel means a pixel of the source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Image: TypeAlias = npt.NDArray[np.uint8]


def jpeg(image: Image, quality: float, rng: np.random.Generator) -> Image:
    """Compresses as JPEG with the tables of libjpeg at a quality of 1 to 100, and 4:2:0 chroma."""
    del rng
    settings = (
        cv2.IMWRITE_JPEG_QUALITY,
        int(quality),
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    )
    done, data = cv2.imencode(".jpg", image[..., ::-1], settings)
    if not done:
        raise ValueError(f"cannot encode an image of shape {image.shape} as JPEG")
    return _uint8(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))


def blur(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Convolves with a Gaussian of a standard deviation in pixels; borders are mirrored."""
    del rng
    return _uint8(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101))


def noise(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Adds independent Gaussian noise of a standard deviation in grey levels of 255."""
    drawn = rng.standard_normal(image.shape, np.float32)
    return _uint8(np.clip(np.rint(image + sigma * drawn), 0, 255))


def resize(image: Image, factor: float, rng: np.random.Generator) -> Image:
    """Shrinks both sides by a factor (area) and enlarges to the old size (bicubic)."""
    del rng
    height, width = image.shape[:2]
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return _uint8(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_CUBIC))


def _uint8(image: Any) -> Image:
    return np.asarray(image, np.uint8)


class Corruption(NamedTuple):
    """A family of corruptions.

    Attributes:
      title: What the strength means, as the label of an axis.
      strengths: The strengths, from harmless to severe.
      apply: Maps an image, `(H, W, 3)` uint8 RGB, a strength and a generator to another image of
        the same shape and type.
    """

    title: str
    strengths: tuple[float, ...]
    apply: Callable[[Image, float, np.random.Generator], Image]


#: Every family by its name.
CORRUPTIONS: Mapping[str, Corruption] = {
    "jpeg": Corruption("JPEG quality", (95, 85, 70, 50, 30, 20, 10), jpeg),
    "blur": Corruption("Gaussian blur, standard deviation in px", (0.5, 1, 1.5, 2, 3, 4), blur),
    "noise": Corruption("Gaussian noise, standard deviation of 255", (2, 5, 10, 15, 25, 40), noise),
    "resize": Corruption(
        "resizing down and up, factor of the side", (1.25, 1.5, 2, 3, 4, 6), resize
    ),
}
