"""The clip around a face: size, slow camera, sensor and platform, alike for real and fake."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from data_builders import h264
from data_builders.self_blended.face import Face, Map, around_face, person

Image = npt.NDArray[np.uint8]

#: The larger side of a face in the clip, in pixels.
SMALLEST_FACE, LARGEST_FACE = 60, 400
_ENLARGED = 1.25  # times the size in the photograph: more would show no detail
# Side of the frame, in sizes of the face: a scene, or an image that was cut close to the face.
_SCENE, _CLOSE = (2.0, 2.8), (1.15, 1.6)


@dataclasses.dataclass(frozen=True)
class Past:
    """What a photograph has been through before its face is replaced. Real and fake share it.

    The new face may lack it: a generator's face has no sensor noise and another codec's traces.

    Attributes:
      smooth: Strength in grey values and radius in pixels of a filter that takes noise and pores
        and leaves edges, as cameras and filters for faces do; strength 0 for none.
      skin: Whether that filter smooths the face alone, with its neck, as beauty filters do.
      resolution: Share of its pixels, in each direction, through which it went; 1 for none.
      noise: Standard deviation of the noise, of 255.
      blur: Sigma of a Gaussian, in pixels.
      background: Sigma of a Gaussian over all but the person, in pixels, as portrait modes blur
        what lies behind; 0 for none.
      sharpen: Amount of an unsharp mask, and its sigma in pixels.
      jpeg: Quality of a JPEG; 0 for none.
      seed: Of the noise.
    """

    smooth: tuple[float, int]
    skin: bool
    resolution: float
    noise: float
    blur: float
    background: float
    sharpen: tuple[float, float]
    jpeg: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Footage:
    """How a photograph becomes a clip. Nothing here depends on whether it is real.

    Attributes:
      scale: From pixels of the photograph to pixels of the clip.
      corner: x, y of the frame's corner in the scaled photograph.
      size: `(height, width)` of the frame, even.
      mirrored: Whether the clip is mirrored.
      path: `(frames, 4)` shift in pixels (x, y), zoom and turn in degrees of each frame.
      past: What came before.
      gain: Factor of each colour.
      gamma: Exponent of brightness.
      saturation: Factor of the colours' distance from grey.
      light: Standard deviation of the logarithm of a factor that changes over the frame, of all
        colours and of each, as light from several lamps does; 0 for none.
      blur: Sigma of the lens, in pixels.
      motion: Length in pixels and direction in degrees of a blur by movement; length 0 for none.
      sharpen: Amount of an unsharp mask, as cameras and programs add it; 0 for none.
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
    past: Past
    gain: tuple[float, float, float]
    gamma: float
    saturation: float
    light: tuple[float, float]
    blur: float
    motion: tuple[float, float]
    sharpen: float
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
    degraded: float,
) -> Footage:
    """Draws the clip of a photograph, or of a part of a video.

    Args:
      shape: `(height, width)` of the photograph.
      face: The face in it; in a video a box around all its places.
      frames: Number of frames.
      rng: Draws.
      moves: Whether the camera moves; a video has its own movement.
      degraded: Chance that the clip has more than light, colours and a little noise: a past, blur,
        much noise, and encodings before the qualities.
    """
    largest = min(LARGEST_FACE, _ENLARGED * face.size)
    least = min(SMALLEST_FACE, largest)
    side = float(np.exp(rng.uniform(np.log(least), np.log(largest))))
    scale = side / face.size
    around = _CLOSE if rng.random() < 0.25 else _SCENE
    height, width = (
        int(min(rng.uniform(*around) * side, length * scale)) // 2 * 2 for length in shape
    )
    centre = scale * (face.box[:2] + face.box[2:]) / 2 + side * rng.uniform(-0.15, 0.15, 2)
    corner = [
        float(np.clip(middle - length / 2, 0, max(0.0, whole * scale - length)))
        for middle, length, whole in zip(centre, (width, height), shape[::-1], strict=True)
    ]

    is_degraded = bool(rng.random() < degraded)

    def always(chance: float) -> bool:
        return bool(rng.random() < chance)

    def sometimes(chance: float) -> bool:
        return always(chance) and is_degraded

    # A slow random walk, as of a camera in a hand.
    steps = rng.normal(0, [0.008 * side, 0.008 * side, 0.004, 0.25], (frames, 4))
    path = np.cumsum(steps, axis=0) * moves
    path[:, 2] += 1
    grain = max(1.0, 1 / scale)  # a finer trace would be lost
    past = Past(
        # These also without degradation: a smooth skin or a soft image is no sign of a fake, and a
        # face that is sharper than its image is one.
        smooth=(float(rng.uniform(12, 60)) if always(0.3) else 0.0, pores(grain)),
        skin=always(0.5),
        resolution=float(rng.uniform(0.3, 0.8)) / grain if always(0.25) else 1.0,
        noise=grain * float(rng.uniform(1, 7)) if sometimes(0.35) else 0.0,
        blur=grain * float(rng.uniform(0.4, 1.2)) if sometimes(0.15) else 0.0,
        background=face.size * float(rng.uniform(0.01, 0.05)) if always(0.15) else 0.0,
        sharpen=(float(rng.uniform(0.3, 1.5)) if always(0.2) else 0.0, grain * 1.2),
        jpeg=int(rng.integers(40, 90)) if sometimes(0.35) else 0,
        seed=int(rng.integers(2**31)),
    )
    brightness = rng.uniform(0.7, 1.1)
    cast = rng.uniform(-0.12, 0.12, 3) * always(0.4)
    moves_by = float(rng.uniform(2, 6)) if sometimes(0.15) else 0.0
    return Footage(
        scale=scale,
        corner=(corner[0], corner[1]),
        size=(max(32, height), max(32, width)),
        mirrored=always(0.5),
        path=tuple((float(x), float(y), float(z), float(a)) for x, y, z, a in path),
        past=past,
        gain=tuple(map(float, brightness * (1 + cast))),  # type: ignore[arg-type]
        gamma=float(rng.uniform(0.8, 1.4)),
        saturation=float(rng.uniform(0.5, 1.3)) if always(0.4) else 1.0,
        light=(float(rng.uniform(0.03, 0.18)), float(rng.uniform(0.01, 0.05)))
        if always(0.4)
        else (0.0, 0.0),
        blur=float(rng.uniform(0.4, 1.5)) if sometimes(0.4) else 0.0,
        motion=(moves_by, float(rng.uniform(0, 180))),
        sharpen=float(rng.uniform(0.3, 1.2)) if always(0.2) else 0.0,
        noise=float(rng.uniform(0.5, 6 if is_degraded else 2)) if always(0.6) else 0.0,
        jpeg=int(rng.integers(35, 96)) if sometimes(0.3) else 0,
        crf=int(rng.integers(16, 35)) if sometimes(0.5) else 0,
        shrink=float(rng.uniform(0.4, 0.9)) if sometimes(0.3) else 1.0,
        seed=int(rng.integers(2**31)),
    )


