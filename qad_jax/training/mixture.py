"""Several datasets in one training, and datasets without some of their methods.

A mixture is one stream of tuples. Its weights decide which dataset a place of the stream belongs
to, and `config.sampling` orders each dataset for itself. Every place is random access, as in
`qad_jax.training.sampling`.
"""

from __future__ import annotations

import bisect
import itertools
import sys
from collections.abc import Sequence
from typing import Any

import grain
import ml_collections
import numpy as np
import numpy.typing as npt

from data_builders.errors import UserError, nearest
from data_builders.paired import PairedDatasetBuilder
from data_builders.records import LABELS
from qad_jax import configs
from qad_jax.training.augmentation import PLAIN, View
from qad_jax.training.input_pipeline import TupleSource
from qad_jax.training.sampling import Moment, Source
from qad_jax.training.threaded_batches import Images

# Grain's proportions are whole numbers, in which the smallest is 100.
_LEAST_PROPORTION = 100


class ChosenSource(TupleSource):
    """The records of a split that are not of some methods."""

    def __init__(self, *arguments: Any, exclude_methods: Sequence[str], **options: Any) -> None:
        """Opens a split and reads the method of each record, without decoding an image.

        Args:
          *arguments: See `TupleSource`.
          exclude_methods: The methods to leave out; a name that no record has leaves out nothing.
          **options: See `TupleSource`.

        Raises:
          UserError: As `TupleSource`.
        """
        super().__init__(*arguments, **options)
        self._chosen = np.flatnonzero(~np.isin(self.facts.methods, exclude_methods))

    def __len__(self) -> int:
        return len(self._chosen)

    def fill(self, index: int, row: Images, *, view: View = PLAIN) -> dict[str, Any]:
        """See `TupleSource.fill`; the index counts the records that are left."""
        return super().fill(int(self._chosen[index]), row, view=view)

    def labels_and_identities(self) -> tuple[npt.NDArray[np.int32], list[str]]:
        """Label and identity of every record that is left."""
        labels, identities = super().labels_and_identities()
        return labels[self._chosen], [identities[i] for i in self._chosen]

    def moments(self) -> list[Moment]:
        """Video, frame and box of every record that is left."""
        moments = super().moments()
        return [moments[i] for i in self._chosen]


class Mixture:
    """The training splits of several datasets as one source, see `input_pipeline.Source`."""

    def __init__(self, sources: Sequence[TupleSource], weights: Sequence[float]) -> None:
        """Puts the tuples of all sources in a row.

        Args:
          sources: The splits, with the same qualities and image size.
          weights: The share of the tuples that each gives, relative to the others and whatever its
            size; positive.
        """
        self._sources = list(sources)
        self._first = list(itertools.accumulate(map(len, sources), initial=0))
        # Whole numbers that grain does not round again. Each share is that of its weight to within
        # half a percent, and exactly so where the weights are multiples of the smallest.
        least = min(weights)
        self._proportions = [round(_LEAST_PROPORTION * weight / least) for weight in weights]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a tuple's images: `(Q, H, W, 3)`."""
        return self._sources[0].shape

    def __len__(self) -> int:
        """The tuples of all datasets, which make an epoch."""
        return self._first[-1]

    def fill(self, index: int, row: Images, *, view: View = PLAIN) -> dict[str, Any]:
        """See `TupleSource.fill`."""
        which = bisect.bisect_right(self._first, index) - 1
        return self._sources[which].fill(index - self._first[which], row, view=view)

    def ordered(self, sampling: str, seed: int) -> Sequence[int]:
        """Mixes the orders of the datasets, each of which has a seed of its own.

        Args:
          sampling: One of `configuration.SAMPLINGS`; fakes and reals that are side by side in the
            order of a dataset stay so.
          seed: Seed of the order.

        Returns:
          Indices by place, without an end.

        Raises:
          UserError: Where a dataset does not suit the sampling.
        """
        # `ordered` uses a seed and the next one.
        orders = [source.ordered(sampling, seed + 2 * i) for i, source in enumerate(self._sources)]
        return _Turns(orders, self._first, self._proportions, 1 if sampling == "natural" else 2)


