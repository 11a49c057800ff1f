"""The gate of the patches, and the order of the fields in a record's bytes."""

import sys
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.core import example_serializer, features, shuffle

from data_builders import build, patches
from data_builders.patches import tfds_large_splits, tfds_record_order
from tests.commands import loaded


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
    assert not {"tensorflow_datasets", "jax", "numpy"} & loaded("data_builders.patches")


def test_a_split_that_does_not_fit_in_memory_is_written_without_tensorflow(
    tmp_path, monkeypatch, manifest, dataset
):
    """Sorted on disk, the files are those that are sorted in memory."""
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
    made = build.builder("manifest", data_dir=tmp_path, manifest=manifest)
    build.prepare(made)
    files = {path.name: path for path in Path(made.data_path).glob("*.array_record*")}
    expected = {path.name: path for path in Path(dataset.data_path).glob("*.array_record*")}
    assert files.keys() == expected.keys()
    for name, path in files.items():
        assert path.read_bytes() == expected[name].read_bytes()
    assert not list(tmp_path.rglob("bucket_*"))
    assert "tensorflow" not in sys.modules


def test_records_come_back_in_the_order_of_their_keys(tmp_path):
    """More than one record in a file, keys of 128 bits, data of any length."""
    with tfds_large_splits.without_tensorflow(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 0)
        patch.setattr(shuffle, "BUCKETS_NUMBER", 3)
        shuffler = shuffle.Shuffler(tmp_path, "salt")
        records = {b"key %d" % i: b"x" * i for i in range(40)}
        for key, data in records.items():
            shuffler.add(key, data)
        assert len(list(tmp_path.iterdir())) == 3
        found = list(shuffler)
    hashed = {shuffle.hashing.Hasher("salt").hash_key(key): data for key, data in records.items()}
    assert found == sorted(hashed.items())
    assert not list(tmp_path.iterdir())


def test_another_tfds_is_named_where_a_large_split_needs_tensorflow(monkeypatch):
    monkeypatch.setattr(patches.importlib.metadata, "version", lambda name: "5.0.1")
    with pytest.warns(UserWarning, match=r"needs TensorFlow for a split of more than 1 GB"):  # noqa: SIM117
        with tfds_large_splits.without_tensorflow():
            assert shuffle._Bucket is not tfds_large_splits._Bucket
