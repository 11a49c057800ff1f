"""What repeating a run needs besides its configuration: versions, devices, data, commit."""

from __future__ import annotations

import datetime
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from data_builders.errors import UserError
from data_builders.files import read_json, write_json
from data_builders.paired import PairedDatasetBuilder
from qad_jax.runs import resumption, versions

FILE = "run.json"


def record_start(workdir: Path, datasets: Sequence[PairedDatasetBuilder], step: int) -> None:
    """Adds a start, or a resumption, of a run to its `run.json`.

    The file holds ``{"dataset", "digest", "starts": [...]}``: the data, see `resumption.data_of`,
    and for every start its time, step, command line, versions, devices and commit: they may differ
    from start to start.

    Args:
      workdir: The run's folder.
      datasets: Builders whose datasets are built.
      step: Where the run starts.

    Raises:
      UserError: Where the file cannot be written.
    """
    if jax.process_index():
        return
    path = workdir / FILE
    content = {**resumption.data_of(datasets), "starts": [*_starts(path), _start(step)]}
    try:
        write_json(path, content)
    except OSError as error:
        raise UserError(f"--workdir: cannot write to {workdir}: {error.strerror}") from error


def _starts(path: Path) -> list[Any]:
    """The starts recorded so far; nothing depends on them, so a damaged file is replaced."""
    try:
        starts = read_json(path)["starts"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return starts if isinstance(starts, list) else []


def _start(step: int) -> dict[str, Any]:
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "step": step,
        "command": shlex.join(sys.argv),
        "commit": versions.commit(),
        "platform": platform.platform(),
        "versions": versions.packages(),
        "devices": [f"{kind} x {count}" for kind, count in _devices().items()],
        "processes": jax.process_count(),
    }


def _devices() -> dict[str, int]:
    kinds = [device.device_kind for device in jax.devices()]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}
