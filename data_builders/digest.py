"""One short text for the content of a dataset, by which people see whether theirs are equal."""

from __future__ import annotations

import hashlib
from typing import Any

import tensorflow_datasets as tfds


def digest(dataset: tfds.core.DatasetBuilder, split: str) -> str:
    """Digests the records of a split. Their order and the files they are in do not count.

    Args:
      dataset: A builder whose records are written.
      split: The split.

    Returns:
      32 hexadecimal digits.
    """
    skip = {quality: tfds.decode.SkipDecoding() for quality in dataset.info.features["image"]}
    source = dataset.as_data_source(split, decoders={"image": skip})
    total = hashlib.sha256()
    for each in sorted(_of_record(source[i]) for i in range(len(source))):
        total.update(each)
    return total.hexdigest()[:32]


def changed(dataset: tfds.core.DatasetBuilder, digests: Any) -> str:
    """Finds a split whose records are not those that were digested.

    Args:
      dataset: A builder whose dataset is built.
      digests: The digest of each split, as the metadata of a dataset have it; a split that has none
        is not looked at.

    Returns:
      The first split that differs, '' where none does.
    """
    known = digests if isinstance(digests, dict) else {}
    splits = (split for split in dataset.info.splits if split in known)
    return next((split for split in splits if _differs(dataset, split, known[split])), "")


def _differs(dataset: tfds.core.DatasetBuilder, split: str, known: Any) -> bool:
    try:
        return digest(dataset, split) != known
    except RuntimeError:  # of array_record, which cannot read a damaged file
        return True


def _of_record(record: dict[str, Any]) -> bytes:
    plain = {name: value for name, value in record.items() if name != "image"}
    plain["box"] = plain["box"].tolist()
    images = {q: hashlib.sha256(data).hexdigest() for q, data in record["image"].items()}
    plain["frame"], plain["label"] = int(plain["frame"]), int(plain["label"])
    return hashlib.sha256(repr((sorted(plain.items()), sorted(images.items()))).encode()).digest()
