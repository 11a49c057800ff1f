"""Robustness: AUC under corruptions of growing strength, and over the CRF of the codec."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from data_builders.paired import PairedDatasetBuilder
from qad_jax.evaluation import metrics
from qad_jax.evaluation.bootstrap import bootstrap, interval
from qad_jax.evaluation.corruptions import CORRUPTIONS
from qad_jax.evaluation.inference import Model
from qad_jax.evaluation.robustness_curves import H264
from qad_jax.evaluation.scores import Scores
from qad_jax.training.input_pipeline import TupleSource
from qad_jax.training.threaded_batches import Pictures

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
