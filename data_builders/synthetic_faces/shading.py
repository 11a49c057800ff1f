"""What all drawing shares: where lines of sight end, light, and layers.

Images are lists of colour planes: NumPy is several times slower on many short rows of three.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from data_builders.synthetic_faces.face import Map
from data_builders.synthetic_faces.identity import Colour, Light
from data_builders.synthetic_faces.performance import Pose

Planes: TypeAlias = Sequence[Map]
Vector: TypeAlias = npt.NDArray[np.float64]
Axes: TypeAlias = tuple[float, float, float]

# Light that enters skin leaves it elsewhere, red light farthest: shadows have soft, reddish edges.
WRAP_SKIN = (0.38, 0.24, 0.2)
_WRAP_MATT = (0.1, 0.1, 0.1)


class View:
    """The head seen by the camera.

    Attributes:
      head_to_camera: `(3, 3)` rotation from head axes to camera axes, roll left out.
      pixel: Size of a pixel in head units.
    """

    def __init__(self, pose: Pose, oversampling: int = 1) -> None:
        cos_y, sin_y = np.cos(pose.yaw), np.sin(pose.yaw)
        cos_p, sin_p = np.cos(pose.pitch), np.sin(pose.pitch)
        turn = np.array(((cos_y, 0, sin_y), (0, 1, 0), (-sin_y, 0, cos_y)))
        nod = np.array(((1, 0, 0), (0, cos_p, sin_p), (0, -sin_p, cos_p)))
        self.head_to_camera = nod @ turn
        self.pixel = 1 / (pose.scale * oversampling)

    def to_head(self, direction: tuple[float, float, float]) -> Vector:
        """Converts a direction from camera axes to head axes."""
        return self.head_to_camera.T @ np.asarray(direction)

    def hit(self, x: Map, y: Map, axes: Axes) -> tuple[Map, Map, Map, Map]:
        """Finds where each pixel's line of sight meets an ellipsoid.

        Args:
          x: Column of each pixel in head units from the head's centre, roll removed.
          y: Row of each pixel, in the same units, positive down.
          axes: Half axes of the ellipsoid.

        Returns:
          Coverage of the pixel, and x, y, z of the point in head axes.
        """
        to_sphere = self.head_to_camera.T / np.asarray(axes)[:, None]
        a, b, c = to_sphere.T
        cc = float(c @ c)
        along = (float(a @ c) * x + float(b @ c) * y) / cc
        square = float(a @ a) * x * x + float(b @ b) * y * y + float(2 * (a @ b)) * x * y
        under = along * along - (square - 1) / cc
        depth = np.sqrt(np.maximum(under, 0)) - along
        points = [
            (float(a[i]) * x + float(b[i]) * y + float(c[i]) * depth) * axes[i] for i in range(3)
        ]
        # Near the outline the discriminant decreases by about 2 for each head unit.
        coverage = np.clip(under / (2 * self.pixel) + 0.5, 0, 1)
        return coverage, points[0], points[1], points[2]


def normals(x: Map, y: Map, z: Map, axes: Axes) -> tuple[Map, Map, Map]:
    """Unit normals of an ellipsoid at points on it."""
    return unit(x / axes[0] ** 2, y / axes[1] ** 2, z / axes[2] ** 2)


def unit(x: Map, y: Map, z: Map) -> tuple[Map, Map, Map]:
    """Scales vectors to length 1."""
    length = np.sqrt(x * x + y * y + z * z) + 1e-6
    return x / length, y / length, z / length


def cosine(direction: Vector, x: Map, y: Map, z: Map) -> Map:
    """The scalar product of one direction with each normal."""
    return float(direction[0]) * x + float(direction[1]) * y + float(direction[2]) * z


def lit(
    albedo: Planes | Colour,
    to_light: Map,
    light: Light,
    wrap: Colour = _WRAP_MATT,
    shade: Map | float = 1.0,
) -> list[Map]:
    """Computes the light that a matt surface scatters.

    Args:
      albedo: Colour of the surface, as planes or one for all pixels.
      to_light: Cosine between the normal and the direction of the key light.
      light: The light.
      wrap: How far around the surface the key light reaches, for each channel.
      shade: Share of the ambient light that arrives.

    Returns:
      Three planes of linear light.
    """
    planes = []
    for i in range(3):
        key = np.maximum(to_light + wrap[i], 0) * (light.key[i] / (1 + wrap[i]))
        planes.append(albedo[i] * (light.ambient[i] * shade + key))
    return planes


def times(colour: Colour, pattern: Map) -> list[Map]:
    """Multiplies one colour by a pattern."""
    return [channel * pattern for channel in colour]


def over(image: Planes, colour: Planes, coverage: Map) -> None:
    """Blends a layer over an image, in place."""
    for plane, channel in zip(image, colour, strict=True):
        plane += coverage * (channel - plane)
