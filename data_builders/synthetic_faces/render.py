"""From a person and a pose to an image: head, hair, neck, shoulders and the room behind them.

The head is an ellipsoid. For each pixel, the visible point of it is computed in closed form, looked
up on the flat `Face` and lit, all in linear light. Outlines are smooth because each shape has a
coverage for each pixel. Head and hair have the most detail: they are computed at twice the
resolution and averaged.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from data_builders.synthetic_faces import body, face, hair, head
from data_builders.synthetic_faces.face import Face, Map
from data_builders.synthetic_faces.identity import Person
from data_builders.synthetic_faces.performance import Pose
from data_builders.synthetic_faces.shading import Planes, View

FRAME_SIZE = 144  # pixels; a multiple of the 16 of a macroblock
_OVERSAMPLING = 2
_HEAD_REACH = 1.12, 1.25  # head units that are oversampled, sideways and up or down
_STRIP = 40  # rows of the head that are computed at a time: their arrays stay in the cache
_LONG_HAIR = 0.5  # hair that ends above this is not visible behind the neck


class Scene(NamedTuple):
    """A person in their room, ready for rendering: what is the same in every frame.

    Attributes:
      person: The person.
      face: The face without eyes and mouth.
      strands: Pattern of the hair.
      room: Three linear planes `(FRAME_SIZE, FRAME_SIZE)`.
      cloth: `(FRAME_SIZE, FRAME_SIZE)` pattern of the clothes.
    """

    person: Person
    face: Face
    strands: Map
    room: Planes
    cloth: Map


def prepare(person: Person) -> Scene:
    """Paints what does not change during a video."""
    rng = np.random.default_rng([person.texture_seed, 1])
    return Scene(
        person=person,
        face=face.paint_skin(person),
        strands=hair.strands(rng),
        room=body.room(person, rng, FRAME_SIZE),
        cloth=face.noise(rng, (FRAME_SIZE, FRAME_SIZE), 0.8),
    )


def render(scene: Scene, pose: Pose, *, head_only: bool = False) -> Map:
    """Renders one frame.

    Args:
      scene: The person and the room, from `prepare`.
      pose: Position of the head and expression of the face.
      head_only: Whether to leave out hair and body, for a face that will be cut out.

    Returns:
      `(FRAME_SIZE, FRAME_SIZE, 3)` linear RGB.
    """
    image = [plane.copy() for plane in scene.room]
    if not head_only:
        _draw_surroundings(image, scene, pose)
    (left, right), (top, bottom) = (
        (max(0, int(at - reach * pose.scale)), min(FRAME_SIZE, int(at + reach * pose.scale) + 1))
        for at, reach in zip((pose.x, pose.y), _HEAD_REACH, strict=True)
    )
    size = right - left, bottom - top
    boxes = [plane[top:bottom, left:right] for plane in image]
    fine = [cv2.resize(box, None, fx=_OVERSAMPLING, fy=_OVERSAMPLING) for box in boxes]
    _draw_head(fine, scene, pose, left, top, with_hair=not head_only)
    for box, plane in zip(boxes, fine, strict=True):
        box[:] = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    return cv2.merge(image)


def _draw_surroundings(image: Planes, scene: Scene, pose: Pose) -> None:
    person, light, view = scene.person, scene.person.light, View(pose)
    pixels = np.arange(FRAME_SIZE, dtype=np.float32)
    x, y = _head_units(pose, pixels, pixels)
    upright = _upright(pose, x, y)
    if person.hair.amount and person.hair.back > _LONG_HAIR:
        hair.draw_back(image, person, scene.strands, light, *upright, view)
    body.draw(image, person, scene.cloth, light, x, y, view)
    body.draw_ears(image, person, light, *upright, view)


def _draw_head(
    fine: Planes, scene: Scene, pose: Pose, left: int, top: int, *, with_hair: bool
) -> None:
    """Draws on an oversampled part of the image whose first pixel is (left, top)."""
    person, light, view = scene.person, scene.person.light, View(pose, _OVERSAMPLING)
    painted = head.surface(face.paint_expression(scene.face, person, pose))
    height, width = fine[0].shape
    columns = (np.arange(width, dtype=np.float32) + 0.5) / _OVERSAMPLING - 0.5 + left
    rows = (np.arange(height, dtype=np.float32) + 0.5) / _OVERSAMPLING - 0.5 + top
    for first in range(0, height, _STRIP):
        strip = [plane[first : first + _STRIP] for plane in fine]
        x, y = _upright(pose, *_head_units(pose, columns, rows[first : first + _STRIP]))
        head.draw(strip, person, painted, light, x, y, view)
        if with_hair and person.hair.amount:
            hair.draw(strip, person, scene.strands, light, x, y, view)


def _head_units(pose: Pose, columns: Map, rows: Map) -> tuple[Map, Map]:
    """Converts columns and rows to a grid of distances from the head's centre."""
    x, y = np.meshgrid((columns + 0.5 - pose.x) / pose.scale, (rows + 0.5 - pose.y) / pose.scale)
    return x, y


def _upright(pose: Pose, x: Map, y: Map) -> tuple[Map, Map]:
    """Removes the roll of the head."""
    cos, sin = float(np.cos(pose.roll)), float(np.sin(pose.roll))
    return cos * x + sin * y, cos * y - sin * x
