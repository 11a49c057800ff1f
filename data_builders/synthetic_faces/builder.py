"""`synthetic_faces`: rendered talking heads, real and manipulated, behind real H.264.

Nothing is downloaded. A clip depends only on the seed and the people in it: the same seed gives the
same pixels, in whatever order and in however many processes clips are made.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from data_builders import h264
from data_builders.paired import PairedConfig, PairedDatasetBuilder
from data_builders.records import DEFAULT_QUALITIES, Clip
from data_builders.synthetic_faces import manipulate
from data_builders.synthetic_faces.camera import Camera, sample_camera
from data_builders.synthetic_faces.face import Map
from data_builders.synthetic_faces.identity import sample_person
from data_builders.synthetic_faces.performance import Pose, perform
from data_builders.synthetic_faces.render import FRAME_SIZE, Scene, prepare, render

CRF = {"raw": 0, "c23": 23, "c30": 30, "c40": 40, "c45": 45}
REAL = "original"

# Each random part of a clip has its own stream of random numbers: a real video and its fake differ
# only in the manipulation and in the sensor's noise.
_PERSON, _PERFORMANCE, _CAMERA, _BOX, _SENSOR, _FLAWS = range(6)


@dataclasses.dataclass(eq=False)
class SyntheticFacesConfig(PairedConfig):
    """Says how much is rendered.

    Attributes:
      identities: Number of people in each split, at least 2: a donor is from the same split.
      frames: Frames of each video.
      seed: Another seed gives other people.
    """

    identities: Mapping[str, int] = dataclasses.field(default_factory=dict)
    frames: int = 3
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class SyntheticVideo:
    """One video that is to be rendered.

    Attributes:
      seed: Seed of the dataset.
      frames: Number of frames.
      method: 'original', or the manipulation.
      target: Index of the person whose video it is.
      donor: Index of the person whose face or expression is put in; unused in a real video.
      qualities: The qualities to make, out of `CRF`.
    """

    seed: int
    frames: int
    method: str
    target: int
    donor: int
    qualities: tuple[str, ...] = DEFAULT_QUALITIES


class SyntheticFaces(PairedDatasetBuilder):
    """Rendered talking heads, real and manipulated, at several qualities."""

    BUILDER_CONFIGS: ClassVar[list[SyntheticFacesConfig]] = [
        SyntheticFacesConfig(
            name="small",
            description="What the quickstart learns from: minutes on a processor.",
            identities={"train": 400, "validation": 24, "test": 80},
            frames=3,
        ),
        SyntheticFacesConfig(
            name="sweep",
            description="For benchmarks: also at qualities that nobody trains on.",
            identities={"train": 400, "validation": 120, "test": 240},
            frames=2,
            qualities=tuple(CRF),
        ),
        SyntheticFacesConfig(
            name="tiny",
            description="What the tests read: a second to build.",
            identities={"train": 4, "validation": 2, "test": 2},
            frames=2,
            seed=1,
        ),
    ]

    def clip_sources(self) -> Mapping[str, Sequence[SyntheticVideo]]:
        """Names a real video of each person and a fake made of it; methods alternate."""
        config = self.builder_config
        sources: dict[str, list[SyntheticVideo]] = {}
        first = 0
        for split, count in config.identities.items():
            people = range(first, first + count)
            sources[split] = [
                SyntheticVideo(config.seed, config.frames, method, person, donor, config.qualities)
                # The donor is the next person of the same split, so each person is a donor once.
                for person, donor in zip(people, [*people[1:], people[0]], strict=True)
                for method in (REAL, manipulate.METHODS[person % len(manipulate.METHODS)])
            ]
            first += count
        return sources

    @staticmethod
    def read_clip(source: SyntheticVideo) -> Clip:
        """Renders, manipulates, records, compresses and crops one video."""
        footage = film(source)
        take = _take(source.seed, source.target, source.frames)
        boxes = face_boxes(take.poses, _stream(source.seed, _BOX, source.target))
        crops = {}
        for quality in source.qualities:
            frames = h264.decode(h264.encode(footage, crf=CRF[quality]))
            crops[quality] = [
                frame[top:bottom, left:right]
                for frame, (left, top, right, bottom) in zip(frames, boxes, strict=True)
            ]
        real = source.method == REAL
        return Clip(
            method=source.method,
            video=f"{source.target:04d}" if real else f"{source.target:04d}_{source.donor:04d}",
            identity=f"{source.target:04d}",
            label="real" if real else "fake",
            frames=range(source.frames),
            boxes=boxes.astype(np.float32),
            crops=crops,
        )


def _stream(seed: int, kind: int, person: int, *more: int) -> np.random.Generator:
    return np.random.default_rng((seed, kind, person, *more))


@functools.lru_cache(maxsize=4)  # the donor is the next video's target
def _scene(seed: int, person: int) -> Scene:
    return prepare(sample_person(_stream(seed, _PERSON, person)))


class _Take(NamedTuple):
    """Developed images of one person: the real video is these, and the fake is made of them."""

    poses: list[Pose]
    camera: Camera
    images: list[Map]


@functools.lru_cache(maxsize=2)  # a fake follows the real video that it is made of
def _take(seed: int, person: int, frames: int) -> _Take:
    poses = perform(_stream(seed, _PERFORMANCE, person), frames, FRAME_SIZE)
    camera = sample_camera(_stream(seed, _CAMERA, person))
    scene = _scene(seed, person)
    return _Take(poses, camera, [camera.develop(render(scene, pose)) for pose in poses])


def film(source: SyntheticVideo) -> list[h264.Frame]:
    """Renders the frames of one video before it is compressed.

    Args:
      source: The video.

    Returns:
      `(FRAME_SIZE, FRAME_SIZE, 3)` uint8 RGB frames.
    """
    seed, frames = source.seed, source.frames
    poses, camera, images = _take(seed, source.target, frames)
    if source.method != REAL:
        flaws = manipulate.sample_flaws(_stream(seed, _FLAWS, source.target))
    if source.method == "inner_face_swap":
        donor = _scene(seed, source.donor)
        images = [
            manipulate.inner_face_swap(image, pose, donor, camera, flaws)
            for image, pose in zip(images, poses, strict=True)
        ]
    elif source.method == "mouth_reenactment":
        target = _scene(seed, source.target)
        drivers = perform(_stream(seed, _PERFORMANCE, source.donor), frames, FRAME_SIZE)
        images = [
            manipulate.mouth_reenactment(image, pose, target, driver, camera, flaws)
            for image, pose, driver in zip(images, poses, drivers, strict=True)
        ]
    sensor = _stream(seed, _SENSOR, source.target, int(source.method != REAL))
    return [camera.record(image, sensor) for image in images]


def face_boxes(poses: Sequence[Pose], rng: np.random.Generator) -> np.ndarray:
    """Makes square boxes around the face with the small errors of a detector.

    Args:
      poses: Position of the head in each frame.
      rng: Source of the detector's errors.

    Returns:
      `(frames, 4)` int64 x0, y0, x1, y1 in pixels, all of one size, within the frame.
    """
    side = round(1.9 * float(np.mean([pose.scale for pose in poses])) * rng.uniform(0.95, 1.05))
    boxes = []
    for pose in poses:
        x = pose.x + pose.scale * (0.35 * np.sin(pose.yaw) + rng.normal(0, 0.05))
        y = pose.y + pose.scale * (0.12 + rng.normal(0, 0.05))
        left, top = (
            int(np.clip(round(centre - side / 2), 0, FRAME_SIZE - side)) for centre in (x, y)
        )
        boxes.append((left, top, left + side, top + side))
    return np.array(boxes)
