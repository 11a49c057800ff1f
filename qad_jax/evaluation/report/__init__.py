"""The report of an evaluation: one HTML page, its figures as PNG, its numbers as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_builders.files import write_whole
from qad_jax.evaluation import metrics, robustness_curves
from qad_jax.evaluation.report import figures, hardest, page
from qad_jax.evaluation.scores import Scores


def write(
    folder: Path,
    report: Mapping[str, Any],
    scores: Scores,
    *,
    provenance: Mapping[str, Any],
    pictures: Callable[[int], npt.NDArray[np.uint8]] | None = None,
    robustness: Mapping[str, Any] | None = None,
) -> Path:
    """Writes `report.html`, `figures/*.png` and `metrics.csv`.

    Args:
      folder: Where.
      report: What `metrics.json` holds.
      scores: Of the frames.
      provenance: What made the scores.
      pictures: Row of `scores` to the `(k, H, W, 3)` crops of the frame, where there are any.
      robustness: What `robustness.json` holds, where it was measured.

    Returns:
      The page.
    """
    entries = report["qualities"]
    thresholds = {quality: entry["frame"]["threshold"] for quality, entry in entries.items()}
    temperatures = {q: entry["calibration"]["temperature"] for q, entry in entries.items()}
    drawn = {
        "ROC curves": [
            figure
            for level, part in (("frame", scores), ("video", scores.videos()))
            if (figure := figures.roc(part, level))
        ],
        "Robustness": figures.robustness(robustness) if robustness else [],
        "Scores": figures.histograms(scores, thresholds),
        "Reliability": figures.reliability(scores, temperatures),
    }
    for figure in (figure for section in drawn.values() for figure in section):
        write_whole(folder / "figures" / f"{figure.name}.png", figure.png)
    write_whole(folder / "metrics.csv", _rows(report))
    path = folder / "report.html"
    clips = hardest.choose(scores, pictures)
    notes = {"Robustness": robustness_curves.headline(robustness)} if robustness else {}
    write_whole(
        path,
        page.render(report, figures=drawn, notes=notes, hardest=clips, provenance=provenance),
    )
    return path


def _rows(report: Mapping[str, Any]) -> str:
    """The numbers as a table: a row for each method, quality, level and number."""
    lines = io.StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(["method", "quality", "level", "items", "number", "value", "low", "high"])
    for method, entries in {"all": report["qualities"], **report["methods"]}.items():
        for quality, entry in entries.items():
            for level, items in (("frame", entry["frames"]), ("video", entry["videos"])):
                for name in metrics.NAMES:
                    found = (entry[level][f"{name}{end}"] for end in ("", "_low", "_high"))
                    rows.writerow([method, quality, level, items, name, *found])
    return lines.getvalue()
