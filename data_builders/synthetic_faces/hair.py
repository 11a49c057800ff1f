"""Hair: a larger ellipsoid around the head with a hairline, and the hair behind the neck."""

from __future__ import annotations

import cv2
import numpy as np

from data_builders.synthetic_faces import shading
from data_builders.synthetic_faces.face import Map, noise, smoothstep
from data_builders.synthetic_faces.identity import Hair, Light, Person
from data_builders.synthetic_faces.shading import Planes, View

_SIZE = 256  # pixels of the pattern of strands


def strands(rng: np.random.Generator) -> Map:
    """Draws a `(_SIZE, _SIZE)` pattern of strands and locks that run down."""
    # The pattern is short at first and then stretched: this is cheaper than a long blur.
    thin = noise(rng, (_SIZE // 8, _SIZE), (1.0, 1.6))
    locks = noise(rng, (_SIZE // 8, _SIZE), (4.0, 2.4))
    return cv2.resize(thin + 0.6 * locks, (_SIZE, _SIZE), interpolation=cv2.INTER_CUBIC)


def draw(
    image: Planes, person: Person, pattern: Map, light: Light, x: Map, y: Map, view: View
) -> None:
    """Draws the hair on the head.

    Args:
      image: It is drawn on, in place.
      person: The person whose hair it is.
      pattern: `strands` of the person.
      light: The light.
      x: Column of each pixel in head units from the head's centre, roll removed.
      y: Row of each pixel, in the same units, positive down.
      view: How the head is turned.
    """
    hair = person.hair
    axes = (person.width + 0.75 * hair.amount, 1.0 + hair.amount, person.depth + hair.amount)
    coverage, px, py, pz = view.hit(x, y, axes)
    around = np.arctan2(px, pz)
    wave = hair.curl * 14 * np.sin(py * 9 + around * 2) if hair.curl else 0.0
    streaks = _sampled(pattern, around * 60 + wave, py * 70)
    side = np.abs(px - hair.parting * smoothstep(0.6, 0.0, np.abs(px)))
    line = hair.front + hair.drop * smoothstep(0.5 * person.width, 1.02 * person.width, side)
    line += hair.ragged * streaks - 0.08 * np.exp(-0.5 * ((px - hair.parting) / 0.12) ** 2)
    # Behind the ears the hair reaches farther down.
    line += 0.8 * hair.drop * smoothstep(0.15, -0.15, pz)
    coverage *= np.clip((line - py) / (3 * view.pixel) + 0.5, 0, 1)
    normals = shading.normals(px, py, pz, axes)
    shading.over(image, _coloured(hair, light, streaks, normals, view), coverage)


def draw_back(
    image: Planes, person: Person, pattern: Map, light: Light, x: Map, y: Map, view: View
) -> None:
    """Draws the part of long hair that is visible behind the neck; arguments as of `draw`."""
    hair = person.hair
    half = person.width + 0.75 * hair.amount + 0.08 * smoothstep(0.0, 1.0, y)
    wave = hair.curl * 0.25 * np.sin(y * 9) if hair.curl else 0.0
    distance = np.maximum(np.abs(x + wave) - half, np.abs(y) - hair.back)
    round_off = np.hypot(np.abs(x) - half + 0.3, y - hair.back + 0.3) - 0.3
    corner = (np.abs(x) > half - 0.3) & (y > hair.back - 0.3)
    distance = np.where(corner, round_off, distance)
    coverage = np.clip(-distance / (3 * view.pixel) + 0.5, 0, 1) * (y > -0.2)
    streaks = _sampled(pattern, (x + wave) * 90, y * 50 - 38)
    normal_x = np.clip(x / half, -1, 1)
    normals = normal_x, np.full_like(x, 0.1), np.sqrt(1 - normal_x**2)
    # This hair lies in the shadow of the head.
    dim = 0.45 + 0.4 * np.abs(normal_x)
    colour = [plane * dim for plane in _coloured(hair, light, streaks, normals, view)]
    shading.over(image, colour, coverage)


def _sampled(pattern: Map, column: Map, row: Map) -> Map:
    """Samples the pattern at places relative to its centre; it is mirrored beyond its edges."""
    middle, mirrored = _SIZE / 2, cv2.BORDER_REFLECT
    return cv2.remap(pattern, column + middle, row + middle, cv2.INTER_LINEAR, borderMode=mirrored)


def _coloured(
    hair: Hair, light: Light, streaks: Map, normals: tuple[Map, Map, Map], view: View
) -> list[Map]:
    to_light = view.to_head(light.direction)
    half = to_light + view.to_head((0.0, 0.0, 1.0))
    half /= np.linalg.norm(half)
    cosine = shading.cosine(to_light, *normals)
    albedo = shading.times(hair.colour, np.clip(1 + 0.4 * streaks, 0.25, 2.2))
    planes = shading.lit(albedo, cosine, light, (0.3, 0.3, 0.3))
    # A cylinder has a highlight in a band across it, not in a spot.
    band = np.maximum(1 - ((normals[1] - float(half[1]) + 0.06 * streaks) / 0.22) ** 2, 0)
    glow = band * np.maximum(cosine, 0) * np.clip(1 + streaks, 0, 2)
    for plane, channel, key in zip(planes, hair.colour, light.key, strict=True):
        plane += glow * ((0.5 * channel + 0.02) * key)
    return planes
