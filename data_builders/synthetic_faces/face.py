"""The face as a flat map: albedo, relief and shine over the front of the head.

The map is painted from the front, in head units. `render` wraps it around the head. Skin, brows and
beard are painted once for each video, eyes and mouth for each frame.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from data_builders.synthetic_faces.identity import Colour, Person
from data_builders.synthetic_faces.performance import Pose

Map: TypeAlias = npt.NDArray[np.floating[Any]]

SIZE = 176  # pixels of the map: about as many for each head unit as in `render`
EXTENT = 1.1  # head units from its centre to its edge
_PIXEL = 2 * EXTENT / (SIZE - 1)
_AXIS = np.linspace(-EXTENT, EXTENT, SIZE, dtype=np.float32)
_X, _Y = np.meshgrid(_AXIS, _AXIS)


class Face(NamedTuple):
    """What `render` wraps around the head.

    Attributes:
      albedo: `(SIZE, SIZE, 3)` linear RGB.
      relief: `(SIZE, SIZE)` height over the ellipsoid, head units.
      shine: `(SIZE, SIZE)` strength of the highlight.
      shade: `(SIZE, SIZE)` share of the ambient light that arrives, 0 to 1.
    """

    albedo: Map
    relief: Map
    shine: Map
    shade: Map


def noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float | tuple) -> Map:
    """Draws smooth noise of mean 0 and standard deviation 1.

    Args:
      rng: Source of the noise.
      shape: Height and width.
      sigma: Standard deviation of the blur in pixels, one for both axes or (x, y).
    """
    sigma_x, sigma_y = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    field = rng.standard_normal(shape, dtype=np.float32)
    field = cv2.GaussianBlur(field, (0, 0), sigma_x, sigmaY=sigma_y)
    field -= field.mean()
    return field / field.std()


def smoothstep(low: float, high: float, value: Map) -> Map:
    """Rises smoothly from 0 at `low` to 1 at `high`; falls where `high` < `low`."""
    part = np.clip((value - low) / (high - low), 0.0, 1.0)
    return part * part * (3 - 2 * part)


def _spot(x: float, y: float, width: float, height: float) -> Map:
    """A Gaussian bump, made of two rows of exponentials, as it is separable."""
    across = np.exp(-0.5 * ((_AXIS - np.float32(x)) / np.float32(width)) ** 2)
    down = np.exp(-0.5 * ((_AXIS - np.float32(y)) / np.float32(height)) ** 2)
    return np.outer(down, across)


def _inside(distance: Map, blur: float = 1.0) -> Map:
    """Coverage of a shape by signed distance, negative inside; the edge is `blur` pixels wide."""
    return np.clip(0.5 - distance / np.float32(blur * _PIXEL), 0.0, 1.0)


def _paint(albedo: Map, colour: Colour | Map, coverage: Map) -> None:
    albedo += coverage[..., None] * (np.asarray(colour, np.float32) - albedo)


def _pair(x: float, y: float, width: float, height: float) -> Map:
    """Two bumps, left and right of the middle."""
    return _spot(-x, y, width, height) + _spot(x, y, width, height)


def paint_skin(person: Person) -> Face:
    """Paints the parts of the face that do not move."""
    p, rng = person, np.random.default_rng(person.texture_seed)
    pores, fine = noise(rng, _X.shape, 1.3), noise(rng, _X.shape, 0.7)
    blotches, strands = noise(rng, _X.shape, 7), noise(rng, _X.shape, (0.7, 1.8))

    albedo = _skin_colour(p, pores, fine, blotches)
    if p.freckles:
        spots = np.clip(pores - 1.6 + 0.6 * p.freckles, 0, 1)
        spots *= smoothstep(-0.75, -0.2, _Y) * smoothstep(0.95, 0.45, _Y)
        albedo *= 1 - spots[..., None] * np.array((0.25, 0.4, 0.45), np.float32)
    for _ in range(rng.integers(0, 4)):  # moles
        x, y, size = rng.uniform((-0.6, -0.4, 0.01), (0.6, 0.85, 0.022)).astype(np.float32)
        albedo *= 1 - 0.65 * _inside(np.hypot(_X - x, _Y - y) - size)[..., None]
    if p.beard:
        _paint(albedo, _hair_tone(p, 0.7), _beard(p, strands))
    for side in (-1, 1):
        _paint(albedo, _hair_tone(p, 0.55), _brow(p, side, strands))

    relief = _relief(p) + 0.0009 * p.roughness * (pores + 0.6 * fine)
    shade = 1 - 0.5 * _pair(p.eye_x, p.eye_y - 0.05, 0.13, 0.07)
    shade -= 0.2 * _spot(0, p.nose_y + 0.09, p.nose_width, 0.04)
    shade -= 0.2 * _spot(0, p.mouth_y + p.lip_lower + 0.07, 0.13, 0.04)
    shine = p.shine * (1 + 0.6 * _spot(0, -0.4, 0.35, 0.15) + _spot(0, p.nose_y, 0.08, 0.1))
    return Face(albedo, relief, shine * (1 + 0.2 * pores), shade)


def _skin_colour(person: Person, pores: Map, fine: Map, blotches: Map) -> Map:
    """Skin with its texture, redder at cheeks and nose, darker under the eyes."""
    texture = person.roughness * (0.045 * pores + 0.03 * fine + 0.03 * blotches)
    flush = _pair(0.42, 0.3, 0.17, 0.15) + 0.8 * _spot(0, person.nose_y, 0.1, 0.1)
    flush = person.ruddiness * (flush + 0.25 * blotches)
    rings = (0.12 + 0.2 * person.age) * _pair(person.eye_x, person.eye_y + 0.1, 0.15, 0.05)
    changes = (
        (texture, (1.0, 1.0, 1.0)),
        (flush, (0.06, -0.16, -0.12)),
        (rings, (-0.8, -1.0, -0.9)),
    )
    albedo = np.ones((SIZE, SIZE, 3), np.float32) * np.asarray(person.skin, np.float32)
    for amount, colour in changes:
        albedo *= 1 + amount[..., None] * np.array(colour, np.float32)
    return albedo


def _hair_tone(person: Person, part: float) -> Colour:
    red, green, blue = (channel * part for channel in person.hair.colour)
    return red, green, blue


def _relief(person: Person) -> Map:
    p = person
    relief = np.zeros_like(_X)
    # The bridge of the nose becomes higher and wider from the brows to the tip.
    down = np.clip((_Y - p.eye_y + 0.05) / (p.nose_y - p.eye_y + 0.05), 0, 1)
    width = 0.06 + 0.05 * down
    below = smoothstep(p.nose_y + 0.1, p.nose_y - 0.02, _Y)
    relief += (
        p.nose_length
        * (0.25 + 0.75 * down)
        * np.exp(-0.5 * (_X / width) ** 2)
        * below
        * (smoothstep(-0.35, 0.0, _Y))
    )
    relief += 0.35 * p.nose_length * _spot(0, p.nose_y, 0.07, 0.055)
    for side in (-1, 1):
        relief += (
            0.3 * p.nose_length * _spot(side * p.nose_width * 0.8, p.nose_y + 0.02, 0.05, 0.045)
        )
        relief -= 0.075 * _spot(side * p.eye_x, p.eye_y - 0.02, 0.17, 0.1)
        relief += 0.05 * _spot(side * p.eye_x, p.eye_y - p.brow_y, 0.2, 0.07)
        relief += 0.06 * _spot(side * 0.42, 0.27, 0.17, 0.14)
        # The fold from nose to mouth.
        fold = np.abs(side * _X - (p.nose_width + 0.06) - 0.35 * (_Y - p.nose_y)) / 0.022
        along = smoothstep(p.nose_y - 0.02, p.nose_y + 0.08, _Y) * smoothstep(
            p.mouth_y + 0.12, p.mouth_y, _Y
        )
        relief -= (0.006 + 0.016 * p.age) * np.exp(-0.5 * fold**2) * along
        crow = np.sin((_Y - p.eye_y + 0.3 * (side * _X - p.eye_x)) * 75)
        relief += 0.004 * p.age * crow * _spot(side * (p.eye_x + 0.25), p.eye_y, 0.05, 0.09)
    relief += 0.05 * _spot(0, 0.86, 0.15, 0.1) + 0.03 * _spot(0, p.mouth_y, 0.3, 0.14)
    lines = np.sin(_Y * 48 + 1.2 * np.cos(_X * 3)) * _spot(0, -0.42, 0.3, 0.1)
    return (relief + 0.007 * p.age * lines).astype(np.float32)


def _brow(person: Person, side: int, strands: Map) -> Map:
    x = side * _X - person.eye_x
    curve = person.eye_y - person.brow_y + person.brow_arch * x**2 - person.brow_tilt * x
    thickness = person.brow_thickness * smoothstep(0.27, 0.05, x) * smoothstep(-0.25, -0.17, x)
    density = person.brow_density * np.clip(0.85 + 0.25 * strands, 0, 1)
    return _inside(np.abs(_Y - curve) - thickness, 2.5) * density * (thickness > 0.003)


def _beard(person: Person, strands: Map) -> Map:
    p = person
    jaw = smoothstep(0.3, 0.62, _Y + 0.28 * np.abs(_X))
    upper_lip = _spot(0, p.mouth_y - 0.09, 0.2, 0.045)
    mouth = _spot(0, p.mouth_y, p.mouth_width * 0.75, 0.07)
    area = np.clip(jaw * smoothstep(0.22, 0.42, np.hypot(_X, _Y - 0.5)) + upper_lip, 0, 1)
    area = np.clip(np.maximum(area, smoothstep(0.74, 0.84, _Y)) - 1.5 * mouth, 0, 1)
    return area * np.clip(p.beard * (0.8 + 0.25 * strands), 0, 0.92)


def paint_expression(face: Face, person: Person, pose: Pose) -> Face:
    """Returns the face with the eyes and the mouth of one frame; the given face is not changed."""
    albedo, relief, shine, shade = (part.copy() for part in face)
    for side in (-1, 1):
        _paint_eye(albedo, shine, person, pose, side)
    _paint_mouth(albedo, relief, shine, person, pose)
    return Face(albedo, relief, shine, shade)


def _paint_eye(albedo: Map, shine: Map, person: Person, pose: Pose, side: int) -> None:
    p = person
    rows = _rows(p.eye_y - 0.2, p.eye_y + 0.17)
    columns = _rows(side * p.eye_x - 0.26, side * p.eye_x + 0.26)
    part = albedo[rows, columns]  # a view: painting it paints the face
    x = _X[rows, columns] - np.float32(side * p.eye_x)
    y = _Y[rows, columns] - np.float32(p.eye_y) + p.eye_tilt * side * x
    across = np.clip(1 - (x / p.eye_width) ** 2, 0, 1)
    height = p.eye_width * p.eye_open * pose.lids
    upper, lower = -height * across**0.75, 0.55 * height * across**0.9
    opening = _inside(np.maximum(upper - y, y - lower))
    skin = np.asarray(p.skin, np.float32)

    lid = np.abs(y - upper + 0.045 + 0.03 * (1 - pose.lids)) / 0.014
    part *= 1 - 0.35 * (np.exp(-0.5 * lid**2) * (across > 0))[..., None]
    white = 0.38 * np.array((1.0, 0.95, 0.91), np.float32) * (0.6 + 0.4 * skin[0])
    _paint(part, white * smoothstep(-1.1, 0.2, (y - upper) / 0.09 - 0.6)[..., None], opening)
    radius = p.eye_width * 0.47
    centre_x, centre_y = 0.06 * pose.gaze_x, -0.012 + 0.03 * pose.gaze_y
    distance = np.hypot(x - centre_x, y - centre_y).astype(np.float32)
    iris = np.asarray(p.iris, np.float32) * (1.5 - 0.9 * (distance / radius) ** 2)[..., None]
    _paint(part, iris, opening * _inside(distance - radius, 1.5))
    _paint(part, (0.004, 0.004, 0.004), opening * _inside(distance - radius * 0.42, 1.5))
    spark = np.hypot(x - centre_x + 0.03, y - centre_y + 0.025).astype(np.float32)
    _paint(part, (0.8, 0.8, 0.8), 0.9 * opening * _inside(spark - 0.014, 1.5))
    lashes = np.abs(y - upper) / (0.012 + 0.006 * smoothstep(-0.1, 0.15, side * x))
    _paint(part, (0.015, 0.01, 0.01), 0.85 * np.exp(-0.5 * lashes**2) * (across > 0.02))
    rim = np.exp(-0.5 * ((y - lower) / 0.012) ** 2) * (across > 0.02)
    _paint(part, skin * np.array((0.7, 0.45, 0.42), np.float32), 0.5 * rim)
    shine[rows, columns] += 0.06 * opening


def _paint_mouth(albedo: Map, relief: Map, shine: Map, person: Person, pose: Pose) -> None:
    p = person
    rows, columns = _rows(p.mouth_y - 0.2, p.mouth_y + 0.36), _rows(-0.45, 0.45)
    part = albedo[rows, columns]
    half = p.mouth_width * (1 + 0.14 * pose.smile - 0.12 * pose.talk)
    x = _X[rows, columns] / np.float32(half)
    corner = np.clip(1 - x**2, 0, 1)
    y = _Y[rows, columns] - np.float32(p.mouth_y) + 0.05 * pose.smile * x**2
    gap = 0.16 * pose.talk
    inner_upper, inner_lower = -0.3 * gap * corner, 0.7 * gap * corner
    # Cupid's bow: the upper lip dips in its middle.
    bow = corner**0.6 * (1 - 0.35 * np.exp(-0.5 * (x / 0.14) ** 2))
    outer_upper = inner_upper - p.lip_upper * (1 - 0.25 * max(pose.smile, 0)) * bow
    outer_lower = inner_lower + p.lip_lower * (1 - 0.2 * max(pose.smile, 0)) * corner**0.7
    within = x**2 < 1
    lips = _inside(np.maximum(outer_upper - y, y - outer_lower), 2.0) * within

    crease = np.sin(x * 34 + 2 * np.sin(x * 9)) * 0.05
    fullness = np.where(y < inner_upper, 0.82, 1.0) * (1 + crease)
    _paint(
        part, np.asarray(p.lips, np.float32) * fullness.astype(np.float32)[..., None], 0.9 * lips
    )
    opening = _inside(np.maximum(inner_upper - y, y - inner_lower)) * within
    _paint(part, (0.02, 0.006, 0.006), opening)
    teeth = _inside(y - inner_upper - 0.38 * gap * corner) * (np.abs(x) < 0.72)
    gaps = 1 - 0.25 * np.exp(-0.5 * ((np.abs(x * 9) % 1 - 0.5) / 0.1) ** 2)
    _paint(
        part,
        np.array((0.6, 0.56, 0.48), np.float32) * gaps.astype(np.float32)[..., None],
        opening * teeth * min(1.0, 6 * gap),
    )
    tongue = _inside(inner_lower - 0.3 * gap - y, 3.0)
    _paint(part, np.asarray(p.lips, np.float32) * 0.5, 0.7 * opening * tongue * (gap > 0.06))
    line = np.exp(-0.5 * ((y - (inner_upper + inner_lower) / 2) / 0.011) ** 2) * (np.abs(x) < 1.06)
    if gap < 0.03:
        _paint(part, np.asarray(p.lips, np.float32) * 0.18, 0.85 * line)
    swell = 0.03 * np.exp(-0.5 * ((y - (inner_lower + outer_lower) / 2) / 0.03) ** 2) * corner
    swell += 0.02 * np.exp(-0.5 * ((y - (inner_upper + outer_upper) / 2) / 0.02) ** 2) * corner
    relief[rows, columns] += swell * (1 - opening)
    shine[rows, columns] += 0.08 * lips * (1 - opening)


def _rows(low: float, high: float) -> slice:
    """The rows (or columns) of the map between two coordinates."""
    first, last = ((bound + EXTENT) / _PIXEL for bound in (low, high))
    return slice(max(0, int(first)), min(SIZE, int(last) + 1))
