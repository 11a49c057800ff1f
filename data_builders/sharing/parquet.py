"""Files of Parquet whose columns the library `datasets` of Hugging Face opens as images.

A row is a record. Column `image_raw` holds the PNG file of quality raw, and so on. The other
columns are called as in a record. This module needs the extra `share`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_builders.records import LABELS
from data_builders.sharing.record import FACTS, MAX_IMAGE, MAX_TEXT, Record, of_facts

SUFFIX = ".parquet"
# Of images: a group of rows is in memory while it is written, and one row while it is read.
_ROWS = 64
_GROUP_BYTES = 32 * 2**20
_PLAIN = {"use_dictionary": False, "write_statistics": False}


def check(qualities: Sequence[str]) -> None:
    """Takes the name of any quality."""


def schema(qualities: Sequence[str]) -> pa.Schema:
    """The columns, with what tells `datasets` which of them are images and classes."""
    text = {"dtype": "string", "_type": "Value"}
    features: dict[str, Any] = {f"image_{quality}": {"_type": "Image"} for quality in qualities}
    features |= {
        "label": {"names": list(LABELS), "_type": "ClassLabel"},
        **dict.fromkeys(("method", "video", "identity"), text),
        "frame": {"dtype": "int32", "_type": "Value"},
        # Newer versions call it List, and read this name, too.
        "box": {
            "feature": {"dtype": "float32", "_type": "Value"},
            "length": 4,
            "_type": "Sequence",
        },
    }
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = [
        *((f"image_{quality}", image) for quality in qualities),
        ("label", pa.int64()),
        *((name, pa.string()) for name in ("method", "video", "identity")),
        ("frame", pa.int32()),
        ("box", pa.list_(pa.float32(), 4)),
    ]
    return pa.schema(
        columns, metadata={"huggingface": json.dumps({"info": {"features": features}})}
    )


def write(path: Path, records: Iterable[Record], qualities: Sequence[str], name: str) -> None:
    """Writes a file, a group of rows at a time. PNG files do not become smaller: nothing is packed.

    Args:
      path: The file, which is replaced.
      records: The records.
      qualities: Their qualities, best first.
      name: Name of the shard.

    Raises:
      OSError: It cannot be written.
    """
    columns = schema(qualities)
    with (
        path.open("wb") as file,
        pq.ParquetWriter(file, columns, compression="NONE", **_PLAIN) as writer,
    ):
        for group in _groups(_row(record, index, name) for index, record in enumerate(records)):
            writer.write_table(pa.Table.from_pylist(group, columns), row_group_size=len(group))
        writer.close()
        file.flush()
        os.fsync(file.fileno())


def read(path: Path, qualities: Sequence[str], name: str) -> Iterator[Record]:
    """Reads a file, which may come from anybody, one row at a time.

    Args:
      path: The file.
      qualities: The qualities that each row must have.
      name: Name of the shard.

    Raises:
      ValueError: It is not what `write` writes.
      OSError: It cannot be read.
    """
    del name
    try:
        with pq.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
            _check(file, qualities)
            # A value that is stored once and named in many rows would be in memory as often.
            for batch in file.iter_batches(batch_size=1, use_threads=False):
                for row in batch.to_pylist():
                    images = {q: (row[f"image_{q}"] or {}).get("bytes") for q in qualities}
                    yield of_facts(images, {fact: row[fact] for fact in FACTS})
    except (pa.ArrowException, pa.ArrowInvalid) as error:
        raise ValueError(f"it is not a whole Parquet file: {error}") from error


def _check(file: Any, qualities: Sequence[str]) -> None:
    """Refuses other columns, and what would become larger than it is stored."""
    if file.schema_arrow.remove_metadata() != schema(qualities).remove_metadata():
        raise ValueError("its columns are others")
    most = len(qualities) * MAX_IMAGE + 4 * MAX_TEXT
    facts = file.metadata
    for number in range(facts.num_row_groups):
        group = facts.row_group(number)
        if not 0 < group.num_rows <= _ROWS or group.total_byte_size > _GROUP_BYTES + 2 * most:
            raise ValueError(
                f"group {number} has {group.num_rows:,} rows and {group.total_byte_size:,} bytes"
            )
        for column in range(group.num_columns):
            if group.column(column).compression != "UNCOMPRESSED":
                raise ValueError(f"column {group.column(column).path_in_schema} is compressed")


def _row(record: Record, index: int, name: str) -> dict[str, Any]:
    images = {
        f"image_{quality}": {"bytes": data, "path": f"{name}-{index:06d}-{quality}.png"}
        for quality, data in record.images.items()
    }
    return {**images, **record.facts}


def _groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Puts rows together until they are many or large."""
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        group.append(row)
        size += sum(len(value["bytes"]) for value in row.values() if isinstance(value, dict))
        if len(group) == _ROWS or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
