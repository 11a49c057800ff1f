"""From a built dataset to batches: TFDS data source -> grain -> uint8 arrays on the host.

The order of training batches, and which of them are mirrored, depends on the seed alone, not on
how many threads read: shuffling and batching come before reading ahead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import grain
import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds

from data_builders.errors import UserError, nearest
from data_builders.paired import PairedDatasetBuilder
from qad_jax.sampling import ordered
from qad_jax.step import Batch

# Records read together where all are read and little of each is kept.
_READ_AT_ONCE = 256
# Batches decoded ahead by the reading threads.
_READ_AHEAD = 4


class Frames(NamedTuple):
    """Evaluation input: consecutive records of a split, filled up to the batch size.

    Attributes:
      images: `(n, Q, H, W, 3)` uint8, RGB; zeros where padded.
      labels: `(k,)` int32, k <= n: the records there really are.
      method: k names of the manipulation methods.
      video: k names of videos, unique within a method.
      identity: k identities.
      frame: `(k,)` int32 index of each frame in its video.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    method: list[str]
    video: list[str]
    identity: list[str]
    frame: npt.NDArray[np.int32]


def check_qualities(dataset: PairedDatasetBuilder, qualities: Sequence[str]) -> None:
    """Raises a `UserError` unless the dataset's records hold, or will hold, all the qualities."""
    for quality in qualities:
        if quality not in dataset.qualities:
            raise UserError(
                f"config.qualities: {dataset.info.full_name} has no quality {quality!r}: "
                f"{nearest(quality, dataset.qualities)}"
            )


