"""How a fake is made: another face, or another mouth, is put into the frames of a video.

Both methods do what face generators do. The new region is produced at another resolution, aligned
by landmarks with small errors, matched to the colours of the frame and blended in with a soft mask.
The quality of each step is drawn for each video. A fake that is good in one way leaves traces of
another kind:

- A poor generator and careless blending leave missing detail and colours that differ at the edge of
  the mask. Much of the first survives CRF 23, some of the second CRF 40.
- A sharp generator leaves the fine checkerboard of transposed convolutions, in the chrominance. It
  is in every raw frame and in hardly any compressed one: the codec halves the resolution of colours
  and quantises them coarsely.

Missing detail makes a file smaller and the checkerboard makes it larger, so that the number of
bytes does not tell real from fake.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from data_builders.synthetic_faces.camera import Camera
from data_builders.synthetic_faces.face import Map
from data_builders.synthetic_faces.performance import Pose
from data_builders.synthetic_faces.render import FRAME_SIZE, Scene, render

METHODS = ("inner_face_swap", "mouth_reenactment")

_SHARP_GENERATORS = (
    0.35  # share of the fakes that are visible only in raw frames, or in fine detail
)
# This direction has no luminance, and is not one along which skin colours vary.
_MAGENTA_AGAINST_GREEN = np.array((1.0, -0.70, 1.0), np.float32)


@dataclasses.dataclass(frozen=True)
class Flaws:
    """The errors in one fake video.

    Attributes:
      resolution: Pixels of the generator for each head unit; the frames have about 40.
      checker: Amplitude of the checkerboard, as a part of full scale.
      cell: Side of its squares, head units.
      shift: Error of the alignment, head units, right and down.
      zoom: Error of the size, as a factor.
      tint: Error of the colour in R, G and B, as a part of full scale.
      contrast: Error of the contrast, as a factor.
      softness: Standard deviation of the mask's edge, head units.
    """

    resolution: float
    checker: float
    cell: float
    shift: tuple[float, float]
    zoom: float
    tint: tuple[float, float, float]
    contrast: float
    softness: float


def sample_flaws(rng: np.random.Generator) -> Flaws:
    """Draws the flaws of a video: generator, overall badness, and the error of each step."""
    sharp = rng.random() < _SHARP_GENERATORS
    badness = float(rng.uniform(0.0, 0.25) if sharp else rng.uniform(0.4, 1.0))

    def error() -> float:
        return min(1.0, badness * float(rng.uniform(0.6, 1.4)))

    brightness = rng.choice((-1, 1)) * 0.17 * error()
    red, green, blue = brightness + 0.03 * badness * rng.normal(size=3)
    return Flaws(
        resolution=9 * (48 / 9) ** (1 - error()),
        checker=float(rng.uniform(0.18, 0.28)) if sharp else 0.0,
        cell=float(rng.uniform(0.06, 0.08)),
        shift=(0.03 * badness * float(rng.normal()), 0.03 * badness * float(rng.normal())),
        zoom=float(np.exp(0.03 * badness * rng.normal())),
        tint=(float(red), float(green), float(blue)),
        contrast=float(np.exp(0.12 * badness * rng.normal())),
        softness=0.08 - 0.05 * error(),
    )


def inner_face_swap(image: Map, pose: Pose, donor: Scene, camera: Camera, flaws: Flaws) -> Map:
    """Replaces the face, from the brows to the chin, by that of another person.

    Args:
      image: The target's frame, developed.
      pose: The target's pose and expression, which the donor takes on.
      donor: The person whose face it becomes, in the light of their own room.
      camera: It develops the donor's face.
      flaws: The errors of the fake.

    Returns:
      The fake frame, developed.
    """
    face = camera.develop(render(donor, pose, head_only=True))
    turn = float(np.sin(pose.yaw))
    centre = 0.42 * turn, 0.24 + 0.3 * float(np.sin(pose.pitch))
    return _blend(image, face, pose, centre, (0.55 - 0.25 * abs(turn), 0.6), flaws)


def mouth_reenactment(
    image: Map, pose: Pose, target: Scene, driver: Pose, camera: Camera, flaws: Flaws
) -> Map:
    """Makes the person say something else: renders mouth and chin again with another expression.

    Args:
      image: The target's frame, developed.
      pose: The target's pose.
      target: The person whose frame it is.
      driver: The pose whose expression the target takes on.
      camera: It develops the new mouth.
      flaws: The errors of the fake.

    Returns:
      The fake frame, developed.
    """
    spoken = dataclasses.replace(pose, talk=driver.talk, smile=driver.smile)
    face = camera.develop(render(target, spoken, head_only=True))
    turn = float(np.sin(pose.yaw))
    centre = 0.4 * turn, target.person.mouth_y + 0.02 + 0.5 * float(np.sin(pose.pitch))
    return _blend(image, face, pose, centre, (0.42 - 0.2 * abs(turn), 0.29), flaws)


def _blend(
    image: Map,
    face: Map,
    pose: Pose,
    centre: tuple[float, float],
    radii: tuple[float, float],
    flaws: Flaws,
) -> Map:
    """Blends an elliptical part of `face` into `image`; lengths are in head units."""
    mask = _mask(pose, centre, radii, flaws.softness)
    left, top, width, height = cv2.boundingRect((mask > 1 / 512).astype(np.uint8))
    box = np.s_[top : top + height, left : left + width]
    face = _regenerated(face, pose, flaws)[box]
    face = _colour_matched(face, image[box], mask[box], flaws)
    fake = image.copy()
    fake[box] += mask[box][..., None] * (face - fake[box])
    return fake


def _mask(
    pose: Pose, centre: tuple[float, float], radii: tuple[float, float], softness: float
) -> Map:
    cos, sin = np.cos(pose.roll), np.sin(pose.roll)
    x = pose.x + pose.scale * (cos * centre[0] - sin * centre[1])
    y = pose.y + pose.scale * (sin * centre[0] + cos * centre[1])
    mask = np.zeros((FRAME_SIZE, FRAME_SIZE), np.float32)
    axes = pose.scale * radii[0], pose.scale * radii[1]
    # Coordinates have 4 binary digits of fraction: the ellipse moves smoothly with the head.
    cv2.ellipse(
        mask,
        (round(16 * (x - 0.5)), round(16 * (y - 0.5))),
        (round(16 * axes[0]), round(16 * axes[1])),
        float(np.degrees(pose.roll)),
        0,
        360,
        1.0,
        -1,
        cv2.LINE_AA,
        4,
    )
    return cv2.GaussianBlur(mask, (0, 0), softness * pose.scale)


def _regenerated(face: Map, pose: Pose, flaws: Flaws) -> Map:
    """The face after a generator of low resolution and a warp with small errors."""
    side = round(FRAME_SIZE * flaws.resolution / pose.scale)
    small = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    back = FRAME_SIZE / side * flaws.zoom
    # The zoom is about the head's centre; pixel centres lie at halves.
    offset = [
        at * (1 - flaws.zoom) + step * pose.scale + 0.5 * back - 0.5
        for at, step in zip((pose.x, pose.y), flaws.shift, strict=True)
    ]
    warp = np.array(((back, 0, offset[0]), (0, back, offset[1])), np.float32)
    size = FRAME_SIZE, FRAME_SIZE
    face = cv2.warpAffine(small, warp, size, borderMode=cv2.BORDER_REPLICATE)
    pattern = flaws.checker * _checkerboard(pose, flaws.cell)
    return face + pattern[..., None] * _MAGENTA_AGAINST_GREEN


def _checkerboard(pose: Pose, cell: float) -> Map:
    """Rounded squares of +1 and -1, which move with the head."""
    pixels = np.arange(FRAME_SIZE, dtype=np.float32)
    across, down = (
        np.sin(np.pi / (cell * pose.scale) * (pixels - middle)) for middle in (pose.x, pose.y)
    )
    return np.outer(down, across)


def _colour_matched(face: Map, image: Map, mask: Map, flaws: Flaws) -> Map:
    """Gives the face, with errors, the mean and the deviation of the frame under the mask."""
    weight = mask[..., None] / mask.sum()
    mean_from, mean_to = ((pixels * weight).sum((0, 1)) for pixels in (face, image))
    spread_from, spread_to = (
        np.sqrt((weight * (pixels - mean) ** 2).sum((0, 1)))
        for pixels, mean in ((face, mean_from), (image, mean_to))
    )
    gain = np.clip(spread_to / (spread_from + 1e-4), 0.6, 1.6) * np.float32(flaws.contrast)
    matched = (face - mean_from) * gain + mean_to + np.asarray(flaws.tint, np.float32)
    return np.clip(matched, 0, 1)
