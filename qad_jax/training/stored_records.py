"""The bytes of a record as TFDS stores it, and what is said where they are damaged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from data_builders.errors import UserError


@contextlib.contextmanager
def named(what: str) -> Iterator[None]:
    """Names what is read where array_record or protobuf finds that it is damaged.

    Args:
      what: The dataset, the split and the record.

    Raises:
      UserError: It is damaged.
    """
    try:
        yield
    except (RuntimeError, DecodeError) as error:  # array_record has no other, whatever happens
        raise UserError(f"{what} is damaged; build it again") from error


def features(record: bytes) -> Any:
    """Features of a record by name; the names of nested features are joined by a slash."""
    return tf_example_pb2.Example.FromString(record).features.feature


def integer(feature: Any) -> int:
    """The number that a feature holds."""
    return int(feature.int64_list.value[0])


def text(feature: Any) -> str:
    """The text that a feature holds."""
    return str(feature.bytes_list.value[0], "utf-8")
