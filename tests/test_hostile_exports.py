"""Exported folders of strangers: damaged, hostile, or larger than they look."""

import hashlib
import io
import json
import shutil
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_builders.sharing import importing, parquet
from tests.commands import call
from tests.test_sharing import FORMATS, TEXTS, exported, opened  # noqa: F401

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def copy(exported, tmp_path):  # noqa: F811
    """Copies an exported folder, with one file replaced, and its listing such that it fits."""

    def make(name, file, change, *, fits=True):
        folder = tmp_path / "copy"
        shutil.copytree(exported / name, folder)
        data = change((folder / file).read_bytes())
        (folder / file).write_bytes(data)
        if file == "dataset.json":
            return folder
        path = folder / "dataset.json"
        listing = json.loads(path.read_text())
        for shard in (shard for shards in listing["splits"].values() for shard in shards):
            if fits and shard["file"] == file:
                shard |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        path.write_text(json.dumps(listing))
        return folder

    return make


def refused(folder, message):
    data_dir = folder.parent / "data"
    result = call(folder, "--data_dir", data_dir, main=importing.main)
    assert (result.status, result.out) == (1, "")
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not list(data_dir.glob("*/*/1.0.0"))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "bytes and not"),
        (lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:], "its sha256 is not"),
    ],
    ids=["shorter", "a bit"],
)
def test_a_file_that_was_damaged_on_its_way(copy, name, change, message):
    suffix = {"webdataset": "tar", "parquet": "parquet"}[name]
    file = f"test-00000-of-00001.{suffix}"
    refused(copy(name, file, change, fits=False), message)


def test_a_file_that_is_missing(copy):
    file = "test-00000-of-00001.tar"
    folder = copy("webdataset", file, bytes)
    (folder / file).unlink()
    refused(folder, "No such file or directory; fetch it again")


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [(member, archive.extractfile(member).read()) for member in archive]


def archive(entries, **options):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", **{"format": tarfile.USTAR_FORMAT, **options}) as tar:
        for member, data in entries:
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def with_first(**changes):
    """Changes the header of the first file of an archive."""

    def change(data):
        entries = members(data)
        for field, value in changes.items():
            setattr(entries[0][0], field, value)
        if "type" in changes:
            entries[0] = (entries[0][0], b"")
            entries[0][0].size = 0
        return archive(entries)

    return change


def with_facts(**changes):
    """Changes the facts of the first sample."""

    def change(data):
        entries = members(data)
        facts = {**json.loads(entries[3][1]), **changes}
        text = json.dumps({name: v for name, v in facts.items() if v is not None}).encode()
        entries[3][0].size = len(text)
        entries[3] = (entries[3][0], text)
        return archive(entries)

    return change


def with_image(image):
    def change(data):
        entries = members(data)
        entries[0][0].size = len(image)
        return archive([(entries[0][0], image), *entries[1:]])

    return change


def claims_size(data):
    head = tarfile.TarInfo.frombuf(data[:512], "utf-8", "strict")
    head.size = 2**40
    return head.tobuf(tarfile.GNU_FORMAT) + data[512:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_first(name="../../outside.raw.png"), "there is '../../outside.raw.png'"),
        (with_first(name="/outside.raw.png"), "there is '/outside.raw.png'"),
        (with_first(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "or no plain file"),
        (with_first(type=tarfile.LNKTYPE, linkname="other"), "or no plain file"),
        (with_first(type=tarfile.DIRTYPE), "or no plain file"),
        (with_first(type=tarfile.FIFOTYPE), "or no plain file"),
        (claims_size, "has 1,099,511,627,776 bytes"),
        (lambda data: archive(members(data)[4:]), "there is 'test-00000-of-00001/000001.raw.png'"),
        (lambda data: archive(members(data)[:-4]), "it has 13 records and not 14"),
        (lambda data: archive(members(data)[:-1]), "sample 13 is cut short"),
        (lambda data: data[:2000], "is cut short"),
        (lambda data: bytes(1024), "it has 0 records"),
        (lambda data: b"\x1f\x8b" + data[2:], "there is no header of a tar file"),
        (
            lambda data: archive(members(data), format=tarfile.PAX_FORMAT, pax_headers={"a": "b"}),
            "or no plain file",
        ),
        (with_facts(label=2), "its label is not 0 or 1"),
        (with_facts(label=True), "its label is not 0 or 1"),
        (with_facts(frame=2**31), "its frame is not an integer of 32 bits"),
        (with_facts(video="x" * 65537), "its video is not a text of at most 65,536 bytes"),
        (with_facts(box=[0.0, 0.0, float("nan"), 1.0]), "its box is not four finite numbers"),
        (with_facts(box=[0.0, 0.0, 0.1, 1.0]), "its box is not four finite numbers of 32 bits"),
        (with_facts(box=[0.0, 0.0, 10**400, 1.0]), "its box is not four finite numbers"),
        (with_facts(more=1), "its facts are not label, method, video, identity, frame, box"),
        (with_facts(method=None), "its facts are not label"),
        (with_image(b"GIF89a"), "the image of quality 'raw' is not a PNG file"),
        (with_image(PNG + b"another"), "test: the digest of the records is not the one"),
    ],
)
def test_hostile_shards(copy, change, message):
    refused(copy("webdataset", "test-00000-of-00001.tar", change), message)


def as_parquet(change, **options):
    """Writes a file anew, with changed columns or another layout."""

    def rewrite(data):
        table = change(pq.read_table(io.BytesIO(data)))
        file = io.BytesIO()
        pq.write_table(table, file, **{"compression": "NONE", **options})
        return file.getvalue()

    return rewrite


