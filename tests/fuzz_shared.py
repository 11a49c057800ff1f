"""Fuzzing of exported datasets, which come from anybody: listings, shards and Parquet files."""

import functools
import hashlib
import json
import pathlib
import shutil
import tempfile

import numpy as np

from data_builders.progress import Progress
from data_builders.sharing import importing, listing, parquet, webdataset
from data_builders.sharing.record import Record
from tests.fuzz_inputs import mutated, text_of_json

_FORMS = {"webdataset": webdataset, "parquet": parquet}
_QUALITIES = ("raw", "c40")
_SHARD = "test-00000-of-00001"
_PNG = b"\x89PNG\r\n\x1a\n"
_TOKENS = [b"../", b"ustar", b"\x80", b"PAR1", b"1e999", b"[" * 300, b"\xed\xa0\x80", b"raw"]
_WORDS = ["splits", "test", "name", "manifest", "1.0.0", "../0", "a\nb", "\ud800", "digest"]
_INFORMATION = {
    "name": "manifest",
    "configName": "data-0",
    "version": "1.0.0",
    "description": "d",
    "fileFormat": "array_record",
    "splits": [
        {
            "name": "test",
            "shardLengths": ["2"],
            "numBytes": "9",
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        }
    ],
}


@functools.cache
def _shard(form):
    """A whole file of two records."""
    box = tuple(np.float32([0, 1.5, 64, 64]).tolist())
    images = {quality: _PNG + quality.encode() for quality in _QUALITIES}
    records = [Record(images, label, "m", "v", "i", 7, box) for label in (0, 1)]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "file"
        _FORMS[form].write(path, records, _QUALITIES, _SHARD)
        return path.read_bytes()


def _listing(form, data):
    """The listing of a folder with one file, which fits to it."""
    shard = listing.Shard(2, len(data), hashlib.sha256(data).hexdigest())
    place = ("manifest", "data-0", "1.0.0")
    return listing.Listing(form, *place, _QUALITIES, {"test": (shard,)})


def _stored(folder, form, data):
    listed = _listing(form, data)
    (folder / f"{_SHARD}{_FORMS[form].SUFFIX}").write_bytes(data)
    listing.write(folder, listed)
    return listed


def _listing_as_json():
    with tempfile.TemporaryDirectory() as folder:
        _stored(pathlib.Path(folder), "webdataset", _shard("webdataset"))
        return json.loads((pathlib.Path(folder) / listing.NAME).read_text())


def _read_listing(data, folder):
    (folder / listing.NAME).write_bytes(data)
    listing.read(folder)


def _read_shard(form):
    def read(data, folder):
        listed = _stored(folder, form, data)
        progress = Progress(2, "records", unit="tuple")
        (shard,) = listed.splits["test"]
        assert len(list(importing._records(folder, listed, _SHARD, shard, progress))) == 2

    return read


def _read_information(data, folder):
    """Imports a folder whose file about the dataset, or whose digests, are the input."""
    about, _, digests = data.partition(b"BESIDE")
    _stored(folder, "webdataset", _shard("webdataset"))
    place = folder / listing.INFORMATION
    place.mkdir(exist_ok=True)
    (place / "dataset_info.json").write_bytes(about)
    (place / "metadata.json").write_bytes(digests or b"{}")
    shutil.rmtree(folder / "data", ignore_errors=True)
    importing.restore(folder, folder / "data")


def _information():
    whole = json.dumps(_INFORMATION).encode()
    tokens = [b'"name": "manifest", ', b'"\\ud800"', b"BESIDE", b'{"digest": ', b"null", b"1"]
    return text_of_json(_INFORMATION, _WORDS) | mutated(
        [whole, whole + b'BESIDE{"digest": {"train": "0"}, "recipe": {"qualities": ["raw"]}}'],
        tokens,
    )


TARGETS = {
    "listing": (lambda: text_of_json(_listing_as_json(), _WORDS), _read_listing),
    "information": (_information, _read_information),
    "shards": (lambda: mutated([_shard("webdataset")], _TOKENS), _read_shard("webdataset")),
    "parquet": (lambda: mutated([_shard("parquet")], _TOKENS), _read_shard("parquet")),
}
