"""`dataset.json` of an exported folder: which records are in which file, and what was written.

It is written last: a folder that has it is whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from data_builders import build, lists
from data_builders.errors import UserError
from data_builders.files import write_json
from data_builders.qualities import is_name
from data_builders.records import SPLITS

#: The file itself, and the folder of what TFDS knows of the dataset.
NAME, INFORMATION = "dataset.json", "tfds"
#: The formats, each with the module that writes and reads its files.
FORMATS = {
    "webdataset": "data_builders.sharing.webdataset",
    "parquet": "data_builders.sharing.parquet",
}
_VERSION = 1
_MAX_SHARDS = 100_000
_MOST = 2**63 - 1  # records or bytes of a file
_CONFIG = re.compile(r"(?!\.)[A-Za-z0-9_.+-]{1,200}")
_DIGITS = re.compile(r"\d{1,9}\.\d{1,9}\.\d{1,9}")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of records.

    Attributes:
      records: Their number.
      bytes: Size of the file.
      sha256: Of its content, in hexadecimal digits.
    """

    records: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """What an exported folder holds.

    Attributes:
      format: 'webdataset' or 'parquet'.
      name: The dataset.
      config: Its configuration, '' where it has none.
      version: Its version.
      qualities: The qualities of its records, best first.
      splits: The files of each split, in the order of their records.
    """

    format: str
    name: str
    config: str
    version: str
    qualities: tuple[str, ...]
    splits: Mapping[str, tuple[Shard, ...]]

    @property
    def place(self) -> str:
        """Where the dataset is below the folder of all datasets."""
        return "/".join(filter(None, (self.name, self.config, self.version)))

    @property
    def records(self) -> int:
        """Number of all records."""
        return sum(shard.records for shards in self.splits.values() for shard in shards)


def shard_name(split: str, index: int, count: int) -> str:
    """Name of a file without its suffix."""
    return f"{split}-{index:05d}-of-{count:05d}"


def form(name: str) -> ModuleType:
    """Imports the module of a format.

    Raises:
      UserError: It needs a library that is not installed.
    """
    try:
        return importlib.import_module(FORMATS[name])
    except ImportError as error:
        raise UserError(f"{name} needs {error.name}; pip install 'qad-jax[share]'") from error


def sha256(path: Path) -> str:
    """Digests a file, a part at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(folder: Path, listing: Listing) -> None:
    """Writes the listing of a folder."""
    write_json(folder / NAME, {"exported_by": "qad-jax", **_plain(listing), "layout": _VERSION})


def read(folder: Path) -> Listing:
    """Reads the listing of a folder, which may come from anybody.

    Raises:
      UserError: There is none, or it is not what `write` writes.
    """
    path = folder / NAME
    if not path.exists():
        raise UserError(
            f"{folder}: has no {NAME}; name a folder that `qad-jax export-dataset` has finished"
        )
    content = read_object(path)
    try:
        return _checked(content)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path}: is damaged: {reason}; fetch the folder again") from error


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file of an exported folder within bounds.

    Raises:
      UserError: It cannot be read, is too large, names a key twice, or is no object.
    """
    # Of a key that is there twice, TFDS could take the other value than the one that is checked.
    content = lists.read_json(path, "file of the exported folder")
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be an object; fetch the folder again")
    return content


def _plain(listing: Listing) -> dict[str, Any]:
    return {
        **dataclasses.asdict(listing),
        "splits": {
            split: [
                {
                    "file": f"{shard_name(split, index, len(shards))}{form(listing.format).SUFFIX}",
                    **dataclasses.asdict(shard),
                }
                for index, shard in enumerate(shards)
            ]
            for split, shards in listing.splits.items()
        },
    }


def _checked(content: dict[str, Any]) -> Listing:
    if content["layout"] != _VERSION:
        raise ValueError(f"its layout is {content['layout']!r}, not {_VERSION}")
    if content["format"] not in FORMATS:
        raise ValueError(f"its format is {content['format']!r}")
    if content["name"] not in build.names():
        raise ValueError(f"no dataset is called {content['name']!r}")
    config, version = content["config"], content["version"]
    if config and not _CONFIG.fullmatch(config):
        raise ValueError(f"{config!r} is no name of a configuration")
    if not _DIGITS.fullmatch(version):
        raise ValueError(f"{version!r} is no version")
    qualities = content["qualities"]
    if not isinstance(qualities, list) or not 0 < len(qualities) == len(set(qualities)) <= 100:
        raise ValueError("its qualities are no list of different names")
    if not all(map(is_name, qualities)):
        raise ValueError("a quality is no name of at most 100 printable characters")
    splits = {
        split: tuple(map(_shard, shards)) for split, shards in dict(content["splits"]).items()
    }
    if not splits or not set(splits) <= set(SPLITS) or not all(splits.values()):
        raise ValueError(f"its splits are not some of {', '.join(SPLITS)}, each with files")
    if sum(map(len, splits.values())) > _MAX_SHARDS:
        raise ValueError(f"it has more than {_MAX_SHARDS:,} files")
    listing = Listing(content["format"], content["name"], config, version, tuple(qualities), splits)
    if content["splits"] != _plain(listing)["splits"]:
        raise ValueError("its files have other names")
    return listing


def _shard(content: Any) -> Shard:
    shard = Shard(content["records"], content["bytes"], content["sha256"])
    if not all(type(n) is int and 0 < n <= _MOST for n in (shard.records, shard.bytes)):
        raise ValueError("a number of records or bytes is not above 0, or has more than 63 bits")
    if not re.fullmatch(r"[0-9a-f]{64}", shard.sha256):
        raise ValueError("a sha256 is not 64 hexadecimal digits")
    return shard