class _Turns(Sequence[int]):
    """An endless order that takes a few places of one order, then of another."""

    def __init__(
        self,
        orders: Sequence[Sequence[int]],
        first: Sequence[int],
        proportions: Sequence[int],
        together: int,
    ) -> None:
        self._orders, self._first, self._together = orders, first, together
        turns = [
            grain.MapDataset.range(sys.maxsize).map(lambda turn, which=which: (which, turn))
            for which in range(len(orders))
        ]
        self._turns = grain.MapDataset.mix(turns, proportions)

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, place: Any) -> Any:
        turn, within = divmod(place, self._together)
        which, own_turn = self._turns[turn]
        return self._first[which] + self._orders[which][own_turn * self._together + within]


def open_training(
    config: ml_collections.ConfigDict, datasets: Sequence[PairedDatasetBuilder]
) -> Source:
    """Opens what a configuration trains on.

    Args:
      config: Checked, see `configuration.check`.
      datasets: The builders of its datasets, in the same order.

    Raises:
      UserError: As `open_split`, or where all records of a class are excluded, or where the first
        quality is not the best and the localiser learns.
    """
    fields = configs.datasets(config)
    sources = [open_split(config, i, dataset, "train") for i, dataset in enumerate(datasets)]
    if config.localise.weight:
        _check_best_first(config.qualities, datasets)
    left = {
        label
        for source, of in zip(sources, fields.values(), strict=True)
        for label in (source.labels_and_identities()[0] if of.exclude_methods else range(2))
    }
    for field, source in zip(fields, sources, strict=True):
        if not len(source):
            raise UserError(f"{field}.exclude_methods: leaves nothing of {source.title}")
    for label, name in enumerate(LABELS):
        if label not in left:
            raise UserError(
                f"{next(iter(fields))}.exclude_methods: leaves no {name} tuple to train on"
            )
    if len(sources) == 1:
        return sources[0]
    return Mixture(sources, [of.weight for of in fields.values()])


def _check_best_first(qualities: Sequence[str], datasets: Sequence[PairedDatasetBuilder]) -> None:
    """The localiser learns from the first quality; at a worse one, a codec's noise differs, too."""
    for dataset in datasets:
        best = min(qualities, key=dataset.qualities.index)
        if qualities[0] != best:
            raise UserError(
                f"config.qualities: name {best!r} first, the best of {dataset.info.full_name}, for "
                "config.localise learns from it where a fake was changed"
            )


def open_split(
    config: ml_collections.ConfigDict, number: int, dataset: PairedDatasetBuilder, split: str
) -> TupleSource:
    """Opens a split as training wants it: qualities, image size, in memory or not, methods.

    Args:
      config: Checked, see `configuration.check`.
      number: Which of its datasets this is, from 0.
      dataset: The builder of that dataset.
      split: 'train' or 'validation'.

    Raises:
      UserError: As `TupleSource`, or where an excluded method is none of the dataset.
    """
    field, fields = list(configs.datasets(config).items())[number]
    return open_chosen(
        dataset,
        split,
        config.qualities,
        config.image_size,
        exclude_methods=fields.exclude_methods,
        field=field,
        in_memory=fields.in_memory,
    )


def open_chosen(
    dataset: PairedDatasetBuilder,
    split: str,
    qualities: Sequence[str],
    image_size: int,
    *,
    exclude_methods: Sequence[str],
    field: str = "config.dataset",
    in_memory: bool = False,
) -> TupleSource:
    """Opens a split without the records of some methods.

    Args:
      dataset: A builder whose dataset is built.
      split: See `TupleSource`, like the next two.
      qualities: The qualities to decode.
      image_size: Side of the square that each crop is resized to, in pixels.
      exclude_methods: Names of the methods.
      field: The field of the configuration that names the dataset, for messages.
      in_memory: See `TupleSource`.

    Raises:
      UserError: As `TupleSource`, or where a method is none of the dataset.
    """
    if not exclude_methods:
        return TupleSource(dataset, split, qualities, image_size, in_memory=in_memory)
    source = ChosenSource(
        dataset,
        split,
        qualities,
        image_size,
        exclude_methods=exclude_methods,
        in_memory=in_memory,
    )
    known = set(source.facts.methods)
    for other in dataset.info.splits:  # a method may be in the test split alone
        if other != split and not known.issuperset(exclude_methods):
            known |= set(TupleSource(dataset, other, qualities, image_size).facts.methods)
    for method in exclude_methods:
        if method not in known:
            raise UserError(
                f"{field}.exclude_methods: {dataset.info.full_name} has no method {method!r}: "
                f"{nearest(method, known)}"
            )
    return source