def aged(image: Image, past: Past, face: Face) -> Image:
    """The image after what its past says.

    Args:
      image: `(height, width, 3)` uint8 RGB.
      past: What it has been through.
      face: The face in it.
    """
    strength, radius = past.smooth
    if strength:
        filtered = smoothed(image, strength, radius)
        if past.skin:
            where = around_face(face, image.shape[:2])[..., None]
            mixed = image + where * (filtered - image.astype(np.float32))
            filtered = np.asarray(np.rint(mixed), np.uint8)
        image = filtered
    seen = image.astype(np.float32)
    if past.resolution < 1:
        height, width = image.shape[:2]
        small = scaled(image, past.resolution)
        seen = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    if past.blur:
        seen = cv2.GaussianBlur(seen, (0, 0), past.blur)
    if past.background:
        behind = cv2.GaussianBlur(seen, (0, 0), past.background)
        seen = behind + person(face, image.shape[:2])[..., None] * (seen - behind)
    if past.sharpen[0]:
        seen = sharpened(seen, *past.sharpen)
    if past.noise:
        noise = np.random.default_rng(past.seed)
        seen += past.noise * noise.standard_normal(seen.shape, np.float32)
    result = np.asarray(np.rint(np.clip(seen, 0, 255)), np.uint8)
    return jpeg(result, past.jpeg) if past.jpeg else result


