"""The circumstances that a checkpoint records, and which may differ when a run continues."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from data_builders.errors import UserError
from data_builders.paired import PairedDatasetBuilder
from qad_jax.runs import hosts, versions


def circumstances(dataset: PairedDatasetBuilder) -> dict[str, Any]:
    """Data, code and devices of this process, as JSON."""
    return {
        "dataset": dataset.info.full_name,
        "digest": dict((dataset.info.metadata or {}).get("digest") or {}),
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
    if there["dataset"] != here["dataset"]:
        raise UserError(
            f"--workdir: {workdir} holds a run on {there['dataset']}, "
            f"the dataset here is {here['dataset']}; name another folder"
        )
    changed = [split for split, _, _ in _different(there.get("digest"), here.get("digest"))]
    if changed:
        raise UserError(
            f"--workdir: {workdir} holds a run on {there['dataset']} with other records "
            f"(digest of {', '.join(changed)}); name another folder, or the dataset that it was "
            "trained on with config.dataset.data_dir"
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
