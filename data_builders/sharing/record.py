"""One record of a built dataset, as it is stored: images stay the bytes of their PNG files."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from data_builders.files import parse_json
from data_builders.records import LABELS

#: Bounds of one record, so that a file of a stranger takes no more memory than a few images.
MAX_IMAGE, MAX_TEXT = 256 * 2**20, 64 * 2**10
_TEXTS = ("method", "video", "identity")
#: What is in a record besides its images.
FACTS = ("label", *_TEXTS, "frame", "box")
_FRAMES = range(-(2**31), 2**31)
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class Record:
    """What a dataset holds for one frame.

    Attributes:
      images: For each quality the bytes of a PNG file.
      label: 0 real, 1 fake.
      method: Manipulation method.
      video: Name of the video.
      identity: Who is seen.
      frame: Index of the frame in the video.
      box: x0, y0, x1, y1 in pixels of the source frame; each is a float32.

    Raises:
      ValueError: A field is of another kind, out of its range or too long.
    """

    images: Mapping[str, bytes]
    label: int
    method: str
    video: str
    identity: str
    frame: int
    box: tuple[float, ...]

    def __post_init__(self) -> None:
        for quality, image in self.images.items():
            if not isinstance(image, bytes) or image[: len(_PNG)] != _PNG:
                raise ValueError(f"the image of quality {quality!r} is not a PNG file")
            if len(image) > MAX_IMAGE:
                raise ValueError(f"the image of quality {quality!r} has {len(image):,} bytes")
        if type(self.label) is not int or self.label not in range(len(LABELS)):
            raise ValueError("its label is not 0 or 1")
        if type(self.frame) is not int or self.frame not in _FRAMES:
            raise ValueError("its frame is not an integer of 32 bits")
        for name in _TEXTS:
            text = getattr(self, name)
            if not isinstance(text, str) or len(text.encode()) > MAX_TEXT:
                raise ValueError(f"its {name} is not a text of at most {MAX_TEXT:,} bytes")
        if len(self.box) != 4 or not all(map(_is_float32, self.box)):
            raise ValueError("its box is not four finite numbers of 32 bits")

    @property
    def facts(self) -> dict[str, Any]:
        """All but the images, as JSON and Python have them."""
        values = {name: getattr(self, name) for name in FACTS}
        return {**values, "box": list(self.box)}


def of_facts(images: Mapping[str, Any], facts: Any) -> Record:
    """Makes a record from its images and what `Record.facts` gave.

    Raises:
      ValueError: A fact is absent, unknown or of another kind.
    """
    if not isinstance(facts, dict) or set(facts) != set(FACTS):
        raise ValueError(f"its facts are not {', '.join(FACTS)}")
    box = facts["box"]
    if not isinstance(box, list):
        raise ValueError("its box is not a list")
    return Record(images, **{**facts, "box": tuple(box)})


def facts_as_json(record: Record) -> bytes:
    """The facts of a record as JSON in one line; equal records give equal bytes."""
    return json.dumps(record.facts, ensure_ascii=False).encode()


def facts_of_json(data: bytes) -> Any:
    """Reads what `facts_as_json` wrote.

    Raises:
      ValueError: It is not JSON, or too deep.
    """
    return parse_json(data, most=MAX_TEXT)


def parse(data: bytes, qualities: tuple[str, ...]) -> Record:
    """Parses a stored record, and makes sure that `serialised` gives the same again.

    Args:
      data: The record as its file has it.
      qualities: The qualities of its dataset.

    Raises:
      ValueError: It is damaged, or holds something that this project does not store.
    """
    try:
        example = tf_example_pb2.Example.FromString(data)
        stored = example.features.feature
        facts = {
            **{name: int(stored[name].int64_list.value[0]) for name in ("label", "frame")},
            **{name: str(stored[name].bytes_list.value[0], "utf-8") for name in _TEXTS},
            "box": list(stored["box"].float_list.value),
        }
        images = {quality: stored[f"image/{quality}"].bytes_list.value[0] for quality in qualities}
    except (DecodeError, IndexError, UnicodeDecodeError) as error:
        raise ValueError("it is damaged") from error
    record = of_facts(images, facts)
    if _example(record) != example:
        raise ValueError("it has fields that this project does not store")
    return record


def serialised(record: Record) -> bytes:
    """The record as its file has it, with the fields in the order of their names."""
    data: bytes = _example(record).SerializeToString(deterministic=True)
    return data


def _example(record: Record) -> Any:
    example = tf_example_pb2.Example()
    stored = example.features.feature
    for quality, image in record.images.items():
        stored[f"image/{quality}"].bytes_list.value.append(image)
    for name in _TEXTS:
        stored[name].bytes_list.value.append(getattr(record, name).encode())
    for name in ("label", "frame"):
        stored[name].int64_list.value.append(getattr(record, name))
    stored["box"].float_list.value.extend(record.box)
    return example


def _is_float32(number: Any) -> bool:
    if not isinstance(number, float) or not math.isfinite(number):
        return False
    try:
        return bool(struct.unpack("<f", struct.pack("<f", number))[0] == number)
    except OverflowError:
        return False
