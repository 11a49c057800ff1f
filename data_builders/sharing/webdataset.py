"""Shards of WebDataset: plain tar files in which the files of one sample stand together.

A sample is one PNG file for each quality and one JSON file. All have the same name up to the first
point: `train-00000-of-00002/000017.raw.png`, `.c23.png`, `.json`. Only headers that this module
writes are read: no links, no folders, no long names, nothing compressed.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from data_builders.errors import UserError
from data_builders.sharing.record import (
    MAX_IMAGE,
    MAX_TEXT,
    Record,
    facts_as_json,
    facts_of_json,
    of_facts,
)

SUFFIX = ".tar"
_BLOCK = tarfile.BLOCKSIZE
_FACTS = "json"
_MAX_FACTS = 8 * MAX_TEXT  # three texts, of which JSON may write a character as six
_QUALITY = re.compile(r"[A-Za-z0-9_+-]{1,40}")


def check(qualities: Sequence[str]) -> None:
    """Raises a UserError where the name of a quality cannot be a part of a file's name."""
    for quality in qualities:
        if not _QUALITY.fullmatch(quality):
            raise UserError(
                f"--to webdataset: the name of quality {quality!r} has more than 40 characters or "
                "others than letters, digits, _, + and -; parquet takes any"
            )


def write(path: Path, records: Iterable[Record], qualities: Sequence[str], name: str) -> None:
    """Writes a shard. Equal records give equal bytes: no time, owner or order is left to chance.

    Args:
      path: The file, which is replaced.
      records: The records.
      qualities: Their qualities, best first.
      name: Name of the shard, which its samples begin with.

    Raises:
      OSError: It cannot be written.
    """
    with path.open("wb") as file:
        for index, record in enumerate(records):
            for ending in _endings(qualities):
                is_facts = ending == _FACTS
                data = facts_as_json(record) if is_facts else record.images[ending[:-4]]
                member = tarfile.TarInfo(f"{name}/{index:06d}.{ending}")
                member.size = len(data)
                file.write(member.tobuf(tarfile.USTAR_FORMAT))
                file.write(data)
                file.write(bytes(-len(data) % _BLOCK))
        file.write(bytes(2 * _BLOCK))  # the end of an archive
        file.flush()
        os.fsync(file.fileno())


def read(path: Path, qualities: Sequence[str], name: str) -> Iterator[Record]:
    """Reads a shard, which may come from anybody, one sample at a time.

    Args:
      path: The file.
      qualities: The qualities that each sample must have.
      name: Name of the shard.

    Raises:
      ValueError: It is not what `write` writes.
      OSError: It cannot be read.
    """
    with path.open("rb") as file:
        index = 0
        while True:
            parts: dict[str, bytes] = {}
            for ending in _endings(qualities):
                data = _member(file, f"{name}/{index:06d}.{ending}", ending)
                if data is None:
                    if parts:
                        raise ValueError(f"sample {index} is cut short")
                    return
                parts[ending] = data
            facts = facts_of_json(parts.pop(_FACTS))
            yield of_facts({ending[:-4]: data for ending, data in parts.items()}, facts)
            index += 1


def _endings(qualities: Sequence[str]) -> list[str]:
    return [*(f"{quality}.png" for quality in qualities), _FACTS]


def _member(file: BinaryIO, name: str, ending: str) -> bytes | None:
    """Reads the next file of an archive, which must have the given name; None at the end."""
    head = file.read(_BLOCK)
    if len(head) == _BLOCK and not any(head):
        return None
    try:
        member = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise ValueError(f"where {name} should be, there is no header of a tar file") from error
    if member.name != name or member.type != tarfile.REGTYPE:
        raise ValueError(f"where {name} should be, there is {member.name!r}, or no plain file")
    if not 0 <= member.size <= (_MAX_FACTS if ending == _FACTS else MAX_IMAGE):
        raise ValueError(f"{name} has {member.size:,} bytes")
    data = file.read(member.size)
    if len(data) < member.size or len(file.read(-member.size % _BLOCK)) < -member.size % _BLOCK:
        raise ValueError(f"{name} is cut short")
    return data
