"""Datasets exported and imported: read by other means, and equal in every bit."""

import concurrent.futures
import json
import os
import shutil
import tarfile
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from data_builders import build
from data_builders.digest import digest
from data_builders.errors import UserError
from data_builders.files import alone
from data_builders.sharing import exporting, importing, parquet, webdataset
from tests.commands import call, until_told

FORMATS = ("webdataset", "parquet")
QUALITIES = ("raw", "c23", "c40")
TEXTS = ("method", "video", "identity")


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def records_of(built, split):
    """What TFDS itself gives of a split, images as they are stored."""
    skip = dict.fromkeys(QUALITIES, tfds.decode.SkipDecoding())
    source = built.as_data_source(split, decoders={"image": skip})
    return [source[i] for i in range(len(source))]


@pytest.fixture(scope="module")
def opened(dataset, tmp_path_factory):
    """The dataset in a folder of its own, its train split in two files, opened without its list."""
    data_dir = tmp_path_factory.mktemp("own")
    place = data_dir / "/".join(dataset.info.full_name.split("/"))
    shutil.copytree(dataset.data_dir, place)
    whole = place / "manifest-train.array_record-00000-of-00001"
    reader = array_record_module.ArrayRecordReader(str(whole))
    rows = reader.read_all()
    reader.close()
    whole.unlink()
    for index, part in enumerate((rows[:25], rows[25:])):
        path = place / f"manifest-train.array_record-{index:05d}-of-00002"
        writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
        for row in part:
            writer.write(row)
        writer.close()
    path = place / "dataset_info.json"
    information = json.loads(path.read_text())
    information["splits"][0]["shardLengths"] = ["25", "15"]
    path.write_text(json.dumps(information, indent=2))
    return build.builder(dataset.info.full_name.rpartition("/")[0], data_dir=data_dir)


