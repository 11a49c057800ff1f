"""The circumstances that a checkpoint records, and which may differ when a run continues."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from data_builders.errors import UserError
from data_builders.paired import PairedDatasetBuilder
from qad_jax.runs import hosts, versions


def data_of(datasets: Sequence[PairedDatasetBuilder]) -> dict[str, Any]:
    """What a run was trained on, as JSON.

    Args:
      datasets: Builders whose datasets are built.

    Returns:
      `dataset`, the full name, and `digest`, that of each split where the dataset knows it (those
      that `data_builders.build` has built do). Of a mixture, each is a list.
    """
    names = [dataset.info.full_name for dataset in datasets]
    digests = [dict((dataset.info.metadata or {}).get("digest") or {}) for dataset in datasets]
    if len(datasets) == 1:
        return {"dataset": names[0], "digest": digests[0]}
    return {"dataset": names, "digest": digests}


def names_of(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The full names in what `data_of` gave; none where it does not say."""
    names = data.get("dataset") or ()
    return (names,) if isinstance(names, str) else tuple(map(str, names))


def circumstances(datasets: Sequence[PairedDatasetBuilder]) -> dict[str, Any]:
    """Data, code and devices of this process, as JSON."""
    return {
        **data_of(datasets),
        "versions": versions.packages(),
        "commit": versions.commit(),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    }


def check(there: Mapping[str, Any], here: Mapping[str, Any], workdir: Path) -> None:
    """Refuses other data; names other code, libraries and devices in one line on stderr.

    What a checkpoint of an older version does not record is not compared.

    Args:
      there: The item `data` of the checkpoint.
      here: The circumstances of this process, see `circumstances`.
      workdir: The run's folder, for messages.

    Raises:
      UserError: Where the dataset is another one or its records differ.
    """
    names = names_of(there)
    if names != names_of(here):
        raise UserError(
            f"--workdir: {workdir} holds a run on {', '.join(names)}, "
            f"the dataset here is {', '.join(names_of(here))}; name another folder"
        )
    for i, name in enumerate(names):
        changed = [split for split, _, _ in _different(_digest(there, i), _digest(here, i))]
        if changed:
            field = "config.dataset" if len(names) == 1 else f"config.dataset[{i}]"
            raise UserError(
                f"--workdir: {workdir} holds a run on {name} with other records "
                f"(digest of {', '.join(changed)}); name another folder, or the dataset that it "
                f"was trained on with {field}.data_dir"
            )
    flat = [
        {**held.get("versions", {}), **{name: held.get(name) for name in ("commit", "devices")}}
        for held in (there, here)
    ]
    if notes := [f"{name} {then}, now {now}" for name, then, now in _different(*flat)]:
        hosts.say(
            f"note: step {there['batches']} was saved with {'; '.join(notes)}: what follows may "
            "differ in the last bits from an uninterrupted run",
            file=sys.stderr,
        )


def _digest(data: Mapping[str, Any], number: int) -> Mapping[str, Any] | None:
    """The digests of one of the datasets, see `data_of`."""
    digest = data.get("digest")
    return digest[number] if isinstance(digest, list) else digest


def _different(
    there: Mapping[str, Any] | None, here: Mapping[str, Any] | None
) -> list[tuple[str, Any, Any]]:
    """Names for which both sides have a value, and not the same one, with both values."""
    there, here = there or {}, here or {}
    return [
        (name, there[name], here[name])
        for name in there
        if there[name] and here.get(name) and there[name] != here[name]
    ]
