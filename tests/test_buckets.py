"""Datasets at gs:// and s3://: read through s3fs and gcsfs from a server on this machine."""

import json
import os
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from data_builders import buckets, build
from data_builders.digest import digest
from data_builders.errors import UserError
from data_builders.manifest.builder import Manifest
from data_builders.sharing import exporting, importing
from qad_jax import configs
from qad_jax.training import datasets
from qad_jax.training.input_pipeline import TupleSource
from tests.bucket_server import serving
from tests.commands import call

# Before gcsfs is imported: it would ask over gRPC, too, of which kind the bucket is.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
SCHEMES = ("s3", "gs")


@pytest.fixture
def bucket(dataset, tmp_path, monkeypatch):
    """The bucket `shared`, in whose folder `data` the dataset is, reached under both protocols."""
    for library in buckets.LIBRARIES.values():
        pytest.importorskip(library)
    import fsspec

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving() as served:
        settings = {
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": served.url,
            "STORAGE_EMULATOR_HOST": served.url,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
        monkeypatch.setitem(fsspec.config.conf, "gcs", {"token": "anon"})
        place = f"data/{dataset.info.full_name}"
        for path in Path(dataset.data_dir).iterdir():
            served.objects[f"{place}/{path.name}"] = path.read_bytes()
        yield served


@pytest.fixture
def name(dataset):
    return dataset.info.full_name.rpartition("/")[0]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_dataset_is_copied_once(dataset, bucket, name, scheme):
    url = f"{scheme}://shared/data"
    opened = build.builder(name, data_dir=url)
    assert opened.is_prepared()
    for split in ("train", "validation", "test"):
        assert digest(opened, split) == digest(dataset, split)
    copied = {p.name: p.read_bytes() for p in Path(opened.data_dir).iterdir() if p.name[0] != "."}
    assert copied == {p.name: p.read_bytes() for p in Path(dataset.data_dir).iterdir()}
    asked = len(bucket.asked)
    assert asked == len(copied)
    build.builder(name, data_dir=f"{url}/")
    assert len(bucket.asked) == asked


def test_the_folder_of_tfds_may_be_in_a_bucket(dataset, bucket, name, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "gs://shared/data")
    assert digest(build.builder(name), "test") == digest(dataset, "test")


def test_training_reads_it(dataset, bucket, manifest):
    fields = configs.load("quickstart")
    fields.dataset.name = "manifest"
    fields.dataset.manifest = str(manifest)
    fields.dataset.data_dir = "s3://shared/data"
    (opened,) = datasets.open_datasets(fields, may_build=False)
    theirs, ours = (TupleSource(d, "test", ("raw", "c40"), 32) for d in (opened, dataset))
    for index in range(len(ours)):
        assert (theirs[index]["image"] == ours[index]["image"]).all()


def test_an_export_reads_it(dataset, bucket, name, tmp_path):
    words = [name, "--to", "webdataset", "--out", tmp_path / "out", "--split", "test"]
    result = call(*words, "--data_dir", "gs://shared/data", main=exporting.main)
    assert (result.status, result.out[:14]) == (0, "test 14 tuples")


def test_a_dataset_that_has_changed_is_copied_again(dataset, bucket, name):
    url = "s3://shared/data"
    build.builder(name, data_dir=url)
    key = f"data/{dataset.info.full_name}/metadata.json"
    metadata = {**json.loads(bucket.objects[key]), "notes": ["another"]}
    bucket.objects[key] = json.dumps(metadata).encode()
    assert build.builder(name, data_dir=url).info.metadata["notes"] == ["another"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_copy_that_was_interrupted_goes_on(dataset, bucket, name, scheme, monkeypatch):
    monkeypatch.setattr(buckets, "_PART", 100_000)
    url = f"{scheme}://shared/data"
    bucket.breaks_at = 8
    with pytest.raises(UserError, match="cannot be read"):
        build.builder(name, data_dir=url)
    root = buckets.copies(url)
    assert not (root / dataset.info.full_name).exists()
    done = bucket.asked[:8]
    bucket.breaks_at = None
    bucket.asked.clear()
    opened = build.builder(name, data_dir=url)
    assert digest(opened, "train") == digest(dataset, "train")
    assert not set(bucket.asked) & set(done)  # no part came twice
    first_of = {}
    for key, where in bucket.asked:
        first_of.setdefault(key.rpartition("/")[2], where)
    assert first_of["manifest-train.array_record-00000-of-00001"].startswith("bytes=100000-")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_records_that_are_not_those_of_the_digest(dataset, bucket, name, scheme):
    place = f"data/{dataset.info.full_name}"
    metadata = json.loads(bucket.objects[f"{place}/metadata.json"])
    metadata["digest"]["test"] = "0" * 32
    bucket.objects[f"{place}/metadata.json"] = json.dumps(metadata).encode()
    url = f"{scheme}://shared/data"
    with pytest.raises(UserError, match="the digest of the test split is not the one"):
        build.builder(name, data_dir=url)
    assert not list(buckets.copies(url).glob("manifest/*"))


def test_odd_names_are_left_out(dataset, bucket, name):
    place = f"data/{dataset.info.full_name}"
    odd = (".hidden", "a b", "sub/file", "../up", "back\\slash")
    bucket.objects |= {f"{place}/{each}": b"odd" for each in odd}
    opened = build.builder(name, data_dir="s3://shared/data")
    names = {path.name for path in Path(opened.data_dir).iterdir()}
    assert names - {path.name for path in Path(dataset.data_dir).iterdir()} == {".bucket.json"}


def test_an_earlier_version_is_found(dataset, bucket, name, monkeypatch):
    """The bucket has version 1.0.0 alone, and the builder is at the next one by now."""
    present, later = dataset.version, tfds.core.Version("2.0.0")
    monkeypatch.setattr(Manifest, "VERSION", later)
    monkeypatch.setattr(Manifest, "SUPPORTED_VERSIONS", [present])
    opened = build.builder(name, data_dir="s3://shared/data")
    assert (opened.version, opened.is_prepared()) == (present, True)


def test_an_error_of_this_machine_is_not_laid_on_the_bucket(dataset, bucket, name, monkeypatch):
    """Who is told of credentials would look for them, while it is the disk."""

    def put_in_the_way(url, part, objects):
        (part / ".metadata.json.part").mkdir()

    monkeypatch.setattr(buckets, "_check_room", put_in_the_way)
    with pytest.raises(IsADirectoryError):
        build.builder(name, data_dir="s3://shared/data")


def test_there_is_no_room(dataset, bucket, name, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(buckets.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"GB more in .* make room, or set XDG_CACHE_HOME"):
        build.builder(name, data_dir="s3://shared/data")
    assert not bucket.asked


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("place", ["shared/other", "missing/data"])
def test_nothing_is_there(bucket, name, scheme, place):
    with pytest.raises(
        UserError, match=r"^\w+://\w+/\w+/manifest/.*: (there is no|cannot be read)"
    ):
        build.builder(name, data_dir=f"{scheme}://{place}")


@pytest.mark.parametrize("url", ["s3://", "s3:///data", "gs://a/../b", "gs://a//b", "s3://a b/c"])
def test_no_path_in_a_bucket(url):
    with pytest.raises(UserError, match="is no path in a bucket, such as s3://name/folder"):
        build.builder("celeb_df_v2", data_dir=url)


def test_nothing_is_written_to_a_bucket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, main in (
        (["synthetic_faces", "--data_dir", "gs://shared/data"], build.main),
        (["synthetic_faces", "--to", "parquet", "--out", "gs://shared/data"], exporting.main),
        (["folder", "--data_dir", "gs://shared/data"], importing.main),
    ):
        result = call(*words, main=main)
        assert (result.status, result.out) == (1, "")
        assert "gs://shared/data: datasets are written to a folder of this machine" in result.err
    assert not list(tmp_path.iterdir())
