"""Stopping a run at a chosen instant, and comparing it with one that was not stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

DEADLINE_S = 240


def newest(workdir: Path) -> int:
    """Step of the newest whole checkpoint, 0 for none."""
    steps = [p.name for p in (workdir / "checkpoints").glob("*") if p.name.isdecimal()]
    return max(map(int, steps), default=0)


def half_written(workdir: Path) -> list[Path]:
    """Checkpoints that are being saved, or were when their process died."""
    return list((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def rows(workdir: Path) -> list[dict[str, Any]]:
    """All that was logged, in its order, without the one number that is of time."""
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "tuples_per_second"} for row in found]


def wait(process: Popen[Any], reached: Callable[[], Any]) -> None:
    """Until something is there, which the process must live to see."""
    end = time.monotonic() + DEADLINE_S
    while not reached():
        assert process.poll() is None, f"it ended, {process.poll()}, before it was stopped"
        assert time.monotonic() < end, "it does not get on"
        time.sleep(0.0005)


def saved(workdir: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The newest checkpoint."""
    folder = workdir / "checkpoints" / str(newest(workdir))
    checkpointer = ocp.PyTreeCheckpointer()

    def restored(item: Path) -> Any:
        tree = checkpointer.metadata(item).item_metadata.tree
        # Whatever devices it was saved from, which this process need not have.
        args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return checkpointer.restore(item, restore_args=args)

    trees = {name: restored(folder / name) for name in ("params", "batch_stats", "opt_state")}
    data = json.loads((folder / "data" / "metadata").read_text())
    data.pop("commit")  # somebody may commit while the tests run
    return trees, data


def assert_the_same(whole: Path, resumed: Path) -> None:
    """What was logged, what is kept and what was evaluated, to the last bit."""
    assert rows(resumed) == rows(whole)
    assert newest(resumed) == rows(whole)[-1]["step"]
    (trees, data), (trees_again, data_again) = saved(whole), saved(resumed)
    jax.tree.map(np.testing.assert_array_equal, trees, trees_again)
    assert data_again == data
    steps = [{p.name for p in (w / "checkpoints").iterdir()} for w in (whole, resumed)]
    assert steps[0] == steps[1]  # also the best, and nothing half-written
    scores = [(w / "evaluation/test/scores.csv").read_text() for w in (whole, resumed)]
    assert scores[0] == scores[1]
