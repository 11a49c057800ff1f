"""The command `qad-jax`: every job of the project under one name.

Only what a subcommand needs is imported, so that `qad-jax --help` answers at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from data_builders import command_line
from data_builders.errors import nearest
from qad_jax import __version__, cpu


class Command(NamedTuple):
    """A subcommand: what it does, the module whose `main` does it, and what that is told."""

    help: str
    module: str
    settings: dict[str, Any] = {}  # noqa: RUF012 - never changed


COMMANDS: dict[str, Command] = {
    "detect": Command("judge whether the faces of a clip were manipulated", "qad_jax.detect"),
    "serve": Command("the same over HTTP, with a page for people", "qad_jax.serve"),
    "train": Command("train a detector, then evaluate it", "qad_jax.main", {"mode": "train"}),
    "evaluate": Command(
        "evaluate a run on any split, dataset and quality", "qad_jax.main", {"mode": "evaluate"}
    ),
    "build": Command(
        "build a dataset of faces at several qualities, or look at its folder",
        "data_builders.build",
    ),
    "export-dataset": Command(
        "a built dataset to WebDataset shards or Parquet files", "data_builders.sharing.exporting"
    ),
    "import-dataset": Command("and back, bit for bit", "data_builders.sharing.importing"),
    "compare": Command("compare two detectors on what both have scored", "qad_jax.compare"),
    "score": Command("evaluate a file of scores of any detector", "qad_jax.score"),
    "matrix": Command("many runs on many datasets in one table", "qad_jax.matrix"),
    "release": Command(
        "make a model file of an evaluated run, with thresholds, rates and a card",
        "qad_jax.release",
    ),
    "convert": Command(
        "torch weights to a run; a detector to torch weights, ONNX or StableHLO",
        "qad_jax.models.pretrained",
    ),
}


def _usage() -> str:
    wide = max(map(len, COMMANDS)) + 2
    return "\n".join(
        [
            "usage: qad-jax COMMAND [options]",
            "",
            "Deepfake detection on compressed video, with its error rates at each quality.",
            "",
            *(f"  {name:<{wide}}{command.help}" for name, command in COMMANDS.items()),
            "",
            "qad-jax COMMAND --help has the options of a command; qad-jax --version the version.",
        ]
    )


def _job(words: Sequence[str]) -> int:
    name, *rest = words or ["--help"]
    if name in ("--help", "-h"):
        print(_usage())
        return command_line.DONE
    if name == "--version":
        print(f"qad-jax {__version__}")
        return command_line.DONE
    if name not in COMMANDS:
        raise command_line.UsageError(f"no command is called {name!r}: {nearest(name, COMMANDS)}")
    command = COMMANDS[name]
    if command.module in ("qad_jax.main", "qad_jax.matrix"):
        cpu.tune()  # before JAX is imported; the other jobs give the bits of their `python -m` form
    status: int = importlib.import_module(command.module).main(
        rest, prog=f"qad-jax {name}", **command.settings
    )
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns its exit status."""
    return command_line.run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
