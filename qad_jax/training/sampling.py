"""The tuples that training sees, and their order: natural, balanced, or in real/fake pairs.

Every order is random access: the record at a place of the stream depends only on the seed and the
place, so a run can continue anywhere without reading what came before.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import grain
import numpy as np
import numpy.typing as npt

from data_builders.errors import UserError
from data_builders.records import LABELS
from qad_jax.runs import hosts
from qad_jax.training.augmentation import PLAIN, View
from qad_jax.training.threaded_batches import Images

# Indices into LABELS.
_REAL, _FAKE = range(len(LABELS))


class Moment(NamedTuple):
    """What a record shows, whether real or fake.

    Attributes:
      video: Name of the video; a fake's may go on after a `_`, with where the face comes from.
      frame: Index of the frame in it.
      box: Edges of the crop, in pixels of the frame.
    """

    video: str
    frame: int
    box: tuple[float, ...]


class Records(Protocol):
    """What the order needs of a split."""

    def __len__(self) -> int: ...

    def labels_and_identities(self) -> tuple[npt.NDArray[np.int32], list[str]]:
        """Labels and identities of all records, in order."""
        ...

    def moments(self) -> list[Moment]:
        """Video, frame and box of all records, in order."""
        ...


class Source(Protocol):
    """What training batches are made from: one split, see `TupleSource`, or a mixture of several.

    Attributes:
      shape: Shape of a tuple's images: `(Q, H, W, 3)`.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a tuple's images."""
        ...

    def __len__(self) -> int: ...

    def fill(self, index: int, row: Images, *, view: View = PLAIN) -> dict[str, Any]:
        """Decodes a tuple."""
        ...

    def ordered(self, sampling: str, seed: int) -> Sequence[int]:
        """Puts the indices of tuples in the order of training."""
        ...


def batches_in(tuples: int, batch_size: int) -> int:
    """Counts the full batches of an epoch.

    Raises:
      UserError: Where the split is smaller than a batch.
    """
    if tuples < batch_size:
        raise UserError(
            f"config.batch_size: {batch_size} tuples are more than the {tuples} of the train split"
        )
    return tuples // batch_size


def ordered(
    source: Records, sampling: str, seed: int, *, of: str = "the train split"
) -> grain.MapDataset:
    """Puts the records of a split in the order of training.

    * ``natural``: every record once an epoch, shuffled anew in each.
    * ``balanced``: fake and real in turn. Each class is shuffled anew when it is used up, so the
      records of the smaller class repeat more often.
    * ``pairs``: a fake, then a real record of its identity, drawn anew each time. Every fake comes
      once before any repeats. Identities without a real or without a fake record are left out, and
      a line on stderr counts them.
    * ``twins``: a fake, then the real record that it was made from: of the same frame and box, and
      of the same video or of that which the fake's name begins with, as `000_003` does with `000`.
      Fakes without one are left out, and a line on stderr counts them.

    Args:
      source: The split.
      sampling: One of `configuration.SAMPLINGS`.
      seed: Seed of the order.
      of: What the split is called in messages.

    Returns:
      Indices of records by place. All but ``natural`` are endless; from an even place, an even
      number of records holds as many real as fake ones.

    Raises:
      UserError: Where the split has no real or no fake record, for ``pairs`` no identity with
        both, or for ``twins`` no fake with its real.
    """
    if sampling == "natural":
        return grain.MapDataset.range(len(source)).seed(seed).shuffle()
    labels, identities = source.labels_and_identities()
    classes = [np.flatnonzero(labels == label).tolist() for label in (_REAL, _FAKE)]
    for name, indices in zip(LABELS, classes, strict=True):
        if not indices:
            raise UserError(
                f"config.sampling: {sampling!r}, but {of} has no {name} tuple; set it to 'natural'"
            )
    reals, fakes = _endless(classes[_REAL], seed), _endless(classes[_FAKE], seed + 1)
    if sampling in ("pairs", "twins"):
        if sampling == "pairs":
            partners = _partners(classes[_REAL], classes[_FAKE], identities, of)
        else:
            partners = _twins(classes[_REAL], classes[_FAKE], source.moments(), of)
        fakes = _endless([fake for fake in classes[_FAKE] if fake in partners], seed + 1)
        reals = fakes.random_map(_Partner(partners))
    return grain.MapDataset.mix([fakes, reals])


def _endless(indices: list[int], seed: int) -> grain.MapDataset:
    return grain.MapDataset.source(indices).seed(seed).shuffle().repeat()


class _Partner(grain.transforms.RandomMap):
    """From a fake to one of the real records that suit it."""

    def __init__(self, partners: dict[int, list[int]]) -> None:
        self._partners = partners

    def random_map(self, element: int, rng: np.random.Generator) -> int:
        choices = self._partners[element]
        return choices[rng.integers(len(choices))]


def _partners(
    reals: list[int], fakes: list[int], identities: list[str], of: str
) -> dict[int, list[int]]:
    """The real records of the same identity for each fake that has any."""
    of_identity: dict[str, list[int]] = collections.defaultdict(list)
    for real in reals:
        of_identity[identities[real]].append(real)
    both = of_identity.keys() & {identities[fake] for fake in fakes}
    if not both:
        raise UserError(
            f"config.sampling: 'pairs', but no identity of {of} has both real and fake tuples; set "
            "it to 'balanced'"
        )
    if alone := set(identities) - both:
        hosts.say(
            f"note: config.sampling 'pairs' leaves out {len(alone)} of {len(set(identities))} "
            f"identities of {of}, which do not have both real and fake tuples",
            file=sys.stderr,
        )
    return {fake: of_identity[identities[fake]] for fake in fakes if identities[fake] in both}


def _twins(
    reals: list[int], fakes: list[int], moments: Sequence[Moment], of: str
) -> dict[int, list[int]]:
    """The real record that each fake was made from, of those that have one."""
    real_at = {moments[real]: [real] for real in reals}
    twins = {}
    for fake in fakes:
        moment = moments[fake]
        target = moment._replace(video=moment.video.partition("_")[0])
        if found := real_at.get(moment) or real_at.get(target):
            twins[fake] = found
    if not twins:
        raise UserError(
            f"config.sampling: 'twins', but no fake tuple of {of} has a real one of the same "
            "video, frame and box; set it to 'pairs'"
        )
    if alone := len(fakes) - len(twins):
        hosts.say(
            f"note: config.sampling 'twins' leaves out {alone} of {len(fakes)} fake tuples of "
            f"{of}, which have no real one of the same video, frame and box",
            file=sys.stderr,
        )
    return twins
