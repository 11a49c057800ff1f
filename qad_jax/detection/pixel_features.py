"""What compression leaves in the pixels of a crop, in numbers.

Nothing here knows the grid of the codec or what came before the crop: a quantiser takes the fine
detail first, makes few coefficients large and most of them zero, leaves flat areas without noise,
and shows the edges of its blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

#: Of a larger crop only the middle is looked at, a square of this side in pixels.
LARGEST = 384
#: A smaller crop says nothing, nor does one whose luminance differs less (standard deviation).
SMALLEST, LEAST_CONTRAST = 32, 1.0
#: Number of features.
FEATURES = 25

_N = 8  # side of the blocks whose coefficients are looked at
_INDEX = np.arange(_N)
_COSINES = np.sqrt(2 / _N) * np.cos(np.pi * (2 * _INDEX[None] + 1) * _INDEX[:, None] / (2 * _N))
_COSINES[0] /= np.sqrt(2)
_DCT = _COSINES.astype(np.float32)
# Coefficients by the sum of their two frequencies, from coarse to fine.
_ORDER = _INDEX[:, None] + _INDEX
_BANDS = tuple(
    (low <= _ORDER) & (high >= _ORDER)
    for low, high in ((1, 1), (2, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 14))
)
_GRIDS = (4, 8)  # pixels between the edges of transforms


def pixel_features(crops: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float64]:
    """Computes the features of crops.

    Args:
      crops: `(height, width, 3)` uint8 RGB crops in the pixels of the file: a crop that was
        resized has other features.

    Returns:
      `(n, FEATURES)` finite numbers: a row for each crop that says something. Crops that are too
      small or have no contrast have no row, so n may be 0.
    """
    rows = []
    for crop in crops:
        height, width = crop.shape[:2]
        if min(height, width) < SMALLEST:
            continue
        top, left = max(0, (height - LARGEST) // 2), max(0, (width - LARGEST) // 2)
        middle = np.ascontiguousarray(crop[top : top + LARGEST, left : left + LARGEST])
        luminance = cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY)
        if luminance.std() >= LEAST_CONTRAST:
            rows.append(_features(luminance))
    return np.array(rows, np.float64).reshape(-1, FEATURES)


def _features(luminance: npt.NDArray[np.uint8]) -> list[float]:
    image = luminance.astype(np.float32)
    residual = np.abs(image - cv2.medianBlur(luminance, 3))
    steps = [np.abs(np.diff(image, axis=axis)) for axis in (1, 0)]
    edges = [edge for grid in _GRIDS for edge in _edges(steps, grid)]
    return [
        *_spectrum(image),
        float((residual == 0).mean()),
        float(np.log(residual.mean() + 0.01)),
        *(float((step <= most).mean()) for most in (0, 1) for step in steps),
        *edges,
    ]


def _spectrum(image: npt.NDArray[np.float32]) -> list[float]:
    """How fast the energy of the bands falls, and how few coefficients of each hold it."""
    size = np.abs(np.concatenate([_coefficients(image[start:, start:]) for start in (0, _N // 2)]))
    bands = [size[:, band] for band in _BANDS]
    energy = np.log([(band**2).mean() + 0.01 for band in bands])
    amount = np.log([band.mean() + 0.05 for band in bands])
    return [*map(float, np.diff(energy)), *map(float, amount - energy / 2)]


def _coefficients(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`(blocks, 8, 8)` orthonormal cosine transforms of the whole blocks of an image."""
    rows, columns = image.shape[0] // _N, image.shape[1] // _N
    whole = image[: rows * _N, : columns * _N].reshape(rows, _N, columns, _N)
    blocks = whole.transpose(0, 2, 1, 3).reshape(-1, _N, _N)
    return np.asarray(_DCT @ blocks @ _DCT.T)


def _edges(steps: Sequence[npt.NDArray[np.float32]], grid: int) -> list[float]:
    """How far the steps between two pixels are larger at one place in every few pixels.

    Args:
      steps: Absolute differences of neighbours, along rows and along columns.
      grid: Pixels from one such place to the next.

    Returns:
      The excess over the median and over the second largest place, in levels; and the first as a
      share of the mean step.
    """
    both = []
    for axis, step in zip((1, 0), steps, strict=True):
        line = step.mean(axis=1 - axis)  # by place along the axis
        excess = line[1:-1] - (line[:-2] + line[2:]) / 2
        places = excess[: len(excess) // grid * grid].reshape(-1, grid).mean(axis=0)
        ordered = np.sort(places)
        above = ordered[-1] - np.median(places)
        both.append((above, ordered[-1] - ordered[-2], above / (step.mean() + 0.1)))
    return [float(mean) for mean in np.mean(both, axis=0)]