@pytest.fixture(scope="module")
def exported(opened, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported")
    for name in FORMATS:
        exporting.export(opened, name, out / name)
    return out


def test_a_dataset_opens_by_its_name_without_its_list(opened, dataset):
    assert opened.qualities[0] == "raw"
    assert set(opened.qualities) == set(dataset.qualities)
    for split in ("train", "validation", "test"):
        assert digest(opened, split) == digest(dataset, split)


def test_a_digest_tells_any_change_of_a_record_and_no_other_order():
    record = {
        "image": {"raw": b"a", "c23": b"b"},
        **{"label": np.int64(1), "method": b"m", "video": b"v", "identity": b"i"},
        **{"frame": np.int32(3), "box": np.float32([1, 2, 3, 4])},
    }
    changes = [
        *({"image": {"raw": b"a", "c23": b"c"}}, {"image": {"raw": b"b", "c23": b"a"}}),
        *({"label": np.int64(0)}, {"method": b"n"}, {"video": b"w"}, {"identity": b"j"}),
        *({"frame": np.int32(4)}, {"box": np.float32([1, 2, 3, 5])}),
    ]

    def of(*records):
        dataset = types.SimpleNamespace(
            info=types.SimpleNamespace(features={"image": record["image"]}),
            as_data_source=lambda split, decoders: records,
        )
        return digest(dataset, "train")

    others = [{**record, **change} for change in changes]
    digests = [of(record), of(record, record), *map(of, others)]
    assert len({*digests}) == len(digests)
    assert of(record, *others) == of(*others[::-1], record)


def test_shards_are_plain_tar_files_of_samples(opened, exported):
    expected = records_of(opened, "train")
    samples = {}
    for index, count in enumerate((25, 15)):
        name = f"train-{index:05d}-of-00002"
        with tarfile.open(exported / "webdataset" / f"{name}.tar", "r:") as archive:
            members = archive.getmembers()
            assert len(members) == 4 * count
            for member in members:
                assert member.isreg()
                assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
                key, _, ending = member.name.partition(".")
                samples.setdefault(key, {})[ending] = archive.extractfile(member).read()
    assert list(samples)[24:26] == ["train-00000-of-00002/000024", "train-00001-of-00002/000000"]
    for record, sample in zip(expected, samples.values(), strict=True):
        assert {q: sample.pop(f"{q}.png") for q in QUALITIES} == record["image"]
        facts = json.loads(sample.pop("json"))
        assert not sample
        assert facts.pop("box") == record["box"].tolist()
        assert {n: facts.pop(n).encode() for n in TEXTS} == {n: record[n] for n in TEXTS}
        assert facts == {"label": int(record["label"]), "frame": int(record["frame"])}


def test_parquet_files_have_a_row_for_each_record(opened, exported):
    expected = records_of(opened, "train")
    names = [f"train-{i:05d}-of-00002.parquet" for i in range(2)]
    tables = [pq.read_table(exported / "parquet" / name) for name in names]
    assert [table.num_rows for table in tables] == [25, 15]
    for record, row in zip(expected, pa.concat_tables(tables).to_pylist(), strict=True):
        assert {q: row[f"image_{q}"]["bytes"] for q in QUALITIES} == record["image"]
        assert row["box"] == record["box"].tolist()
        assert [row[n] for n in ("label", "frame")] == [record["label"], record["frame"]]
        assert {n: row[n].encode() for n in TEXTS} == {n: record[n] for n in TEXTS}
    features = json.loads(tables[0].schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == tables[0].column_names
    assert features["image_c40"] == {"_type": "Image"}
    assert features["label"]["names"] == ["real", "fake"]


@pytest.mark.parametrize("name", FORMATS)
def test_an_import_gives_the_files_of_the_dataset(opened, exported, tmp_path, name):
    made = importing.restore(exported / name, tmp_path)
    assert files_of(made) == files_of(opened.data_path)
    assert made.relative_to(tmp_path).as_posix() == opened.info.full_name
    assert [path.name for path in made.parent.iterdir()] == ["1.0.0"]
    again = tfds.builder_from_directory(made)
    assert digest(again, "test") == opened.info.metadata["digest"]["test"]
    with pytest.raises(UserError, match="is there already; remove it"):
        importing.restore(exported / name, tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_again_gives_the_same_bytes(opened, exported, tmp_path, name):
    exporting.export(opened, name, tmp_path / "again")
    assert files_of(tmp_path / "again") == files_of(exported / name)


def test_the_commands(opened, tmp_path):
    data_dir = opened.data_path.parents[2]
    name = opened.info.full_name.rpartition("/")[0]
    out, back = tmp_path / "out", tmp_path / "back"
    words = [name, "--data_dir", data_dir, "--to", "webdataset", "--split", "test,validation"]
    result = call(*words, "--out", out, main=exporting.main)
    assert (result.status, result.out.splitlines()[1]) == (0, str(out))
    assert result.out.startswith("validation 12, test 14 tuples at raw")
    card = (out / "README.md").read_text()
    assert '  - split: test\n    path: "test-*.tar"' in card
    assert opened.info.metadata["digest"]["validation"] in card
    result = call(out, "--data_dir", back, main=importing.main)
    assert result.status == 0
    assert f"--config.dataset.name={name} --config.dataset.data_dir={back}" in result.out
    made = build.builder(name, data_dir=back)
    assert list(made.info.splits) == ["validation", "test"]
    assert digest(made, "test") == digest(opened, "test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "manifest/missing-0"}, "no configuration 'missing-0'"),
        ({"split": "tset"}, "--split: 'tset': did you mean 'test'?"),
        ({"out": "{data_dir}"}, "is there already; name a folder that is not"),
        ({"name": "synthetic_faces"}, "is not built in"),
    ],
)
def test_exports_that_cannot_be(opened, tmp_path, changes, message):
    data_dir = opened.data_path.parents[2]
    given = {"name": opened.info.full_name.rpartition("/")[0], "out": str(tmp_path / "out")}
    given |= {"split": "", **changes}
    words = [given["name"], "--to", "parquet", "--out", given["out"].format(data_dir=data_dir)]
    words += ["--split", given["split"], "--data_dir", data_dir]
    result = call(*words, main=exporting.main)
    assert (result.status, result.out) == (1, "")
    assert result.err.count("\n") == 1
    assert message in result.err


def test_a_name_of_a_quality_that_no_file_should_have():
    with pytest.raises(UserError, match="parquet takes any"):
        webdataset.check(("raw", "../c23"))
    parquet.check(("raw", "../c23"))


def test_an_import_waits_while_another_process_makes_the_dataset(
    opened, exported, tmp_path, capsys
):
    target = tmp_path / Path(opened.data_dir).relative_to(opened.data_dir_root)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        with alone(target.with_name(f".{target.name}.lock")):
            second = pool.submit(importing.restore, exported / "webdataset", tmp_path)
            until_told(second, capsys, "another process builds or imports it; this one waits")
            assert os.listdir(target.parent) == [f".{target.name}.lock"]
            shutil.copytree(opened.data_dir, target)
        with pytest.raises(UserError, match="is there already"):
            second.result()
    assert os.listdir(target.parent) == [target.name]


def test_an_export_that_was_stopped_goes_on(opened, exported, tmp_path, monkeypatch):
    write = webdataset.write

    def stops(path, records, qualities, name):
        if name == "validation-00000-of-00001":
            next(iter(records))
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        write(path, records, qualities, name)

    with monkeypatch.context() as patch:
        patch.setattr(webdataset, "write", stops)
        with pytest.raises(KeyboardInterrupt):
            exporting.export(opened, "webdataset", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    part = tmp_path / ".out.part"
    done = {path: path.stat().st_mtime_ns for path in part.glob("train-*.tar")}
    assert len(done) == 2
    exporting.export(opened, "webdataset", tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(exported / "webdataset")
    assert {part / p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("train-*")} == done
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_second_export_waits_for_the_first(opened, exported, tmp_path, capsys):
    out = tmp_path / "out"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        with alone(tmp_path / ".out.lock"):
            second = pool.submit(exporting.export, opened, "parquet", out)
            until_told(second, capsys, "another process exports to it; this one waits")
            assert os.listdir(tmp_path) == [".out.lock"]
            shutil.copytree(exported / "webdataset", out)
        with pytest.raises(UserError, match="is there already"):
            second.result()
    assert os.listdir(tmp_path) == ["out"]


def test_files_of_another_export_are_not_taken(opened, exported, tmp_path):
    part = tmp_path / ".out.part"
    part.mkdir()
    (part / "origin.json").write_text('{"dataset": "another"}')
    (part / "train-00000-of-00002.tar").write_bytes(b"of another")
    exporting.export(opened, "webdataset", tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(exported / "webdataset")


def test_an_import_that_was_stopped_goes_on(opened, exported, tmp_path, monkeypatch):
    read = parquet.read

    def stops(path, qualities, name):
        rows = read(path, qualities, name)
        if name.startswith("test"):
            yield next(rows)
            raise KeyboardInterrupt
        yield from rows

    with monkeypatch.context() as patch:
        patch.setattr(parquet, "read", stops)
        with pytest.raises(KeyboardInterrupt):
            importing.restore(exported / "parquet", tmp_path)
    place = tmp_path / opened.info.full_name
    assert not place.exists()
    (part,) = place.parent.iterdir()
    done = {path.name: path.stat().st_mtime_ns for path in part.glob("manifest-*")}
    assert len(done) == 3
    made = importing.restore(exported / "parquet", tmp_path)
    assert files_of(made) == files_of(opened.data_path)
    assert done.items() <= {p.name: p.stat().st_mtime_ns for p in made.iterdir()}.items()


def test_a_record_that_would_not_come_back_is_not_exported(opened, tmp_path):
    from tensorflow_datasets.proto import tf_example_pb2

    from data_builders.sharing import record

    source = opened.as_data_source(
        "test", deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    stored = source[0]
    assert record.serialised(record.parse(stored, QUALITIES)) == stored
    example = tf_example_pb2.Example.FromString(stored)
    example.features.feature["more"].int64_list.value.append(1)
    with pytest.raises(ValueError, match="fields that this project does not store"):
        record.parse(example.SerializeToString(), QUALITIES)
    with pytest.raises(ValueError, match="damaged"):
        record.parse(stored[:100], QUALITIES)
