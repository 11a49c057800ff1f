"""Makes the TFDS dataset again that `exporting` has written to a folder.

python -m data_builders.sharing.importing FOLDER --data_dir D
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from data_builders.buckets import check_local
from data_builders.built import qualities_of
from data_builders.command_line import Parser, command, run
from data_builders.errors import UserError, describe
from data_builders.files import write_whole
from data_builders.home import check_encoding, datasets_folder, expanded
from data_builders.preparing import told_alone
from data_builders.progress import Progress
from data_builders.sharing import listing as listings
from data_builders.sharing.listing import INFORMATION, Listing, Shard

# What TFDS stores of a dataset and reads again. Others could name files outside of the folder.
_TEXTS = ("name", "configName", "version", "description", "citation", "configDescription")
_KNOWN = {*_TEXTS, "fileFormat", "moduleName", "splits"}
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


def restore(folder: Path, data_dir: Path) -> Path:
    """Makes the dataset of an exported folder, which may come from anybody.

    The dataset appears when all is written and its digests are those of the export. Until then,
    its finished files are beside its place, and the next import of the same folder goes on from
    them.

    Args:
      folder: What `exporting.export` wrote.
      data_dir: Where datasets are.

    Returns:
      The folder of the dataset, which `tfds.builder_from_directory` opens.

    Raises:
      UserError: The folder is not whole, a file of it is damaged or holds something else, the
        dataset is there already, or `data_dir` is no path in UTF-8.
    """
    check_encoding(data_dir, "--data_dir")
    listing = listings.read(folder)
    target = data_dir / listing.place
    if not target.exists():
        _check_information(folder / INFORMATION / "dataset_info.json", listing)
        with told_alone(target, "builds or imports it"):
            if not target.exists():
                _write_all(folder, listing, target)
                return target
    raise UserError(f"{target}: is there already; remove it, or name another --data_dir")


def _write_all(folder: Path, listing: Listing, target: Path) -> None:
    import tensorflow_datasets as tfds

    from data_builders.digest import changed
    from data_builders.paired import features

    information = folder / INFORMATION / "dataset_info.json"
    metadata = listings.read_object(folder / INFORMATION / "metadata.json")
    key = listings.sha256(folder / listings.NAME)[:16]
    part = target.with_name(f".{target.name}.import-{key}")
    part.mkdir(parents=True, exist_ok=True)
    label = f"{listing.place} of {listing.format}"
    with Progress(listing.records, label, unit="tuple") as progress:
        for split, shards in listing.splits.items():
            for index, shard in enumerate(shards):
                name = listings.shard_name(split, index, len(shards))
                suffix = name.removeprefix(split)
                path = part / f"{listing.name}-{split}.array_record{suffix}"
                if path.exists():
                    progress.advance(shard.records)
                else:
                    _write(path, _records(folder, listing, name, shard, progress))
    # Made here: from a stored list of them, TFDS would import the modules that it names.
    features(listing.qualities).save_config(part)
    for source in (information, folder / INFORMATION / "metadata.json"):
        write_whole(part / source.name, source.read_bytes())
    if set(qualities_of(part / "metadata.json")) != set(listing.qualities):
        raise UserError(f"{folder}: the recipe and {listings.NAME} name other qualities")
    try:
        made = tfds.builder_from_directory(part)
    except Exception as error:  # TFDS parses the information again, and raises of many kinds
        raise UserError(
            f"{information}: TFDS cannot read it: {describe(error)}; fetch the folder again"
        ) from error
    split = changed(made, metadata.get("digest"))
    if split:
        shutil.rmtree(part, ignore_errors=True)
        raise UserError(
            f"{split}: the digest of the records is not the one in {INFORMATION}/metadata.json; "
            "export the dataset again"
        )
    os.replace(part, target)


def _check_information(path: Path, listing: Listing) -> None:
    """Refuses what would have TFDS open other files, or other records, than the listing says."""
    content = listings.read_object(path)
    mine = {
        "name": listing.name,
        "configName": listing.config,
        "version": listing.version,
        "fileFormat": "array_record",
    }
    wrong = [name for name, value in mine.items() if content.get(name, "") != value]
    wrong += [name for name in _TEXTS if not isinstance(content.get(name, ""), str)]
    wrong += sorted(content.keys() - _KNOWN)
    if not re.fullmatch(r"[a-z0-9_.]*", str(content.get("moduleName", ""))):
        wrong.append("moduleName")
    if not _fit(content.get("splits"), listing):
        wrong.append("splits")
    if wrong:
        raise UserError(
            f"{path}: {', '.join(dict.fromkeys(wrong))}: not as {listings.NAME} says, or not "
            "known; fetch the folder again"
        )


def _fit(splits: Any, listing: Listing) -> bool:
    """Whether stored splits are those of a listing, in files where TFDS itself puts them."""
    expected = [
        {
            "name": split,
            "shardLengths": [str(shard.records) for shard in shards],
            "filepathTemplate": _TEMPLATE,
        }
        for split, shards in listing.splits.items()
    ]
    if not isinstance(splits, list) or not all(isinstance(split, dict) for split in splits):
        return False
    sizes = [str(split.get("numBytes", "0")) for split in splits]
    stored = [{k: v for k, v in split.items() if k != "numBytes"} for split in splits]
    return stored == expected and all(re.fullmatch(r"\d{1,18}", size) for size in sizes)


def _records(
    folder: Path, listing: Listing, name: str, shard: Shard, progress: Progress
) -> Iterator[bytes]:
    """Yields the records of a file as a dataset stores them.

    Raises:
      UserError: The file is another one, or holds something else.
    """
    from data_builders.sharing import record

    form = listings.form(listing.format)
    path = folder / f"{name}{form.SUFFIX}"
    again = "fetch it again"
    try:
        if path.stat().st_size != shard.bytes:
            raise ValueError(f"it has {path.stat().st_size:,} bytes and not {shard.bytes:,}")
        if listings.sha256(path) != shard.sha256:
            raise ValueError(f"its sha256 is not that of {listings.NAME}")
        again = "it is not what `qad-jax export-dataset` writes"
        count = 0
        for each in form.read(path, listing.qualities, name):
            count += 1
            yield record.serialised(each)
            progress.advance()
        if count != shard.records:
            raise ValueError(f"it has {count:,} records and not {shard.records:,}")
    except OSError as error:
        raise UserError(f"{describe(error)}; {again}") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}; {again}") from error


def _write(path: Path, records: Iterator[bytes]) -> None:
    """Writes a file of the dataset as TFDS does, whole or not at all."""
    from array_record.python import array_record_module

    unfinished = path.with_name(f".{path.name}")
    try:
        writer = array_record_module.ArrayRecordWriter(str(unfinished), "group_size:1")
        try:
            for data in records:
                writer.write(data)
        finally:
            writer.close()
    except RuntimeError as error:
        raise UserError(f"{path}: cannot be written: {error}") from error
    os.replace(unfinished, path)


def _job(argv: Sequence[str], prog: str) -> str:
    parser = Parser(
        prog=prog, description="Makes the TFDS dataset again that export-dataset has written."
    )
    parser.add_argument("folder", help="the folder that was exported")
    parser.add_argument(
        "--data_dir", default="", help="where to put it (default: the folder of TFDS)"
    )
    args = parser.parse_args(argv)
    data_dir = datasets_folder(args.data_dir)
    check_local(data_dir, "--data_dir")
    logging.set_verbosity(logging.ERROR)  # TFDS logs every folder that it looks at
    folder = expanded(args.folder).absolute()
    listing = listings.read(folder)
    made = restore(folder, expanded(data_dir).absolute())
    options = [f"--config.dataset.name={listing.place.rpartition('/')[0]}"]
    options += [f"--config.dataset.data_dir={args.data_dir}"] if args.data_dir else []
    return f"{made}\nto train on it: {command(*options)}"


def main(
    argv: Sequence[str] | None = None, *, prog: str = "python -m data_builders.sharing.importing"
) -> int:
    """Entry point of the command; returns its exit status."""
    return run(
        functools.partial(_job, prog=prog),
        argv,
        interrupted="interrupted; the same command goes on from the files that are done",
    )


if __name__ == "__main__":
    sys.exit(main())
