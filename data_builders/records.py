"""The record: what every dataset holds for one frame, and the clip that records are made of.

A *clip* is one video cut to one face at several qualities: the same frames, the same boxes.
Importing this module loads NumPy and nothing larger.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from data_builders.errors import UserError
from data_builders.png import Image, encode_png

LABELS = ("real", "fake")  # the index is the class: 0 real, 1 fake
DEFAULT_QUALITIES = ("raw", "c23", "c40")
SPLITS = ("train", "validation", "test")

#: Key and fields of one record.
Example: TypeAlias = tuple[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class FinishedClip:
    """What remains of a clip once its images are files.

    Attributes:
      name: Method and video.
      examples: Its records.
      notes: See `Clip`.
    """

    name: str
    examples: list[Example]
    notes: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Clip:
    """One video, cut to one face, at several qualities.

    Attributes:
      method: Manipulation method, 'original' for a real video.
      video: Name of the video, unique within `method`.
      identity: Who is seen. No identity is in two splits, unless the dataset's notes say so.
      label: 'real' or 'fake'.
      frames: `(n,)` index of each crop's frame in the source video.
      boxes: `(n, 4)` x0, y0, x1, y1 of each crop in pixels of the source frame.
      crops: For each quality the n crops, uint8 RGB arrays or the bytes of PNG files.
      notes: Numbers that the dataset's information should have for this video.
    """

    method: str
    video: str
    identity: str
    label: str
    frames: Sequence[int]
    boxes: npt.NDArray[np.float32]
    crops: Mapping[str, Sequence[Image | bytes]]
    notes: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = {quality: len(crops) for quality, crops in self.crops.items()}
        if {*counts.values(), len(self.boxes)} != {len(self.frames)}:
            raise ValueError(
                f"{self.method}/{self.video}: {len(self.frames)} frames, {len(self.boxes)} boxes, "
                f"crops {counts}: all must be equal"
            )
        try:
            "".join((self.method, self.video, self.identity)).encode()
        except UnicodeEncodeError as error:  # of the name of a file; TFDS would end the build
            raise UserError("its name is not UTF-8, as texts of records are; rename it") from error

    def finished(self) -> FinishedClip:
        """Encodes the images."""
        return FinishedClip(f"{self.method}/{self.video}", list(self.examples()), dict(self.notes))

    def examples(self) -> Iterator[Example]:
        """Yields `(key, example)` for each frame, images as the bytes of PNG files."""
        for i, frame in enumerate(self.frames):
            images = {quality: crops[i] for quality, crops in self.crops.items()}
            yield (
                f"{self.method}/{self.video}/{frame:06d}",
                {
                    "image": {
                        quality: image if isinstance(image, bytes) else encode_png(image)
                        for quality, image in images.items()
                    },
                    "label": self.label,
                    "method": self.method,
                    "video": self.video,
                    "identity": self.identity,
                    "frame": int(frame),
                    "box": np.asarray(self.boxes[i], np.float32),
                },
            )


@dataclasses.dataclass(frozen=True)
class Pair:
    """A real clip and a fake that is made of it. A dataset has both or neither of them.

    Attributes:
      real: The real clip.
      fake: The fake.
    """

    real: Clip
    fake: Clip

    def finished(self) -> FinishedClip:
        """Encodes the images of both; the name is that of the fake."""
        real, fake = self.real.finished(), self.fake.finished()
        return FinishedClip(fake.name, real.examples + fake.examples)
