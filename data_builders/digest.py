"""What a built dataset holds, as one short text: two people can tell whether theirs is the same."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import tensorflow_datasets as tfds

if TYPE_CHECKING:
    from data_builders.paired import PairedDatasetBuilder


def digest(dataset: PairedDatasetBuilder, split: str) -> str:
    """Digests the records of a split, whatever their order and the files they lie in.

    Args:
      dataset: A builder whose dataset is built.
      split: Its split.

    Returns:
      32 hexadecimal digits.
    """
    skip = {quality: tfds.decode.SkipDecoding() for quality in dataset.info.features["image"]}
    source = dataset.as_data_source(split, decoders={"image": skip})
    total = hashlib.sha256()
    for each in sorted(_of_record(source[i]) for i in range(len(source))):
        total.update(each)
    return total.hexdigest()[:32]


def _of_record(record: dict[str, Any]) -> bytes:
    plain = {name: value for name, value in record.items() if name != "image"}
    plain["box"] = plain["box"].tolist()
    pictures = {q: hashlib.sha256(data).hexdigest() for q, data in record["image"].items()}
    plain["frame"], plain["label"] = int(plain["frame"]), int(plain["label"])
    return hashlib.sha256(repr((sorted(plain.items()), sorted(pictures.items()))).encode()).digest()
