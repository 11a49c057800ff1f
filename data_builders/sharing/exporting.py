"""Exports a built dataset to files that other programs read; `importing` is the way back.

python -m data_builders.sharing.exporting synthetic_faces --data_dir D --to webdataset --out FOLDER
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import logging

from data_builders import build
from data_builders.buckets import check_local
from data_builders.command_line import Parser, command, run
from data_builders.errors import UserError, nearest
from data_builders.files import check_writable, write_json, write_whole
from data_builders.home import expanded
from data_builders.preparing import told_alone
from data_builders.progress import Progress
from data_builders.sharing import listing as listings
from data_builders.sharing.card import card
from data_builders.sharing.listing import FORMATS, INFORMATION, Listing, Shard

if TYPE_CHECKING:
    from data_builders.paired import PairedDatasetBuilder
    from data_builders.sharing.record import Record

#: Of an export that is not finished: of which dataset its files are.
_ORIGIN = "origin.json"


def export(
    dataset: PairedDatasetBuilder, to: str, out: Path, *, splits: Sequence[str] = ()
) -> Listing:
    """Writes a dataset to a folder: one file for each file of the dataset.

    The folder appears when all is written. Until then, files that are whole are beside it, in a
    folder from which the next export of the same goes on. Where another process exports to the same
    folder, this one waits.

    Args:
      dataset: A builder whose dataset is built.
      to: One of `FORMATS`.
      out: The folder, which must not exist, or be empty.
      splits: The splits; all where none is named.

    Returns:
      What the folder holds.

    Raises:
      UserError: The dataset is not built or has a damaged record, a split is unknown, or the folder
        is there.
    """
    form = listings.form(to)
    if not dataset.is_prepared():
        raise UserError(
            f"{dataset.info.full_name} is not built in {dataset.data_path.parent}; name its "
            "--data_dir, or build it with `qad-jax build`"
        )
    for split in splits:
        if split not in dataset.info.splits:
            raise UserError(f"--split: {split!r}: {nearest(split, dataset.info.splits)}")
    _check_free(out)
    form.check(dataset.qualities)
    kept = [split for split in dataset.info.splits if not splits or split in splits]
    with told_alone(out, "exports to it"):
        _check_free(out)  # another process may have had the lock
        return _write_all(dataset, to, out, kept)


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out: {out} is there already; name a folder that is not")


def _write_all(dataset: PairedDatasetBuilder, to: str, out: Path, kept: Sequence[str]) -> Listing:
    form = listings.form(to)
    lengths = {split: dataset.info.splits[split].shard_lengths for split in kept}
    part = _begun(dataset, to, out, lengths)
    shards: dict[str, list[Shard]] = {split: [] for split in kept}
    total = sum(map(sum, lengths.values()))
    with Progress(total, f"{dataset.info.full_name} to {to}", unit="tuple") as progress:
        for split, counts in lengths.items():
            for index, count in enumerate(counts):
                name = listings.shard_name(split, index, len(counts))
                path = part / f"{name}{form.SUFFIX}"
                if not path.exists():
                    first = sum(counts[:index])
                    records = _records(dataset, split, range(first, first + count), progress)
                    unfinished = path.with_name(f".{path.name}")
                    form.write(unfinished, records, dataset.qualities, name)
                    os.replace(unfinished, path)
                else:
                    progress.advance(count)
                shards[split].append(Shard(count, path.stat().st_size, listings.sha256(path)))
    listing = Listing(
        to,
        dataset.name,
        dataset.builder_config.name if dataset.builder_config else "",
        str(dataset.version),
        tuple(dataset.qualities),
        {split: tuple(files) for split, files in shards.items()},
    )
    _copy_information(Path(dataset.data_dir), part / INFORMATION, kept)
    write_whole(part / "README.md", card(listing, dataset.digests))
    (part / _ORIGIN).unlink()
    listings.write(part, listing)
    os.replace(part, out)
    return listing


def _begun(
    dataset: PairedDatasetBuilder, to: str, out: Path, lengths: dict[str, list[int]]
) -> Path:
    """Makes the folder of unfinished exports, or finds the one of the same export."""
    part = out.with_name(f".{out.name}.part")
    origin = {
        "dataset": dataset.info.full_name,
        "format": to,
        "qualities": list(dataset.qualities),
        "lengths": lengths,
        "digest": dict(dataset.digests),
    }
    try:
        same = json.loads((part / _ORIGIN).read_bytes()) == origin
    except (OSError, ValueError):
        same = False
    if not same:
        shutil.rmtree(part, ignore_errors=True)
    write_json(part / _ORIGIN, origin)
    return part


def _records(
    dataset: PairedDatasetBuilder, split: str, indices: range, progress: Progress
) -> Iterator[Record]:
    import tensorflow_datasets as tfds

    from data_builders.sharing import record

    source = dataset.as_data_source(
        split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    for index in indices:
        try:
            yield record.parse(source[index], dataset.qualities)
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"{dataset.data_dir} {split}: record {index} cannot be exported: {error}; build "
                "the dataset again"
            ) from error
        progress.advance()


def _copy_information(source: Path, target: Path, kept: Sequence[str]) -> None:
    """Copies what TFDS knows of a dataset, byte for byte unless splits are left out."""
    data = (source / "dataset_info.json").read_bytes()
    information = json.loads(data)
    splits = [split for split in information["splits"] if split["name"] in kept]
    if splits != information["splits"]:
        data = (json.dumps({**information, "splits": splits}, indent=2) + "\n").encode()
    write_whole(target / "dataset_info.json", data)
    write_whole(target / "metadata.json", (source / "metadata.json").read_bytes())


def _job(argv: Sequence[str], prog: str) -> str:
    parser = Parser(
        prog=prog, description="Exports a built dataset to WebDataset shards or Parquet files."
    )
    parser.add_argument("name", help="DATASET or DATASET/CONFIG, as for build")
    parser.add_argument("--to", required=True, choices=FORMATS, help="the format")
    parser.add_argument("--out", required=True, help="the folder, which must not be there")
    parser.add_argument("--split", default="", help="splits, separated by commas (default: all)")
    parser.add_argument(
        "--data_dir", default="", help="where it was built (default: the folder of TFDS)"
    )
    parser.add_argument("--manual_dir", default="", help="as for build, where a list needs it")
    parser.add_argument("--manifest", default="", help="the list, where it was built from one")
    args = parser.parse_args(argv)
    check_local(args.out, "--out")
    logging.set_verbosity(logging.ERROR)  # TFDS logs every folder that it looks at
    places = {place: getattr(args, place) for place in ("data_dir", "manual_dir", "manifest")}
    dataset = build.builder(args.name, **places)
    out = expanded(args.out).absolute()
    splits = [split.strip() for split in args.split.split(",") if split.strip()]
    check_writable(out, "--out")
    listing = export(dataset, args.to, out, splits=splits)
    counts = ", ".join(
        f"{split} {sum(shard.records for shard in shards)}"
        for split, shards in listing.splits.items()
    )
    return "\n".join(
        [
            f"{counts} tuples at {', '.join(listing.qualities)}",
            str(out),
            f"to make the dataset of it again: {command('qad-jax', 'import-dataset', out)}",
            "the terms of the dataset hold for the copy, too",
        ]
    )


def main(
    argv: Sequence[str] | None = None, *, prog: str = "python -m data_builders.sharing.exporting"
) -> int:
    """Entry point of the command; returns its exit status."""
    return run(
        functools.partial(_job, prog=prog),
        argv,
        interrupted="interrupted; the same command goes on from the files that are done",
    )


if __name__ == "__main__":
    sys.exit(main())