def pores(grain: float) -> int:
    """The radius in pixels of what `smoothed` takes from a face, for so many to one of the clip."""
    return min(7, round(2 * grain))


def smoothed(image: Image, strength: float, radius: int) -> Image:
    """The image without what is finer than a radius and weaker than a strength; edges stay."""
    return np.asarray(cv2.bilateralFilter(image, 2 * radius + 1, strength, radius), np.uint8)


def sharpened(image: Map, amount: float, sigma: float) -> Map:
    """The image after an unsharp mask of a width in pixels."""
    return np.asarray(image + amount * (image - cv2.GaussianBlur(image, (0, 0), sigma)), np.float32)


def jpeg(image: Image, quality: int) -> Image:
    """The image as a JPEG shows it."""
    file = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(file, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1])


def film(
    footage: Footage, stills: Iterable[Image], faces: Sequence[Face]
) -> tuple[list[Image], list[Face]]:
    """Films a photograph, or films a video anew.

    Args:
      footage: From `draw`.
      stills: The photograph for each frame: real, or with a blended face. One is held at a time.
      faces: The face in each of the real ones.

    Returns:
      The frames, and the face in each.
    """
    height, width = footage.size
    noise = np.random.default_rng(footage.seed)
    frames, found = [], []
    before, small = None, np.zeros((0, 0, 3), np.uint8)
    for still, face, (x, y, zoom, angle) in zip(stills, faces, footage.path, strict=True):
        if still is not before:  # one photograph for all frames is scaled once
            before, small = still, scaled(still, footage.scale)
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


def scaled(image: Image, scale: float) -> Image:
    """The image at another size, without aliasing."""
    size = max(2, round(image.shape[1] * scale)), max(2, round(image.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)


def _recorded(frame: Image, footage: Footage, noise: np.random.Generator) -> Image:
    """Exposure, light, lens and sensor."""
    tone = (np.arange(256, dtype=np.float32)[:, None] / 255) ** footage.gamma
    light = cv2.LUT(frame, 255 * tone[None] * np.array(footage.gain, np.float32))
    if footage.light != (0, 0):
        light = light * lamps(footage)
    if footage.saturation != 1:
        grey = light.mean(axis=2, keepdims=True)
        light = grey + footage.saturation * (light - grey)
    if footage.blur:
        light = cv2.GaussianBlur(light, (0, 0), footage.blur)
    if footage.motion[0]:
        light = cv2.filter2D(light, -1, _streak(*footage.motion))
    if footage.sharpen:
        light = sharpened(light, footage.sharpen, 1.2)
    if footage.noise:
        light = light + footage.noise * noise.standard_normal(light.shape, np.float32)
    return np.asarray(np.rint(np.clip(light, 0, 255)), np.uint8)


@functools.lru_cache(maxsize=1)  # for the frames of one clip
def lamps(footage: Footage) -> npt.NDArray[np.float32]:
    """How the light changes over the frame.

    Returns:
      `(height, width, 3)` float32 factors, smooth: a grid of four by four over the frame. The
      logarithms have a mean of 0.
    """
    rng = np.random.default_rng([footage.seed, 1])
    alike, apart = footage.light
    grid = alike * rng.standard_normal((4, 4, 1)) + apart * rng.standard_normal((4, 4, 3))
    grid -= grid.mean(axis=(0, 1))
    height, width = footage.size
    field = cv2.resize(np.float32(grid), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.exp(field), np.float32)


def _streak(length: float, angle: float) -> npt.NDArray[np.float32]:
    """A line through the middle of a kernel, of the sum 1."""
    side = 2 * int(np.ceil(length / 2)) + 1
    middle = side // 2
    line = np.zeros((side, side), np.float32)
    for step in np.linspace(-length / 2, length / 2, 4 * side):
        x, y = step * np.cos(np.deg2rad(angle)), step * np.sin(np.deg2rad(angle))
        line[round(middle + y), round(middle + x)] += 1
    return line / line.sum()


def _sent(frames: list[Image], footage: Footage) -> list[Image]:
    """What a clip has been through before it is kept: JPEG, a platform that shrinks and encodes."""
    height, width = footage.size
    if footage.jpeg:
        frames = [jpeg(frame, footage.jpeg) for frame in frames]
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
