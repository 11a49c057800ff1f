"""What surrounds the head: the room, neck and shoulders, ears."""

from __future__ import annotations

import cv2
import numpy as np

from data_builders.synthetic_faces import shading
from data_builders.synthetic_faces.face import Map, noise, smoothstep
from data_builders.synthetic_faces.identity import Light, Person
from data_builders.synthetic_faces.shading import Planes, View


def room(person: Person, rng: np.random.Generator, size: int) -> list[Map]:
    """Paints a wall with a pattern, and a few things in front of it that are out of focus.

    Args:
      person: Whose room it is.
      rng: Source of the pattern and the things.
      size: Width and height of the frame.

    Returns:
      Three planes of linear light: red, green and blue.
    """
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    first, second = (np.asarray(colour, np.float32) for colour in person.wall)
    angle = rng.uniform(0, 2 * np.pi)
    across = (float(np.cos(angle)) * columns + float(np.sin(angle)) * rows) / size
    blend = smoothstep(-0.9, 1.3, across)[..., None]
    wall = first * (1 - blend) + second * blend
    period = float(rng.uniform(5, 17))
    pattern = np.sign(np.sin(2 * np.pi / period * columns))
    if rng.random() < 0.5:
        pattern *= np.sign(np.sin(2 * np.pi / (period * float(rng.uniform(0.4, 1))) * rows))
    wall *= (1 + float(rng.uniform(0.0, 0.12)) * pattern)[..., None]
    for _ in range(rng.integers(3, 9)):  # shelves, framed prints, windows
        x, y = rng.uniform(-0.1, 1.0, 2) * size
        width, height = rng.uniform(0.06, 0.4, 2) * size
        colour = rng.uniform(0.03, 0.6) * rng.uniform(0.5, 1, 3)
        corners = (int(x), int(y)), (int(x + width), int(y + height))
        cv2.rectangle(wall, *corners, colour.tolist(), -1)
    wall = cv2.GaussianBlur(wall, (0, 0), rng.uniform(0.8, 3.0))
    wall *= (1 + 0.05 * noise(rng, (size, size), 1.0))[..., None]
    return list(cv2.split(wall * (2.2 * np.asarray(person.light.ambient, np.float32))))


def draw(
    image: Planes, person: Person, cloth: Map, light: Light, x: Map, y: Map, view: View
) -> None:
    """Draws neck and shoulders.

    Args:
      image: It is drawn on, in place.
      person: The person whose they are.
      cloth: Pattern of the clothes, of the image's size.
      light: The light.
      x: Column of each pixel in head units from the head's centre.
      y: Row of each pixel, in the same units, positive down.
      view: How the head is turned.
    """
    direction = np.asarray(light.direction)
    half = (0.42 + 0.1 * smoothstep(1.0, 1.4, y)) * (0.55 + 0.5 * person.width)
    normal_x = np.clip(x / half, -1, 1)
    cosine = shading.cosine(direction, normal_x, np.full_like(x, 0.1), np.sqrt(1 - normal_x**2))
    coverage = np.clip((half - np.abs(x)) / view.pixel + 0.5, 0, 1) * (y > 0.4)
    # The chin's shadow is longer when the light is higher.
    shadow = 0.35 + 0.65 * smoothstep(0.9, 1.5, y + 0.2 * light.direction[1] + 0.15)
    skin = shading.times(person.skin, 0.92 + 0.03 * cloth)
    neck = shading.lit(skin, cosine * shadow, light, shading.WRAP_SKIN, 0.8 * shadow)
    shading.over(image, neck, coverage)

    aside = np.abs(x) / person.shoulders
    top = 1.32 + 0.43 * aside**2 + 0.8 * smoothstep(0.8, 1.25, aside)
    neckline = 0.32 * np.exp(-0.5 * np.square(np.square(x / 0.33)))
    depth = y - top - neckline
    coverage = np.clip(depth / view.pixel + 0.5, 0, 1)
    normal_x = np.clip(x / (1.3 * person.shoulders), -1, 1)
    normal_y = -0.75 * np.exp(-np.maximum(depth, 0) / 0.25)
    normal_z = np.sqrt(np.maximum(1 - normal_x**2 - normal_y**2, 0.05))
    collar = np.clip((0.1 - depth) / view.pixel + 0.5, 0, 1)
    pattern = 1 + 0.1 * cloth + 0.1 * np.sin(x * 5 + 2 * np.sin(y * 4))
    albedo = [
        (fabric + (edge - fabric) * collar) * pattern
        for fabric, edge in zip(person.clothes, person.collar, strict=True)
    ]
    cosine = shading.cosine(direction, normal_x, normal_y, normal_z)
    shading.over(image, shading.lit(albedo, cosine, light), coverage)


def draw_ears(image: Planes, person: Person, light: Light, x: Map, y: Map, view: View) -> None:
    """Draws both ears. They are drawn before the head, which covers what is behind it.

    Args:
      image: It is drawn on, in place.
      person: The person whose they are.
      light: The light.
      x: Column of each pixel in head units from the head's centre, roll removed.
      y: Row of each pixel, in the same units, positive down.
      view: How the head is turned.
    """
    skin = person.skin[0], 0.85 * person.skin[1], 0.82 * person.skin[2]
    for side in (-1, 1):
        centre = view.head_to_camera @ np.array((side * person.width * 0.99, 0.12, -0.08))
        radius = np.hypot((x - float(centre[0])) / 0.1, (y - float(centre[1])) / 0.21)
        coverage = np.clip((1 - radius) * 0.12 / view.pixel + 0.5, 0, 1)
        rim = 0.62 + 0.38 * smoothstep(0.45, 0.85, radius)
        cosine = np.full_like(x, 0.35 + 0.5 * side * light.direction[0])
        ear = shading.lit(shading.times(skin, rim), cosine, light, shading.WRAP_SKIN, rim)
        shading.over(image, ear, coverage)