class TupleSource:
    """Records of one split by index, decoded at the wanted qualities and resized, once.

    A random-access source as grain wants it.
    """

    def __init__(
        self,
        dataset: PairedDatasetBuilder,
        split: str,
        qualities: Sequence[str],
        image_size: int,
        *,
        in_memory: bool = False,
    ) -> None:
        """Opens a split.

        Args:
          dataset: A builder whose dataset is built.
          split: 'train', 'validation' or 'test'.
          qualities: Which qualities to decode; others in the record cost nothing.
          image_size: Side of the square that each crop is resized to, in pixels.
          in_memory: Keep what has been decoded: `Q * image_size^2 * 3` bytes a record.

        Raises:
          UserError: Where the dataset has no such split or quality.
        """
        check_qualities(dataset, qualities)
        if split not in dataset.info.splits:
            raise UserError(
                f"{dataset.info.full_name} has no {split} split, only "
                f"{', '.join(dataset.info.splits)}"
            )
        skip = {quality: tfds.decode.SkipDecoding() for quality in dataset.qualities}
        self._source = dataset.as_data_source(split, decoders={"image": skip})
        self._name = f"{dataset.data_dir} {split}"
        self.qualities = tuple(qualities)
        self._size = image_size
        self._kept: dict[int, dict[str, Any]] | None = {} if in_memory else None
        cv2.setNumThreads(1)  # the readers are the threads

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a record's pictures: `(Q, H, W, 3)`."""
        return (len(self.qualities), self._size, self._size, 3)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self._kept is None:
            return self._read(index)
        if index not in self._kept:  # two threads may both decode it: the same bits
            self._kept[index] = self._read(index)
        return self._kept[index]

    def _read(self, index: int) -> dict[str, Any]:
        try:
            record = self._source[index]
        except RuntimeError as error:
            raise UserError(f"{self._name}: record {index} is damaged; build it again") from error
        return {**record, "image": np.stack(self._pictures(index, record["image"]))}

    def _pictures(self, index: int, stored: Mapping[str, bytes]) -> list[npt.NDArray[Any]]:
        return [self._resized(self._decode(index, stored[name])) for name in self.qualities]

    def labels_and_identities(self) -> tuple[npt.NDArray[np.int32], list[str]]:
        """Label and identity of every record; no picture is decoded."""
        labels, identities = [], []
        for first in range(0, len(self), _READ_AT_ONCE):
            indices = range(first, min(first + _READ_AT_ONCE, len(self)))
            for record in self._source.__getitems__(indices):
                labels.append(record["label"])
                identities.append(record["identity"])
        return np.array(labels, np.int32), _text(np.array(identities, object))

    def _decode(self, index: int, data: bytes) -> npt.NDArray[Any]:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise UserError(f"{self._name}: picture of record {index} is damaged; build it again")
        return image

    def _resized(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if image.shape[:2] == (self._size, self._size):
            return image
        shrinks = min(image.shape[:2]) > self._size
        return cv2.resize(
            image,
            (self._size, self._size),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC,
        )


class _SharedFlip(grain.transforms.RandomMap):
    """Mirrors a tuple, all its qualities or none: they must stay the same picture."""

    def random_map(self, element: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        images = element["image"]
        if rng.random() < 0.5:
            # Copying a view that runs backwards takes numpy twenty times as long.
            images = np.stack([cv2.flip(image, 1) for image in images])
        return {"images": images, "labels": np.int32(element["label"])}


class _Rows(grain.MapDataset):
    """The same rows of every batch, in the order of the batches; the others are never read."""

    def __init__(self, parent: grain.MapDataset, batch_size: int, rows: slice) -> None:
        super().__init__(parent)
        self._batch_size, self._first, self._own = batch_size, rows.start, rows.stop - rows.start

    def __len__(self) -> int:
        return len(self._parent) // self._batch_size * self._own

    def __getitem__(self, index: int) -> Any:
        epoch, index = divmod(index, len(self))
        batch, row = divmod(index, self._own)
        return self._parent[
            epoch * len(self._parent) + batch * self._batch_size + self._first + row
        ]


class TrainBatches(Iterator[Batch]):
    """Endless shuffled training batches; each epoch drops its own incomplete last batch."""

    def __init__(
        self,
        source: TupleSource,
        batch_size: int,
        *,
        seed: int,
        sampling: str = "natural",
        start: int = 0,
        rows: slice | None = None,
        threads: int | None = None,
    ) -> None:
        """Starts reading.

        Args:
          source: The training split.
          batch_size: Tuples in a batch.
          rows: Which of them to read, by default all: see `qad_jax.parallel.rows`.
          seed: Of the order and the mirroring.
          sampling: Which tuples, see `qad_jax.sampling.ordered`.
          start: Number of batches that are past: the stream begins behind them.
          threads: Number of readers, by default as many as there are cores. Changes nothing but
            the speed.

        Raises:
          UserError: Where the split is smaller than a batch, or does not suit the sampling.
        """
        if len(source) < batch_size:
            raise UserError(
                f"config.batch_size: {batch_size} tuples are more than the {len(source)} of the "
                "train split"
            )
        dataset = ordered(source, sampling, seed).random_map(_SharedFlip())
        rows = rows or slice(0, batch_size)
        dataset = _Rows(dataset, batch_size, rows).batch(rows.stop - rows.start).repeat()
        self._iterator = iter(dataset.to_iter_dataset(_read_options(threads)))
        self._iterator.set_state({"next_index": start})

    def __next__(self) -> Batch:
        return Batch(**next(self._iterator))


def frames(
    source: TupleSource,
    batch_size: int,
    *,
    rows: slice | None = None,
    threads: int | None = None,
) -> Iterator[Frames]:
    """All records of a split in their order, each once, in batches of equal shape.

    Args:
      source: The split.
      batch_size: Records in a batch; the last batch is filled up with zeros.
      rows: Which records of each batch to read, by default all. The number of batches is that of
        the whole split, so the last one may hold nothing but zeros.
      threads: Number of readers, by default as many as there are cores.

    Yields:
      Batches; `len(batch.labels)` says how many of its images are records.
    """
    rows = rows or slice(0, batch_size)
    own = rows.stop - rows.start
    chosen = [i for i in range(len(source)) if rows.start <= i % batch_size < rows.stop]
    dataset = grain.MapDataset.source(chosen).map(source.__getitem__).batch(own)
    for records in dataset.to_iter_dataset(_read_options(threads)):
        images = records["image"]
        spare = own - len(images)
        yield Frames(
            images=np.pad(images, [(0, spare), *[(0, 0)] * 4]) if spare else images,
            labels=records["label"].astype(np.int32),
            method=_text(records["method"]),
            video=_text(records["video"]),
            identity=_text(records["identity"]),
            frame=records["frame"].astype(np.int32),
        )
    if -(-len(chosen) // own) < -(-len(source) // batch_size):
        nothing = np.empty(0, np.int32)
        yield Frames(np.zeros((own, *source.shape), np.uint8), nothing, [], [], [], nothing)


def _text(values: npt.NDArray[Any]) -> list[str]:
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values.tolist()]


def _read_options(threads: int | None) -> grain.ReadOptions:
    threads = threads or os.cpu_count() or 1
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=_READ_AHEAD)
