"""The built dataset that a benchmark looks at."""

from __future__ import annotations

from collections.abc import Sequence

from data_builders import build
from data_builders.errors import UserError
from data_builders.paired import PairedDatasetBuilder


def opened(
    name: str, data_dir: str, splits: Sequence[str] = ("test",), qualities: Sequence[str] = ()
) -> PairedDatasetBuilder:
    """Opens a dataset.

    Args:
      name: Its name, as for `qad-jax build`.
      data_dir: Where it is.
      splits: Those that it must have.
      qualities: Those that it must have.

    Raises:
      UserError: It is not built there, or it lacks one of them.
    """
    dataset = build.builder(name, data_dir=data_dir)
    if not dataset.is_prepared():
        raise UserError(f"{name} is not built in {data_dir}; name it as qad-jax build has named it")
    for kind, wanted, known in (
        ("split", splits, dataset.info.splits),
        ("quality", qualities, dataset.qualities),
    ):
        if missing := [one for one in wanted if one not in known]:
            raise UserError(f"{name} has no {kind} {missing[0]!r}, only {', '.join(known)}")
    return dataset
