"""From a built dataset to batches: grain's order, records of TFDS, uint8 arrays on the host.

The seed alone decides the order of the training batches and how each tuple is changed. The number
of threads does not: each place of the stream is decided before it is read.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds

from data_builders.errors import UserError, nearest
from data_builders.paired import PairedDatasetBuilder
from qad_jax.training.augmentation import MIRRORING, PLAIN, Augmentation, View, cut, finish
from qad_jax.training.batch import Batch
from qad_jax.training.resizing import resize_into
from qad_jax.training.sampling import Moment, Source, batches_in, ordered
from qad_jax.training.stored_records import features, integer, named, text
from qad_jax.training.threaded_batches import Images, filled

# Records that are read together where little of each is kept.
_READ_AT_ONCE = 256


class Frames(NamedTuple):
    """Evaluation input: consecutive records of a split, padded to the batch size.

    Attributes:
      images: `(n, Q, H, W, 3)` uint8, RGB; zeros where padded.
      labels: `(k,)` int32, k <= n: one label for each record that is not padding.
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


class Facts(NamedTuple):
    """What is known of n records without an image.

    Attributes:
      labels: `(n,)` int32, 0 real, 1 fake.
      identities: n identities.
      methods: n names of manipulation methods.
    """

    labels: npt.NDArray[np.int32]
    identities: list[str]
    methods: list[str]


def check_qualities(dataset: PairedDatasetBuilder, qualities: Sequence[str]) -> None:
    """Raises a `UserError` where the dataset does not have all the qualities."""
    for quality in qualities:
        if quality not in dataset.qualities:
            raise UserError(
                f"config.qualities: {dataset.info.full_name} has no quality {quality!r}: "
                f"{nearest(quality, dataset.qualities)}"
            )


class TupleSource:
    """Records of one split by index, decoded at the given qualities and resized once."""

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
          qualities: The qualities to decode; the others in a record cost nothing.
          image_size: Side of the square that each crop is resized to, in pixels.
          in_memory: Whether to keep decoded images: `Q * image_size^2 * 3` bytes a record.

        Raises:
          UserError: Where the dataset has no such split or quality.
        """
        check_qualities(dataset, qualities)
        if split not in dataset.info.splits:
            raise UserError(
                f"{dataset.info.full_name} has no {split} split, only "
                f"{', '.join(dataset.info.splits)}"
            )
        # TFDS's own parsing takes a tenth of the time of decoding and holds up the other threads.
        self._records = dataset.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        self._name = f"{dataset.data_dir} {split}"
        self.title = f"the {split} split of {dataset.info.full_name}"
        self.qualities = tuple(qualities)
        self._size = image_size
        self._kept: dict[int, tuple[dict[str, Any], Images]] | None = {} if in_memory else None
        cv2.setNumThreads(1)  # the readers themselves run in parallel

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a record's images: `(Q, H, W, 3)`."""
        return (len(self.qualities), self._size, self._size, 3)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns what `fill` does, with the images as `image`."""
        row = np.empty(self.shape, np.uint8)
        return {**self.fill(index, row), "image": row}

    def fill(self, index: int, row: Images, *, view: View = PLAIN) -> dict[str, Any]:
        """Decodes a record.

        Args:
          index: The record.
          row: Where its images go: `(Q, H, W, 3)` uint8, see `shape`.
          view: How to show the images, all qualities alike. Decoded images that are kept in memory
            have no window left to cut.

        Returns:
          Its `label`, `method`, `video`, `identity` and `frame`.

        Raises:
          UserError: Where the record is damaged.
        """
        if self._kept is None:
            record = self._read(index, row, view)
        else:
            if index not in self._kept:  # two threads may both decode it, to the same bits
                images = np.empty(self.shape, np.uint8)
                self._kept[index] = self._read(index, images, PLAIN), images
            record, row[...] = self._kept[index]
        finish(row, view)
        return record

    def _read(self, index: int, row: Images, view: View) -> dict[str, Any]:
        with named(f"{self._name}: record {index}"):
            stored = features(self._records[index])

        def decode(quality: str) -> Images:
            data = stored[f"image/{quality}"].bytes_list.value[0]
            image = None
            with contextlib.suppress(cv2.error):  # of no bytes, or of too many pixels
                image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
            if image is None:
                raise UserError(f"{self._name}: image of record {index} is damaged; build it again")
            return image

        for image, target in zip(self._images(index, decode), row, strict=True):
            resize_into(cut(image, view), target)
        return {
            **{name: integer(stored[name]) for name in ("label", "frame")},
            **{name: text(stored[name]) for name in ("method", "video", "identity")},
        }

    def _images(self, index: int, decode: Callable[[str], Images]) -> Iterable[Images]:
        """The record's images in the order of `qualities`, of any size."""
        del index
        return map(decode, self.qualities)

    def labels_and_identities(self) -> tuple[npt.NDArray[np.int32], list[str]]:
        """Label and identity of every record, read without decoding an image.

        Raises:
          UserError: Where a record is damaged; so do `moments` and `facts`.
        """
        return self.facts.labels, self.facts.identities

    def moments(self) -> list[Moment]:
        """Video, frame and box of every record, read without decoding an image.

        They take more memory than `facts`, and only twins are found by them.
        """
        return [
            Moment(text(s["video"]), integer(s["frame"]), tuple(s["box"].float_list.value))
            for s in self._stored()
        ]

    @functools.cached_property
    def facts(self) -> Facts:
        """What is known of every record, read once and without decoding an image."""
        labels, identities, methods = [], [], []
        for stored in self._stored():
            labels.append(integer(stored["label"]))
            identities.append(sys.intern(text(stored["identity"])))
            methods.append(sys.intern(text(stored["method"])))
        return Facts(np.array(labels, np.int32), identities, methods)

    def _stored(self) -> Iterator[Any]:
        """The features of every record, in order."""
        count = len(self._records)
        for first in range(0, count, _READ_AT_ONCE):
            indices = range(first, min(first + _READ_AT_ONCE, count))
            with named(f"{self._name}: one of the records {indices[0]} to {indices[-1]}"):
                yield from map(features, self._records.__getitems__(indices))

    def ordered(self, sampling: str, seed: int) -> Sequence[int]:
        """See `qad_jax.training.sampling.ordered`."""
        return ordered(self, sampling, seed, of=self.title)


