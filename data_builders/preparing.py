"""Builds a dataset, once and in full: TFDS writes it, beside others that may do the same."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_builders.command_line import beam_options
from data_builders.errors import UserError
from data_builders.files import alone, is_pattern

if TYPE_CHECKING:
    from data_builders.paired import PairedDatasetBuilder


# A folder beside configurations in which TFDS says which of them is the first.
_DEFAULT = ".config"


def prepare(dataset: PairedDatasetBuilder, *, beam: Sequence[str] | None = None) -> None:
    """Builds a dataset unless it is built. Where another process builds it, this one waits.

    A build that is interrupted or fails leaves nothing behind, of videos but the clips that are
    done. The next one goes on from them.

    Args:
      dataset: A builder, see `build.builder`.
      beam: Options of the Apache Beam pipeline that makes the clips; an empty list stands for one
        process for each core. None: processes of this machine, without Beam.

    Raises:
      UserError: If something in the source data is wrong, the dataset cannot be written, or what is
        in its place is no whole dataset.
    """
    if _is_built(dataset):  # perhaps on a disk that takes no lock
        return
    place = Path(dataset.data_dir)
    if beam is not None and is_pattern(place):
        raise UserError(
            f"--data_dir: {place}: Apache Beam takes [, * and ? in a path for a pattern; choose "
            "another folder, or build without --beam"
        )
    options = None if beam is None else beam_options(beam)
    held = told_alone(place, "builds it")
    with tempfile.TemporaryDirectory() as downloads, _written(place), held:
        if not _is_built(dataset):  # by the process that had the lock
            dataset.beam = beam is not None
            _build(dataset, downloads, options)


def _is_built(dataset: PairedDatasetBuilder) -> bool:
    """Whether a dataset is built, perhaps by another process since its builder was made."""
    there = Path(dataset.data_dir).exists()
    if dataset.is_prepared():
        if not dataset.info.splits:
            dataset.info.read_from_directory(dataset.data_dir)
        dataset.finish()  # of a build that was killed at its very end
    if there and not _is_whole(dataset):
        raise UserError(
            f"{dataset.data_dir}: is no whole dataset; remove this folder, and the same command "
            "builds it, or copy it again"
        )
    return there and dataset.is_prepared()


def _is_whole(dataset: PairedDatasetBuilder) -> bool:
    """Whether all files of a dataset are there; a copy may have been cut."""
    splits = dataset.info.splits.values()
    files = [dataset.data_path / "metadata.json", *(path for s in splits for path in s.filepaths)]
    return bool(splits) and all(Path(file).exists() for file in files)


def _build(dataset: PairedDatasetBuilder, downloads: str, beam: Any) -> None:
    import tensorflow_datasets as tfds

    place = Path(dataset.data_dir)
    for leftover in place.parent.glob(f"incomplete.*_{place.name}"):  # of a build that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    settings = tfds.download.DownloadConfig(beam_options=beam)
    tfds.disable_progress_bar()  # this project's knows the total
    pipeline = _pipeline(dataset) if dataset.beam else contextlib.nullcontext()
    # TFDS speaks of downloads; there are none.
    with contextlib.redirect_stdout(io.StringIO()), pipeline:
        dataset.download_and_prepare(download_dir=downloads, download_config=settings)
    dataset.finish()


@contextlib.contextmanager
def _written(place: Path) -> Iterator[None]:
    """Makes one line of what keeps a dataset from being written, and removes empty folders then."""
    existed = next(parent for parent in place.parents if parent.exists())
    try:
        yield
    except BaseException as error:
        _remove_empty(place.parent, down_to=existed)
        if isinstance(error, OSError):
            raise UserError(
                f"{place}: cannot write the dataset: {error.strerror or error}; name another "
                "folder of datasets, or mend that"
            ) from error
        raise


@contextlib.contextmanager
def told_alone(place: Path, deed: str) -> Iterator[None]:
    """Keeps other processes of this machine from what is written to a folder.

    Where another one is at it, a line says so, and this one waits.

    Args:
      place: The folder, which need not exist. The lock is a file beside it.
      deed: What the other process does, for the message.
    """
    lock = place.with_name(f".{place.name}.lock")
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(alone(lock, wait=False)):
            print(f"{place}: another process {deed}; this one waits", file=sys.stderr)
            stack.enter_context(alone(lock))
        yield


@contextlib.contextmanager
def _pipeline(dataset: PairedDatasetBuilder) -> Iterator[None]:
    """Shows the progress of a pipeline, and turns its failure, text of a worker, into one line."""
    from data_builders import beam

    sources = dataset.listed()
    with beam.watch(dataset.clips_done, sum(map(len, sources.values())), dataset.info.full_name):
        try:
            yield
        except RuntimeError as error:
            raise beam.failed(error) from error


def _remove_empty(folder: Path, down_to: Path) -> None:
    while folder != down_to and folder.is_dir() and {*os.listdir(folder)} <= {_DEFAULT}:
        shutil.rmtree(folder / _DEFAULT, ignore_errors=True)
        folder.rmdir()
        folder = folder.parent
