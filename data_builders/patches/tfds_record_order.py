"""Makes TFDS write the fields of a record in the order of their names.

A record is a protocol buffer with a map from names to values. Protocol buffers do not define the
order of a map's entries, and it is another one in every process: equal datasets would be different
files. TFDS has no setting for deterministic serialisation, so its serializer is replaced while a
dataset is written.

Upstream: no report is filed with tensorflow/datasets; tensorflow/tensorflow#3640 is the same
behaviour in TensorFlow's own files of records.

Without the patch: records are whole, and their digest (`data_builders.digest`) is the same. Only
the bytes of the files differ from build to build.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any
from unittest import mock

from tensorflow_datasets.core import example_serializer

from data_builders.patches import applies

_DISTRIBUTION = "tensorflow-datasets"
_Original: Any = getattr(example_serializer, "ExampleSerializer", object)


class _InKeyOrder(_Original):  # of the module: Beam sends it to other processes by name
    def serialize_example(self, example: Any) -> bytes:
        data: bytes = self.get_tf_example(example).SerializeToString(deterministic=True)
        return data


@contextlib.contextmanager
def in_key_order() -> Iterator[None]:
    """While it lasts, TFDS writes the fields of each record in the order of their names.

    Warns:
      UserWarning: The patch is not for the installed TFDS, which then writes them in its own order.
    """
    if _fits():
        with mock.patch.object(example_serializer, "ExampleSerializer", _InKeyOrder):
            yield
    else:
        warnings.warn(
            f"{_DISTRIBUTION} {version(_DISTRIBUTION)} leaves the order of a record's fields to "
            "chance: two equal datasets have equal records and digests, but different files",
            stacklevel=3,
        )
        yield


def _fits() -> bool:
    has_methods = all(hasattr(_Original, name) for name in ("get_tf_example", "serialize_example"))
    return has_methods and applies(_DISTRIBUTION, since="4.9", below="5")
