"""The report of an evaluation: one HTML page, its figures as PNG, its numbers as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_builders.files import write_csv, write_whole
from qad_jax.evaluation import robustness_curves
from qad_jax.evaluation.report import figures, hardest, page
from qad_jax.evaluation.results import Report
from qad_jax.evaluation.robustness_curves import Robustness
from qad_jax.evaluation.scores import Scores

# How names of figures begin: an image of another name in their folder is the user's.
_FIGURES = ("roc_", "robustness_", "scores_", "reliability_")


def files(folder: Path) -> list[Path]:
    """The files that `write` writes into a folder, and the figures that are there already."""
    place = folder / "figures"
    there = [path for name in _FIGURES for path in sorted(place.glob(f"{name}*.png"))]
    return [folder / "metrics.csv", folder / "report.html", *there]


def remove(folder: Path) -> None:
    """Removes what an earlier evaluation has written: it must not lie beside other numbers.

    A figure may also be of a quality that is not evaluated any more.
    """
    for old in files(folder):
        old.unlink(missing_ok=True)


def write(
    folder: Path,
    report: Report,
    scores: Scores,
    *,
    provenance: Mapping[str, Any],
    images: Callable[[int], npt.NDArray[np.uint8]] | None = None,
    robustness: Robustness | None = None,
    sections: Mapping[str, str] | None = None,
) -> Path:
    """Writes `report.html`, `figures/*.png` and `metrics.csv`.

    Args:
      folder: Where the files go.
      report: The numbers.
      scores: The scores of the frames.
      provenance: What produced the scores, see `origin.describe`.
      images: Gives the `(k, H, W, 3)` crops of a row of `scores`, where there are any.
      robustness: The curves, where they were measured.
      sections: Further sections of the page, see `page.render`.

    Returns:
      The path of the page.
    """
    results = report.summary.qualities
    thresholds = {quality: result.frame.threshold for quality, result in results.items()}
    temperatures = {
        quality: result.calibration.temperature if result.calibration else None
        for quality, result in results.items()
    }
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
    header = ("method", "quality", "level", "items", "number", "value", "low", "high")
    write_csv(folder / "metrics.csv", header, _rows(report))
    path = folder / "report.html"
    clips = hardest.choose(scores, images)
    notes = {"Robustness": robustness_curves.headline(robustness)} if robustness else {}
    write_whole(
        path,
        page.render(
            report,
            figures=drawn,
            notes=notes,
            hardest=clips,
            provenance=provenance,
            sections=sections,
        ),
    )
    return path


def _rows(report: Report) -> Iterator[tuple[Any, ...]]:
    """A row for each method, quality, level and number."""
    methods = {"all": report.summary.qualities, **report.summary.methods}
    for method, results in methods.items():
        for quality, result in results.items():
            for level, items, numbers in result.levels():
                for name, of in numbers.estimates().items():
                    yield method, quality, level, items, name, of.value, of.low, of.high
