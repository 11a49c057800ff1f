"""Macro averages of the matrix: over the datasets that a run has not seen, and over methods.

In a macro average each dataset, or each method, counts the same, whatever its size.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qad_jax.evaluation import scores
from qad_jax.evaluation.bootstrap import affordable, draws, interval, numbered, why_no_interval
from qad_jax.evaluation.matrix_rows import MatrixRow
from qad_jax.evaluation.metrics import Array, Ranking
from qad_jax.evaluation.results import LEVELS, Estimate
from qad_jax.evaluation.scores import Scores

#: Fields of an average as it is stored.
FIELDS = (
    "run",
    "over",
    "dataset",
    "quality",
    "count",
    "names",
    "frame_auc",
    "frame_auc_low",
    "frame_auc_high",
    "video_auc",
    "video_auc_low",
    "video_auc_high",
)
# Items times draws at a time, which bounds the memory.
_BLOCK = 1 << 20

#: The draws of the AUC at a level, of a method or of all together (''), and at a quality.
_Key = tuple[str, str, str]


@dataclasses.dataclass(frozen=True)
class Average:
    """The mean AUC of a run at one quality.

    Attributes:
      run: Name of the run.
      over: 'datasets', those that the run was not trained on; or 'methods', of one dataset.
      dataset: Full name of the dataset whose methods they are; empty for a mean over datasets.
      quality: Name of the quality.
      names: What the mean is over.
      frame: AUC over frames.
      video: AUC over videos.
    """

    run: str
    over: str
    dataset: str
    quality: str
    names: tuple[str, ...]
    frame: Estimate
    video: Estimate

    def auc(self, level: str) -> Estimate:
        """The mean AUC at one of `LEVELS`."""
        return {"frame": self.frame, "video": self.video}[level]

    def as_dict(self) -> dict[str, Any]:
        """The stored form, which is flat: `FIELDS`."""
        return {
            "run": self.run,
            "over": self.over,
            "dataset": self.dataset,
            "quality": self.quality,
            "count": len(self.names),
            "names": ", ".join(self.names),
            **self.frame.as_dict("frame_auc"),
            **self.video.as_dict("video_auc"),
        }


def of_rows(rows: Sequence[MatrixRow]) -> list[Average]:
    """Computes the means of a matrix, each where there are two numbers or more.

    Args:
      rows: Of the matrix. A run is not asked what it was trained on where nobody knows: then all
        datasets count as new to it.

    Returns:
      For each run the means over the methods of each dataset, then those over datasets. What has no
      AUC at a quality is in none of its means. The intervals of a mean over methods come from draws
      of the people of the dataset, which all methods share; those of a mean over datasets from
      draws of the people of each, independent of each other. A mean has none where the scores of
      one of its numbers are not there, or are of one person in all or in a class.
    """
    result: list[Average] = []
    for run in _unique(row.run for row in rows):
        of_run = [row for row in rows if row.run == run]
        datasets = _unique(row.dataset for row in of_run)
        files = {row.dataset: row.scores for row in reversed(of_run)}
        # Made when a mean asks for them: many a matrix has none.
        drawn = functools.cache(
            lambda name, of=files, at=datasets: _draws(of[name], seed=at.index(name))
        )
        for dataset in datasets:
            of_dataset = [row for row in of_run if row.dataset == dataset]
            for quality in _unique(row.quality for row in of_dataset):
                methods = [row for row in of_dataset if row.method and row.quality == quality]
                result += _mean("methods", dataset, methods, drawn)
        for quality in _unique(row.quality for row in of_run):
            strangers = [
                row for row in of_run if row.quality == quality and not (row.own or row.method)
            ]
            result += _mean("datasets", "", strangers, drawn)
    return result


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _mean(
    over: str,
    dataset: str,
    rows: Sequence[MatrixRow],
    drawn: Callable[[str], Mapping[_Key, Array]],
) -> list[Average]:
    """The mean of the rows in a list, which is empty where there are fewer than two."""
    defined = [row for row in rows if all(row.auc(level).value is not None for level in LEVELS)]
    if len(defined) < 2:
        return []
    estimates = {}
    for level in LEVELS:
        values = [row.auc(level).value for row in defined]
        each = [drawn(row.dataset).get((level, row.method, row.quality)) for row in defined]
        known = [draw for draw in each if draw is not None]
        ends: tuple[float | None, float | None] = (None, None)
        if len(known) == len(each):
            fewest = min(map(len, known))
            ends = interval(np.mean([draw[:fewest] for draw in known], axis=0))
        estimates[level] = Estimate(float(np.mean([v for v in values if v is not None])), *ends)
    return [
        Average(
            run=defined[0].run,
            over=over,
            dataset=dataset,
            quality=defined[0].quality,
            names=tuple(row.method or row.dataset for row in defined),
            **estimates,
        )
    ]


def _draws(path: Path | None, *, seed: int) -> Mapping[_Key, Array]:
    """Draws the people of a dataset again and again.

    Args:
      path: The file of scores.
      seed: Another one for each dataset: draws of two datasets of as many people would otherwise be
        the same, and not independent.

    Returns:
      The AUC of each draw by level, method and quality; none where there is no such file, and of
      methods of which draws tell nothing, see `why_no_interval`.
    """
    if path is None or not path.is_file():
        return {}
    frames = scores.read(path)
    levels = dict(zip(LEVELS, (frames, frames.videos()), strict=True))
    replicates = affordable(frames.score.size)
    return {
        (level, *part): values
        for level, of in levels.items()
        for part, values in _draws_of(of, replicates, seed).items()
    }


def _draws_of(of: Scores, replicates: int, seed: int) -> dict[tuple[str, str], Array]:
    people, person = numbered(of.identity)
    names, method_of = numbered(of.method)
    fake = of.label == 1
    parts = {"": np.ones(len(fake), bool)}
    for number in dict.fromkeys(method_of[fake].tolist()):
        parts[names[number]] = ~fake | (method_of == number)
    rankings: dict[tuple[str, str], tuple[Ranking, int]] = {}
    for method, chosen in parts.items():
        if why_no_interval(of.label[chosen], person[chosen]):
            continue
        for quality, column in zip(of.qualities, of.score.T, strict=True):
            if np.isfinite(column[chosen]).all():
                ranking = Ranking(of.label[chosen], column[chosen], person[chosen])
                # It knows of the people up to the last that it has.
                rankings[method, quality] = ranking, int(person[chosen].max()) + 1
    drawn: dict[tuple[str, str], list[Array]] = {key: [] for key in rankings}
    for weights in draws(len(people), replicates, seed, max(1, _BLOCK // len(fake))):
        for key, (ranking, count) in rankings.items():
            drawn[key].append(ranking.numbers(weights[:, :count])["auc"])
    return {key: np.concatenate(blocks) for key, blocks in drawn.items()}
