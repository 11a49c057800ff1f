"""Records whose bytes depend on nothing but what is in them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from tensorflow_datasets.core import example_serializer


class _InKeyOrder(example_serializer.ExampleSerializer):
    def serialize_example(self, example: Any) -> bytes:
        data: bytes = self.get_tf_example(example).SerializeToString(deterministic=True)
        return data


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """While it lasts, TFDS writes the fields of each record in the order of their names.

    Protocol buffers leave the order of a map's entries to chance, another one in every process:
    equal datasets would be different files. TFDS has no setting for it.
    """
    with mock.patch.object(example_serializer, "ExampleSerializer", _InKeyOrder):
        yield
