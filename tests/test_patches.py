"""The gate of the patches, and the order of the fields in a record's bytes."""

import subprocess
import sys

import numpy as np
import pytest
from tensorflow_datasets.core import example_serializer, features

from data_builders import patches
from data_builders.patches import tfds_record_order
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("installed", "below", "since", "expected"),
    [
        ("4.9.10", "5", "0", True),
        ("4.9.10", "5", "4.9", True),
        ("4.9.10", "4.9.10", "0", False),
        ("4.9.10", "4.9.9", "0", False),  # 10 is more than 9, as numbers are compared
        ("4.10", "5", "4.9", True),
        ("4.8.3", "5", "4.9", False),
        ("5.0.0", "5", "0", False),
        ("5.0.0rc1", "5", "0", False),
        ("4.9.10.dev20260101", "5", "4.9.10", True),
        ("4.9.10+local", "5", "4.9", True),
    ],
)
def test_the_gate_compares_releases(monkeypatch, installed, below, since, expected):
    monkeypatch.setattr(patches.importlib.metadata, "version", lambda name: installed)
    assert patches.applies("tensorflow-datasets", below=below, since=since) is expected


def test_the_gate_is_closed_for_what_is_not_installed():
    assert not patches.applies("there-is-no-such-distribution", below="99")


def serialized():
    names = [f"field_{i:02d}" for i in range(20)]
    spec = features.FeaturesDict(dict.fromkeys(reversed(names), np.int64))
    serializer = example_serializer.ExampleSerializer(spec.get_serialized_info())
    return serializer.serialize_example({name: np.int64(3) for name in names})


def test_fields_are_in_the_order_of_their_names():
    with tfds_record_order.in_key_order():
        data = serialized()
    places = [data.index(b"field_%02d" % i) for i in range(20)]
    assert places == sorted(places)
    assert example_serializer.ExampleSerializer is not tfds_record_order._InKeyOrder


def test_another_tfds_writes_whole_records_and_is_named(monkeypatch):
    original = example_serializer.ExampleSerializer
    monkeypatch.setattr(patches.importlib.metadata, "version", lambda name: "5.0.1")

    def write():
        with tfds_record_order.in_key_order():
            assert example_serializer.ExampleSerializer is original
            return serialized()

    with pytest.warns(UserWarning, match="leaves the order of a record's fields to chance"):
        data = write()
    assert all(b"field_%02d" % i in data for i in range(20))


def test_the_gate_imports_no_library():
    code = (
        "import sys, data_builders.patches\n"
        "assert not {'tensorflow_datasets', 'jax', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