def _items(
    stream: Sequence[int], batch_size: int, rows: slice, start: int, draw: Callable[[int], Any]
) -> Iterator[list[tuple[int, View]]]:
    """Yields for the given rows of each batch the record, and how it is shown."""
    batches = batches_in(len(stream), batch_size)
    for number in itertools.count(start):
        epoch, batch = divmod(number, batches)
        first = epoch * len(stream) + batch * batch_size
        records = [stream[first + row] for row in range(rows.start, rows.stop)]
        yield list(zip(records, draw(number)[rows], strict=True))


class TrainBatches(Iterator[Batch]):
    """Endless shuffled training batches; each epoch drops its incomplete last batch."""

    def __init__(
        self,
        source: Source,
        batch_size: int,
        *,
        seed: int,
        sampling: str = "natural",
        augmentation: Augmentation = MIRRORING,
        start: int = 0,
        rows: slice | None = None,
        threads: int | None = None,
    ) -> None:
        """Starts reading.

        Args:
          source: The training split, or a mixture of several.
          batch_size: Tuples in a batch.
          seed: Seed of the order and of the changes.
          sampling: Which tuples, see `qad_jax.training.sampling.ordered`.
          augmentation: How they are changed besides mirroring.
          start: Number of batches to skip: those that a resumed run has already seen.
          rows: The rows of each batch to read, by default all; see `parallel.rows`.
          threads: Number of readers; by default one for each core that this process may use. It
            changes only the speed.

        Raises:
          UserError: Where the split is smaller than a batch, or does not suit the sampling.
        """
        batches_in(len(source), batch_size)  # raises here, not where the first batch is taken
        rows = rows or slice(0, batch_size)
        stream = source.ordered(sampling, seed)

        def draw(number: int) -> Sequence[View]:
            views = augmentation.draw(np.random.default_rng((seed, number)), batch_size)
            if sampling == "twins":  # shown alike, they differ only where the fake was changed
                views = [view for view in views[::2] for _ in range(2)]
            return views

        def fill(item: tuple[int, View], row: Images) -> int:
            index, view = item
            label: int = source.fill(index, row, view=view)["label"]
            return label

        self._batches: Iterator[Any] = filled(
            fill,
            _items(stream, batch_size, rows, start, draw),
            rows.stop - rows.start,
            source.shape,
            threads,
        )

    def __next__(self) -> Batch:
        images, labels = next(self._batches)
        # The batch holds numpy arrays until the devices get it.
        host_labels: Any = np.array(labels, np.int32)
        return Batch(images, host_labels)


def frames(
    source: TupleSource,
    batch_size: int,
    *,
    rows: slice | None = None,
    threads: int | None = None,
) -> Iterator[Frames]:
    """Reads all records of a split in order, each once, in batches of equal shape.

    Args:
      source: The split.
      batch_size: Records in a batch; the last batch is padded with zeros.
      rows: The rows of each batch to read, by default all. There are as many batches as for all
        rows, so the last one may hold only zeros.
      threads: Number of readers; by default one for each core that this process may use.

    Yields:
      Batches; `len(batch.labels)` is the number of images that are not padding.
    """
    rows = rows or slice(0, batch_size)
    own = rows.stop - rows.start
    count = len(source)
    batches = (
        range(min(first + rows.start, count), min(first + rows.stop, count))
        for first in range(0, count, batch_size)
    )
    for images, records in filled(source.fill, batches, own, source.shape, threads):
        yield Frames(
            images=images,
            labels=np.array([record["label"] for record in records], np.int32),
            method=[record["method"] for record in records],
            video=[record["video"] for record in records],
            identity=[record["identity"] for record in records],
            frame=np.array([record["frame"] for record in records], np.int32),
        )
