"""The curves of robustness as they are stored and told; needs neither JAX nor a dataset."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_builders.files import write_whole
from qad_jax.evaluation.corruptions import CORRUPTIONS

#: The curve over the dataset's own qualities, which a codec made of whole videos.
H264 = "h264"
#: What the strength of each curve is.
TITLES = {**{name: one.title for name, one in CORRUPTIONS.items()}, H264: "H.264 CRF"}
#: Curves whose smaller strengths are the severe ones.
FALLING = ("jpeg",)


def headline(measured: Mapping[str, Any]) -> str:
    """Which corruption costs the first run most, in a sentence."""
    run = measured["runs"][0]
    clean = run["clean"]["frame"]["auc"]
    lowest = [
        (point["frame"]["auc"], name, point["strength"])
        for name, points in run["curves"].items()
        for point in points
        if name != H264 and point["frame"]["auc"] is not None
    ]
    if clean is None or not lowest:
        return f"AUC under corruptions of {measured['quality']} is not defined."
    auc, name, strength = min(lowest)
    return (
        f"Of what was done to {measured['quality']}, {name} ({TITLES[name]}: {strength:g}) costs "
        f"most: frame AUC {100 * auc:.1f} %, {100 * (clean - auc):.1f} points below "
        f"{100 * clean:.1f} %."
    )


def write(folder: Path, measured: Mapping[str, Any]) -> None:
    """Writes `robustness.json` and `robustness.csv`."""
    lines = io.StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(["run", "corruption", "strength", "level", "auc", "low", "high"])
    for run in measured["runs"]:
        for name, points in run["curves"].items():
            for point in points:
                for level in ("frame", "video"):
                    head = (run["name"], name, point["strength"], level)
                    rows.writerow([*head, *point[level].values()])
    write_whole(folder / "robustness.csv", lines.getvalue())
    write_whole(folder / "robustness.json", json.dumps(measured, indent=2) + "\n")


def read(folder: Path, *, step: int | None) -> dict[str, Any] | None:
    """What was measured of a checkpoint earlier; None where nothing was."""
    try:
        measured: dict[str, Any] = json.loads((folder / "robustness.json").read_text())
    except FileNotFoundError:
        return None
    return measured if measured["runs"][0]["step"] == step else None
