"""The head: the flat `Face`, wrapped around an ellipsoid and lit."""

from __future__ import annotations

import cv2
import numpy as np

from data_builders.synthetic_faces import shading
from data_builders.synthetic_faces.face import EXTENT, SIZE, Face, Map, smoothstep
from data_builders.synthetic_faces.identity import Light, Person
from data_builders.synthetic_faces.shading import Planes, View

_SCALE = (SIZE - 1) / (2 * EXTENT)  # pixels of the face's map for each head unit


def surface(face: Face) -> tuple[Map, Map]:
    """Packs the face into two images of four channels, which `draw` samples.

    Args:
      face: The face, eyes and mouth included.

    Returns:
      An image of albedo and height, and one of the height's slopes to the right and down, shine
      and shade.
    """
    slopes = [  # the weights of Sobel's filter sum to 8
        cv2.Sobel(face.relief, cv2.CV_32F, right, 1 - right, scale=_SCALE / 8) for right in (1, 0)
    ]
    return (
        cv2.merge((*cv2.split(face.albedo), face.relief)),
        cv2.merge((*slopes, face.shine, face.shade)),
    )


def draw(
    image: Planes,
    person: Person,
    painted: tuple[Map, Map],
    light: Light,
    x: Map,
    y: Map,
    view: View,
) -> None:
    """Draws the head.

    Args:
      image: It is drawn on, in place.
      person: The person whose head it is.
      painted: `surface` of the person's face.
      light: The light.
      x: Column of each pixel in head units from the head's centre, roll removed.
      y: Row of each pixel, in the same units, positive down.
      view: How the head is turned.
    """
    axes = (person.width, 1.0, person.depth)
    taper = 1 - person.jaw * smoothstep(0.0, 1.0, y) * np.clip(y, 0, 1)
    coverage, px, py, pz = view.hit(x / taper, y, axes)

    # When the head turns, parts that stand out from the ellipsoid move against the rest.
    to_viewer = view.to_head((0.0, 0.0, 1.0))
    height = cv2.remap(painted[0], _on_map(px), _on_map(py), cv2.INTER_LINEAR)[..., 3]
    column, row = (
        _on_map(px - height * float(to_viewer[0])),
        _on_map(py - height * float(to_viewer[1])),
    )
    albedo, details = (cv2.remap(part, column, row, cv2.INTER_LINEAR) for part in painted)
    slope_x, slope_y, shine, shade = cv2.split(details)

    nx, ny, nz = shading.normals(px, py, pz, axes)
    nx, ny, nz = shading.unit(nx - slope_x, ny - slope_y, nz)
    to_light = view.to_head(light.direction)
    half = to_light + to_viewer
    highlight = np.maximum(shading.cosine(half / np.linalg.norm(half), nx, ny, nz), 0)
    for _ in range(4):  # to the power of 16
        highlight *= highlight
    highlight *= shine
    # Less ambient light reaches surfaces that look down.
    shade *= 0.8 - 0.3 * ny
    cosine = shading.cosine(to_light, nx, ny, nz)
    planes = shading.lit(cv2.split(albedo)[:3], cosine, light, shading.WRAP_SKIN, shade)
    for plane, key in zip(planes, light.key, strict=True):
        plane += highlight * key
    shading.over(image, planes, coverage)


def _on_map(coordinate: Map) -> Map:
    return (coordinate + EXTENT) * _SCALE
