"""What is needed to repeat a run besides its configuration: versions, devices, data, commit."""

from __future__ import annotations

import contextlib
import datetime
import json
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from data_builders.errors import UserError
from data_builders.paired import PairedDatasetBuilder
from qad_jax.writer import write_whole

FILE = "run.json"
_TREE = Path(__file__).resolve().parents[1]

# The libraries that shape what is computed; jaxlib has the compiler and the kernels.
_LIBRARIES = (
    "qad-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "numpy",
    "opencv-python-headless",
)


def record_start(workdir: Path, dataset: PairedDatasetBuilder, step: int) -> None:
    """Adds a start, or a resumption, of a run to its `run.json`.

    The file holds ``{"dataset", "digest", "starts": [...]}``: the digest of each split where the
    dataset knows it (those that `data_builders.build` has built do), and for every start its time,
    step, command line, versions, devices and commit. What a run was resumed with may differ.

    Args:
      workdir: The run's folder.
      dataset: A builder whose dataset is built.
      step: Where the run starts.

    Raises:
      UserError: Where the file cannot be written.
    """
    if jax.process_index():
        return  # one process writes for all
    path = workdir / FILE
    known = {
        "dataset": dataset.info.full_name,
        "digest": dict((dataset.info.metadata or {}).get("digest") or {}),
        "starts": [*_starts(path), _start(step)],
    }
    try:
        write_whole(path, json.dumps(known, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"--workdir: cannot write to {workdir}: {error.strerror}") from error


def _starts(path: Path) -> list[Any]:
    """Those recorded; a file that somebody else made is replaced, it decides nothing."""
    try:
        starts = json.loads(path.read_text())["starts"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return starts if isinstance(starts, list) else []


def _start(step: int) -> dict[str, Any]:
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "step": step,
        "command": shlex.join(sys.argv),
        "commit": commit(),
        "platform": platform.platform(),
        "versions": packages(),
        "devices": [f"{kind} x {count}" for kind, count in _devices().items()],
        "processes": jax.process_count(),
    }


def packages() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"Python": platform.python_version()}
    for library in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):  # a source tree, not installed
            found[library] = metadata.version(library)
    return found


def _devices() -> dict[str, int]:
    kinds = [device.device_kind for device in jax.devices()]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def commit(tree: Path = _TREE) -> str | None:
    """The git commit of a source tree, '+' behind it where tracked files differ from it.

    Args:
      tree: By default the one that this is run from.

    Returns:
      None where the tree is not a checkout of its own, or there is no git to ask.
    """
    if not (tree / ".git").exists():  # a file in a work tree
        return None
    head, changes = (
        _git(tree, *words) for words in (["rev-parse", "HEAD"], ["status", "-s", "-uno"])
    )
    return f"{head}+" if head and changes else head


def _git(tree: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(tree), *words], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
