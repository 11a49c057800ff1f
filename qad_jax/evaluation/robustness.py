"""Robustness: AUC under corruptions of growing strength, and over the CRF of the codec."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from data_builders.paired import PairedDatasetBuilder
from qad_jax.evaluation import metrics
from qad_jax.evaluation.bootstrap import bootstrap, interval
from qad_jax.evaluation.corruptions import CORRUPTIONS
from qad_jax.evaluation.inference import Model
from qad_jax.evaluation.results import Estimate
from qad_jax.evaluation.robustness_curves import H264, Aucs, Point, Robustness, RunCurves
from qad_jax.evaluation.scores import Scores
from qad_jax.training.input_pipeline import TupleSource
from qad_jax.training.threaded_batches import Images

_COLUMNS = tuple((name, s) for name, one in CORRUPTIONS.items() for s in one.strengths)


class CorruptedSource(TupleSource):
    """Records of a split at one quality, decoded once, under every corruption and strength.

    The corrupted images are columns, as the qualities of a tuple are: `qualities` names them.
    """

    def __init__(
        self, dataset: PairedDatasetBuilder, split: str, quality: str, image_size: int
    ) -> None:
        """Opens a split, see `TupleSource`."""
        super().__init__(dataset, split, (quality,), image_size)
        self._quality = quality
        self.qualities = tuple(f"{name} {strength:g}" for name, strength in _COLUMNS)

    def _images(self, index: int, decode: Callable[[str], Images]) -> Iterator[Images]:
        image = decode(self._quality)
        # Each record has noise of its own, the same for every reader and scaled by the strength:
        # two runs, or two strengths, are compared on the same images.
        for name, strength in _COLUMNS:
            yield CORRUPTIONS[name].apply(image, strength, np.random.default_rng([0, index]))


def measure(
    dataset: PairedDatasetBuilder,
    split: str,
    runs: Sequence[tuple[str, Model, Scores]],
    *,
    batch_size: int,
) -> Robustness:
    """Measures the AUC of runs under corruptions of the best quality, and over CRF.

    Args:
      dataset: A builder whose dataset is built.
      split: Its split.
      runs: Name, model and scores of the split for each run; all runs scored the same qualities,
        the best of which is corrupted.
      batch_size: Tuples in a batch, see `inference.predict`; a batch here holds as many images.

    Returns:
      The curves of each run, from harmless to severe; the one over CRF is there where the
      qualities are named by a CRF.
    """
    qualities = runs[0][2].qualities
    best = min(qualities, key=dataset.qualities.index)
    records = max(1, batch_size * len(qualities) // len(_COLUMNS))
    measured = []
    for name, model, scores in runs:
        source = CorruptedSource(dataset, split, best, model.config.image_size)
        corrupted = model.score(source, batch_size=records, label=f"robustness of {name}")
        points: dict[str, list[Point]] = {family: [] for family in CORRUPTIONS}
        for (family, strength), aucs in zip(_COLUMNS, _aucs(corrupted), strict=True):
            points[family].append(Point(strength, aucs))
        own = _aucs(scores)
        crfs = {int(q[1:]): i for i, q in enumerate(qualities) if re.fullmatch(r"c\d{1,2}", q)}
        if crfs:
            points[H264] = [Point(crf, own[crfs[crf]]) for crf in sorted(crfs)]
        curves = {family: tuple(curve) for family, curve in points.items()}
        clean = own[qualities.index(best)]
        measured.append(RunCurves(name, model.step, clean, curves, model.digest()))
    return Robustness(
        dataset.info.full_name, split, best, tuple(measured), dataset.digests.get(split)
    )


def _aucs(scores: Scores) -> list[Aucs]:
    """The AUC of each column, with its interval, at both levels."""
    levels = (_level(level) for level in (scores, scores.videos()))
    return [Aucs(frame, video) for frame, video in zip(*levels, strict=True)]


def _level(scores: Scores) -> list[Estimate]:
    draws = bootstrap(scores.label, scores.score, scores.identity)["auc"]
    return [
        Estimate(metrics.numbers(scores.label, column)["auc"], *interval(drawn))
        for column, drawn in zip(scores.score.T, draws.T, strict=True)
    ]