def column(name, values):
    def change(table):
        index = table.schema.get_field_index(name)
        field = table.schema.field(index)
        return table.set_column(index, field, pa.array(values, field.type))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (as_parquet(lambda t: t.append_column("more", t["label"])), "its columns are others"),
        (as_parquet(lambda t: t.drop_columns("frame")), "its columns are others"),
        (as_parquet(lambda t: t, compression="zstd"), "is compressed"),
        (as_parquet(lambda t: pa.concat_tables([t] * 5)), "group 0 has 70 rows"),
        (as_parquet(lambda t: t[:13]), "it has 13 records and not 14"),
        (as_parquet(column("label", [None] * 14)), "its label is not 0 or 1"),
        (as_parquet(column("image_c23", [None] * 14)), "the image of quality 'c23' is not a PNG"),
        (as_parquet(column("box", [None] * 14)), "it is not a whole Parquet file"),
        (as_parquet(column("video", [None] * 14)), "its video is not a text"),
        (lambda data: data[: len(data) // 2], "it is not a whole Parquet file"),
        (lambda data: b"PAR1" + bytes(100), "it is not a whole Parquet file"),
        (as_parquet(lambda t: t.take(list(range(13, -1, -1)))), ""),
    ],
)
def test_hostile_parquet_files(copy, change, message):
    folder = copy("parquet", "test-00000-of-00001.parquet", change)
    if message:
        refused(folder, message)
    else:  # of another order: equal records and digest
        assert importing.restore(folder, folder.parent / "data").exists()


def test_rows_that_share_an_image_are_not_in_memory_at_once(tmp_path):
    """A value that is stored once, for many rows, is there for one row at a time."""
    image = PNG + bytes(2**19)
    rows = [{"bytes": image, "path": ""}] * 64
    plain = {"label": 0, **dict.fromkeys(TEXTS, ""), "frame": 0, "box": [0.0] * 4}
    table = pa.Table.from_pylist(
        [{"image_raw": row, **plain} for row in rows], parquet.schema(["raw"])
    )
    path = tmp_path / "file.parquet"
    pq.write_table(table, path, compression="NONE", use_dictionary=True)
    assert path.stat().st_size < 2 * len(image)
    del table
    before = pa.default_memory_pool().bytes_allocated()
    most = 0
    for record in parquet.read(path, ("raw",), "file"):
        assert len(record.images["raw"]) == len(image)
        most = max(most, pa.default_memory_pool().bytes_allocated() - before)
    assert 0 < most < 8 * len(image)


def listing_with(**changes):
    def change(data):
        return json.dumps({**json.loads(data), **changes}).encode()

    return change


def with_shard(**changes):
    def change(data):
        content = json.loads(data)
        content["splits"]["test"][0] |= changes
        return json.dumps(content).encode()

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"{", "not valid JSON"),
        (lambda data: b"[]", "must be an object"),
        (lambda data: b"[" * 100_000, "lie too deep"),
        (lambda data: b"{}", "'layout' is missing"),
        (listing_with(layout=2), "its layout is 2, not 1"),
        (listing_with(format="pickle"), "its format is 'pickle'"),
        (listing_with(name="os"), "no dataset is called 'os'"),
        (listing_with(config="../../outside"), "is no name of a configuration"),
        (listing_with(config=".."), "is no name of a configuration"),
        (listing_with(version="1.0.0/.."), "is no version"),
        (listing_with(qualities=["raw", "raw"]), "no list of different names"),
        (listing_with(qualities=["raw"]), "there is 'train-00000-of-00002/000000.c23.png'"),
        (listing_with(splits={}), "its splits are not some of"),
        (listing_with(splits={"../test": []}), "its splits are not some of"),
        (with_shard(file="../../outside.tar"), "its files have other names"),
        (with_shard(records=0), "is not above 0"),
        (with_shard(bytes=10**4299), "has more than 63 bits"),
        (with_shard(sha256="x"), "is not 64 hexadecimal digits"),
        (with_shard(records=13), "splits: not as dataset.json says"),
    ],
)
def test_hostile_listings(copy, change, message):
    refused(copy("webdataset", "dataset.json", change), message)


def information_with(split=None, **changes):
    def change(data):
        content = {**json.loads(data), **changes}
        content["splits"][0] |= split or {}
        return json.dumps(content).encode()

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (information_with({"filepathTemplate": "../../{SPLIT}"}), "splits: not as"),
        (information_with({"shardLengths": ["40"]}), "splits: not as"),
        (information_with({"numBytes": "1e9"}), "splits: not as"),
        (information_with(name="celeb_df_v2"), "name: not as"),
        (information_with(fileFormat="tfrecord"), "fileFormat: not as"),
        (information_with(moduleName="os; import"), "moduleName: not as"),
        (information_with(alternativeFileFormats=["parquet"]), "alternativeFileFormats: not as"),
        (information_with(description=[1]), "description: not as"),
        (information_with(description="\ud800"), "TFDS cannot read it"),
        (lambda data: data.decode().encode("utf-16"), "TFDS cannot read it"),
        (lambda data: data.replace(b"{", b'{"name": "os", ', 1), "the key 'name' is there twice"),
        (lambda data: b"\xff", "not valid JSON"),
    ],
)
def test_hostile_information(copy, change, message):
    refused(copy("webdataset", "tfds/dataset_info.json", change), message)


def test_another_recipe_is_named(copy):
    def change(data):
        return json.dumps({**json.loads(data), "recipe": {"qualities": ["raw"]}}).encode()

    folder = copy("webdataset", "tfds/metadata.json", change)
    refused(folder, "the recipe and dataset.json name other qualities")


def test_a_folder_that_is_no_export(tmp_path):
    refused(tmp_path, "has no dataset.json")
