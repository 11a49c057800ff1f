"""Robustness: AUC under corruptions of growing strength, and over the CRF of the codec."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_builders.paired import PairedDatasetBuilder
from qad_jax import metrics
from qad_jax.corruptions import CORRUPTIONS
from qad_jax.input_pipeline import TupleSource
from qad_jax.intervals import bootstrap, interval
from qad_jax.reading import Pictures
from qad_jax.scores import Scores
from qad_jax.writer import write_whole

if TYPE_CHECKING:
    from qad_jax.evaluation import Model

#: The curve over the dataset's own qualities, which a codec made of whole videos.
H264 = "h264"
#: What the strength of each curve is.
TITLES = {**{name: one.title for name, one in CORRUPTIONS.items()}, H264: "H.264 CRF"}
#: Curves whose smaller strengths are the severe ones.
FALLING = ("jpeg",)
_COLUMNS = tuple((name, s) for name, one in CORRUPTIONS.items() for s in one.strengths)


class CorruptedSource(TupleSource):
    """Records of a split at one quality, decoded once, under every corruption and strength.

    As a tuple's other qualities, its corrupted pictures are columns: `qualities` are their names.
    """

    def __init__(
        self, dataset: PairedDatasetBuilder, split: str, quality: str, image_size: int
    ) -> None:
        """Opens a split, see `TupleSource`."""
        super().__init__(dataset, split, (quality,), image_size)
        self._quality = quality
        self.qualities = tuple(f"{name} {strength:g}" for name, strength in _COLUMNS)

    def _pictures(self, index: int, decode: Callable[[str], Pictures]) -> Iterator[Pictures]:
        image = decode(self._quality)
        # Noise is the record's own, the same whoever reads it and scaled by the strength, so that
        # two runs and two strengths are compared on the same pictures.
        for name, strength in _COLUMNS:
            yield CORRUPTIONS[name].apply(image, strength, np.random.default_rng([0, index]))


def measure(
    dataset: PairedDatasetBuilder,
    split: str,
    runs: Sequence[tuple[str, Model, Scores]],
    *,
    batch_size: int,
) -> dict[str, Any]:
    """Measures the AUC of runs under corruptions of the best quality, and over CRF.

    Args:
      dataset: A builder whose dataset is built.
      split: Its split.
      runs: Name, model and scores of the split for each run; all scored the same qualities, the
        first of which is corrupted.
      batch_size: Tuples at a time, see `evaluate.predict`; as many pictures are in a batch here.

    Returns:
      A dictionary of this form.
      `{"dataset", "split", "quality", "runs": [{"name", "step", "clean": {...}, "curves": {name:
      [{"strength": s, ...}]}}]}`, each `...` with "frame" and "video", which hold "auc",
      "auc_low" and "auc_high". Curves go from harmless to severe. "h264" is there where the
      qualities are named by a CRF.
    """
    qualities = runs[0][2].qualities
    records = max(1, batch_size * len(qualities) // len(_COLUMNS))
    found = []
    for name, model, scores in runs:
        source = CorruptedSource(dataset, split, qualities[0], model.config.image_size)
        corrupted = model.score(source, batch_size=records, label=f"robustness of {name}")
        curves: dict[str, list[dict[str, Any]]] = {family: [] for family in CORRUPTIONS}
        for (family, strength), point in zip(_COLUMNS, _points(corrupted), strict=True):
            curves[family].append({"strength": strength, **point})
        points = _points(scores)
        crfs = {int(q[1:]): i for i, q in enumerate(qualities) if re.fullmatch(r"c\d{1,2}", q)}
        if crfs:
            curves[H264] = [{"strength": crf, **points[crfs[crf]]} for crf in sorted(crfs)]
        found.append({"name": name, "step": model.step, "clean": points[0], "curves": curves})
    return {
        "dataset": dataset.info.full_name,
        "split": split,
        "quality": qualities[0],
        "runs": found,
    }


def _points(scores: Scores) -> list[dict[str, Any]]:
    """AUC with its interval at both levels, for each column."""
    points: list[dict[str, Any]] = [{} for _ in scores.qualities]
    for level, part in (("frame", scores), ("video", scores.videos())):
        draws = None
        if len(set(part.identity)) > 1:
            draws = bootstrap(part.label, part.score, part.identity)["auc"]
        for i, column in enumerate(part.score.T):
            low, high = (None, None) if draws is None else interval(draws[:, i])
            auc = metrics.numbers(part.label, column)["auc"]
            points[i][level] = {"auc": auc, "auc_low": low, "auc_high": high}
    return points


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
