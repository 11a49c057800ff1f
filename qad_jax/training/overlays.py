"""What lies over a face in pictures that people send: words, stickers, masks, glasses, bars.

None of it makes a face a fake, and a detector that never saw it takes it for one. All of it is
drawn here, so that no picture of anything is needed.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from qad_jax.training.threaded_batches import Images

Layer: TypeAlias = npt.NDArray[np.float32]

# About where the features are in a crop, in parts of its side.
_EYES, _LEFT, _RIGHT = 0.41, 0.36, 0.64
_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
_LETTERS = string.ascii_letters + string.digits + " @.!"


def lay(images: Images, seed: int) -> None:
    """Lays one thing over all images, in place.

    Args:
      images: `(n, side, side, 3)` uint8.
      seed: Of what it is, and how it looks.
    """
    rng = np.random.default_rng(seed)
    side = images.shape[1]
    colours, weight = _KINDS[rng.integers(len(_KINDS))](rng, side)
    if rng.random() < 0.5:  # as after a codec
        weight = np.asarray(cv2.GaussianBlur(weight, (0, 0), rng.uniform(0.4, 1.2)), np.float32)
    weight = weight[..., None]
    images[...] = np.rint(images * (1 - weight) + colours * weight)


def _words(rng: np.random.Generator, side: int) -> tuple[Layer, Layer]:
    """A caption or a watermark: letters with or without an outline, or on a strip."""
    text = "".join(rng.choice(list(_LETTERS), rng.integers(3, 15)))
    font = int(rng.choice(_FONTS))
    height = rng.uniform(0.06, 0.2) * side
    (_, tall), _ = cv2.getTextSize(text, font, 1.0, 1)
    scale = height / tall
    thick = max(1, round(height * rng.uniform(0.08, 0.25)))
    place = int(rng.uniform(-0.2, 0.6) * side), int(rng.uniform(0.1, 1.05) * side)
    letters = np.zeros((side, side), np.uint8)
    cv2.putText(letters, text, place, font, scale, 255, thick, cv2.LINE_AA)
    around = letters.copy()
    kind = rng.integers(3)
    if kind == 1:
        cv2.putText(around, text, place, font, scale, 255, thick + max(2, thick), cv2.LINE_AA)
    elif kind == 2:
        top, bottom = (max(0, place[1] + round(by * height)) for by in (-1.4, 0.4))
        around[top:bottom] = 255
    share = letters[..., None] / np.float32(255)
    colours = np.asarray(share * _colour(rng) + (1 - share) * _colour(rng), np.float32)
    strength = 1.0 if rng.random() < 0.5 else rng.uniform(0.25, 0.9)
    return colours, np.asarray(strength / 255 * around, np.float32)


def _sticker(rng: np.random.Generator, side: int) -> tuple[Layer, Layer]:
    """A round or a cornered shape anywhere: a sign, a hand, a microphone."""
    middle = rng.uniform(0, 1, 2) * side
    radii = rng.uniform(0.06, 0.28, 2) * side
    corners = int(rng.choice((3, 4, 5, 6, 40)))
    angles = rng.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
    points = middle + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return _cloth(rng, side), _filled([points], side)


def _mask(rng: np.random.Generator, side: int) -> tuple[Layer, Layer]:
    """A cloth over mouth and chin, with or without the nose."""
    top, bottom = rng.uniform(0.46, 0.64), rng.uniform(0.8, 0.98)
    wide, low = rng.uniform(0.22, 0.36), rng.uniform(0.06, 0.2)
    outline = [(-wide, top + 0.04), (0, top), (wide, top + 0.04)]
    outline += [(0.85 * wide, bottom - low), (0.3 * wide, bottom)]
    outline += [(-0.3 * wide, bottom), (-0.85 * wide, bottom - low)]
    across = 0.5 + rng.uniform(-0.05, 0.05)
    points = np.array([(across + x, y) for x, y in outline]) + rng.normal(0, 0.01, (7, 2))
    return _cloth(rng, side), _filled([points * side], side)


def _glasses(rng: np.random.Generator, side: int) -> tuple[Layer, Layer]:
    """Two dark glasses and a bridge."""
    height = _EYES + rng.uniform(-0.04, 0.05)
    wide, tall = rng.uniform(0.09, 0.15), rng.uniform(0.06, 0.12)
    angles = np.linspace(0, 2 * np.pi, 40)
    power = rng.uniform(0.5, 1.0)  # from nearly a rectangle to an ellipse
    rim = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rim = np.sign(rim) * np.abs(rim) ** power * (wide, tall)
    parts = [np.add(rim, (x, height)) for x in (_LEFT, _RIGHT)]
    bridge = [(_LEFT, height - 0.02), (_RIGHT, height - 0.02), (_RIGHT, height), (_LEFT, height)]
    dark = np.asarray(rng.uniform(0, 60, 3) + rng.uniform(0, 60) * _slope(rng, side), np.float32)
    return dark, rng.uniform(0.8, 1.0) * _filled(
        [*(part * side for part in parts), np.array(bridge) * side], side
    )


def _bar(rng: np.random.Generator, side: int) -> tuple[Layer, Layer]:
    """A strip along one edge, of one colour."""
    weight = np.zeros((side, side), np.float32)
    weight[: round(rng.uniform(0.03, 0.35) * side)] = 1
    weight = np.ascontiguousarray(np.rot90(weight, int(rng.integers(4))))
    return np.broadcast_to(_colour(rng), (side, side, 3)), weight


_KINDS: tuple[Callable[[np.random.Generator, int], tuple[Layer, Layer]], ...] = (
    _words,
    _words,  # the most frequent by far
    _sticker,
    _mask,
    _glasses,
    _bar,
)


def _colour(rng: np.random.Generator) -> Layer:
    """A colour: black, white or any."""
    kinds = np.zeros(3), np.full(3, 255.0), rng.uniform(0, 255, 3)
    return np.asarray(kinds[rng.integers(3)], np.float32)


def _slope(rng: np.random.Generator, side: int) -> Layer:
    """`(side, side, 1)` float32 from 0 to 1: light that falls from one side."""
    across = np.linspace(0, 1, side, dtype=np.float32)
    turned = np.broadcast_to(across, (side, side))
    return np.rot90(turned, int(rng.integers(4)))[..., None]


def _cloth(rng: np.random.Generator, side: int) -> Layer:
    """`(side, side, 3)`: a colour with light from one side, and folds or none."""
    small = rng.standard_normal((6, 6, 1), np.float32) * rng.uniform(0, 25)
    folds = np.asarray(cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC))
    lit = rng.uniform(-80, 80) * (_slope(rng, side) - 0.5)
    return np.asarray(np.clip(_colour(rng) + folds[..., None] + lit, 0, 255), np.float32)


def _filled(shapes: list[npt.NDArray[np.float64]], side: int) -> Layer:
    """`(side, side)` float32, 1 inside of each shape; its edge is smooth."""
    weight = np.zeros((side, side), np.uint8)
    for points in shapes:
        places = np.rint(16 * points).astype(np.int32)  # in sixteenths of a pixel
        cv2.fillPoly(weight, [places], 255, cv2.LINE_AA, shift=4)
    return np.asarray(weight / np.float32(255), np.float32)
