"""The clip around a face: size, slow camera, sensor and platform, alike for real and fake."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from data_builders import h264
from data_builders.self_blended.face import Face

Image = npt.NDArray[np.uint8]

_FACE = (60, 400)  # px, the larger side of a face in the clip
_LARGEST = 1.25  # times the size in the photograph: more would show no detail
_AROUND = 2.4  # side of the frame, in sizes of the face


@dataclasses.dataclass(frozen=True)
class Footage:
    """How a photograph becomes a clip. Nothing here depends on whether it is real.

    Attributes:
      scale: From pixels of the photograph to pixels of the clip.
      corner: x, y of the frame's corner in the scaled photograph.
      size: `(height, width)` of the frame, even.
      mirrored: Whether the clip is mirrored.
      path: `(frames, 4)` shift in pixels (x, y), zoom and turn in degrees of each frame.
      gain: Factor of brightness.
      gamma: Exponent of brightness.
      blur: Sigma of the lens, in pixels.
      noise: Standard deviation of the sensor's noise, of 255.
      jpeg: Quality of a JPEG before the video; 0 for none.
      crf: CRF of an encoding before the qualities; 0 for none.
      shrink: Factor by which a platform shrinks the frame before that encoding, 1 for none.
      seed: Of the noise.
    """

    scale: float
    corner: tuple[float, float]
    size: tuple[int, int]
    mirrored: bool
    path: tuple[tuple[float, float, float, float], ...]
    gain: float
    gamma: float
    blur: float
    noise: float
    jpeg: int
    crf: int
    shrink: float
    seed: int


def draw(
    shape: tuple[int, int],
    face: Face,
    frames: int,
    rng: np.random.Generator,
    *,
    moves: bool,
) -> Footage:
    """Draws the clip of a photograph, or of a part of a video.

    Args:
      shape: `(height, width)` of the photograph.
      face: The face in it; in a video a box around all its places.
      frames: Number of frames.
      rng: Draws.
      moves: Whether the camera moves; a video has its own movement.
    """
    largest = min(_FACE[1], _LARGEST * face.size)
    least = min(_FACE[0], largest)
    side = float(np.exp(rng.uniform(np.log(least), np.log(largest))))
    scale = side / face.size
    height, width = (
        int(min(_AROUND * side * rng.uniform(0.85, 1.15), length * scale)) // 2 * 2
        for length in shape
    )
    centre = scale * (face.box[:2] + face.box[2:]) / 2 + side * rng.uniform(-0.15, 0.15, 2)
    corner = [
        float(np.clip(middle - length / 2, 0, max(0.0, whole * scale - length)))
        for middle, length, whole in zip(centre, (width, height), shape[::-1], strict=True)
    ]

    def sometimes(chance: float) -> bool:
        return bool(rng.random() < chance)

    # A slow random walk, as of a camera in a hand.
    steps = rng.normal(0, [0.008 * side, 0.008 * side, 0.004, 0.25], (frames, 4))
    path = np.cumsum(steps, axis=0) * moves
    path[:, 2] += 1
    return Footage(
        scale=scale,
        corner=(corner[0], corner[1]),
        size=(max(32, height), max(32, width)),
        mirrored=sometimes(0.5),
        path=tuple((float(x), float(y), float(z), float(a)) for x, y, z, a in path),
        gain=float(rng.uniform(0.8, 1.15)),
        gamma=float(rng.uniform(0.8, 1.25)),
        blur=float(rng.uniform(0.4, 1.2)) if sometimes(0.4) else 0.0,
        noise=float(rng.uniform(0.5, 5)) if sometimes(0.7) else 0.0,
        jpeg=int(rng.integers(50, 96)) if sometimes(0.3) else 0,
        crf=int(rng.integers(16, 31)) if sometimes(0.5) else 0,
        shrink=float(rng.uniform(0.5, 0.9)) if sometimes(0.25) else 1.0,
        seed=int(rng.integers(2**31)),
    )


def film(
    footage: Footage, stills: Sequence[Image], faces: Sequence[Face]
) -> tuple[list[Image], list[Face]]:
    """Films a photograph, or films a video anew.

    Args:
      footage: From `draw`.
      stills: The photograph for each frame: real, or with a blended face.
      faces: The face in each of the real ones.

    Returns:
      The frames, and the face in each.
    """
    height, width = footage.size
    noise = np.random.default_rng(footage.seed)
    frames, found = [], []
    scaled: dict[int, Image] = {}  # one photograph for all frames is scaled once
    for still, face, (x, y, zoom, angle) in zip(stills, faces, footage.path, strict=True):
        small = scaled.get(id(still))
        if small is None:
            small = scaled[id(still)] = _scaled(still, footage.scale)
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom)
        matrix[:, 2] += matrix[:, :2] @ -np.array(footage.corner) + (x, y)
        if footage.mirrored:
            matrix = np.array([[-1, 0, width - 1], [0, 1, 0]]) @ np.vstack([matrix, [0, 0, 1]])
        frame = cv2.warpAffine(
            small, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        frames.append(_recorded(frame, footage, noise))
        found.append(face.moved(matrix @ np.diag([footage.scale, footage.scale, 1])))
    return _sent(frames, footage), found


def _scaled(image: Image, scale: float) -> Image:
    size = max(2, round(image.shape[1] * scale)), max(2, round(image.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)


def _recorded(frame: Image, footage: Footage, noise: np.random.Generator) -> Image:
    """Lens, exposure and sensor."""
    light = (frame.astype(np.float32) / 255) ** footage.gamma * (255 * footage.gain)
    if footage.blur:
        light = cv2.GaussianBlur(light, (0, 0), footage.blur)
    if footage.noise:
        light = light + footage.noise * noise.standard_normal(light.shape, np.float32)
    return np.asarray(np.rint(np.clip(light, 0, 255)), np.uint8)


def _sent(frames: list[Image], footage: Footage) -> list[Image]:
    """What a clip has been through before it is kept: JPEG, a platform that shrinks and encodes."""
    height, width = footage.size
    if footage.jpeg:
        how = [cv2.IMWRITE_JPEG_QUALITY, footage.jpeg]
        files = [cv2.imencode(".jpg", frame[..., ::-1], how)[1] for frame in frames]
        decoded = [cv2.imdecode(file, cv2.IMREAD_COLOR) for file in files]
        frames = [np.ascontiguousarray(image[..., ::-1]) for image in decoded if image is not None]
    if footage.shrink < 1:
        small = tuple(max(16, int(side * footage.shrink) // 2 * 2) for side in (width, height))
        frames = [cv2.resize(frame, small, interpolation=cv2.INTER_AREA) for frame in frames]
    if footage.crf:
        frames = list(h264.decode(h264.encode(frames, crf=footage.crf)))
    if footage.shrink < 1:
        # All qualities have the boxes of one frame size.
        frames = [
            cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC) for frame in frames
        ]
    return frames
