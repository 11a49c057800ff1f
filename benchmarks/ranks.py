"""The scores of many runs on one test, in a file that is small enough to be kept with the sources.

The file has the rank of each image among all of the test instead of its score, which is all that
an AUC goes by, and a number instead of the name of each person. So the tables of an ablation, and
their intervals, can be made again by anybody, without the trainings and without the photographs.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data_builders.errors import UserError
from data_builders.files import write_whole
from qad_jax.evaluation.bootstrap import bootstrap, interval
from qad_jax.evaluation.metrics import Array, Ranking
from qad_jax.evaluation.protocol import span
from qad_jax.evaluation.scores import Scores

_RUN = "run "


class Cell(NamedTuple):
    """What a row, one kind of run, gave at one quality of one part of a test.

    Attributes:
      auc: Its AUC, a mean over its seeds.
      drawn: `(r,)` the same of r draws of people.
      seeds: For each of its seeds, how much more its AUC is than that of the base with that seed.
      differences: `(r,)` the mean of these of r draws of people.
    """

    auc: float
    drawn: Array
    seeds: list[float]
    differences: Array

    @property
    def difference(self) -> float:
        """The mean of `seeds`."""
        return float(np.mean(self.seeds))

    @property
    def clear(self) -> bool:
        """The 95 % interval over people does not hold 0, and all seeds have the same sign."""
        low, high = interval(self.differences)
        if low is None or high is None:
            return False
        return (low > 0 and min(self.seeds) > 0) or (high < 0 and max(self.seeds) < 0)


def interval_of(drawn: Array) -> str:
    """The ends of the interval of some draws, in percent, or that there is none."""
    low, high = interval(drawn)
    return "no interval" if low is None else span(low, high)


class Kept(NamedTuple):
    """A test and what runs gave there.

    Attributes:
      qualities: The k qualities.
      label: `(n,)` 0 real, 1 fake.
      method: `(n,)` names of the manipulation.
      identity: `(n,)` a number for each person.
      runs: For each run `(n, k)`, the share of the images at that quality whose score is lower:
        at least 0, below 1.
    """

    qualities: tuple[str, ...]
    label: Array
    method: Array
    identity: npt.NDArray[np.intp]
    runs: dict[str, Array]


def add(path: Path, run: str, found: Scores) -> None:
    """Adds a run to a file, which is made where there is none.

    Args:
      path: The file, `.npz`.
      run: The name of the run.
      found: Its scores.

    Raises:
      UserError: The file is of other images or other qualities.
    """
    about = {
        "qualities": np.asarray(found.qualities),
        "label": found.label.astype(np.uint8),
        "method": np.asarray(found.method),
        "identity": np.unique(found.identity, return_inverse=True)[1].astype(np.uint16),
    }
    content = _content(path) if path.exists() else about
    for name, value in about.items():
        if not np.array_equal(content[name], value):
            raise UserError(f"{path}: it is of another test, by its {name}")
    content[_RUN + run] = np.stack([_ranks(column) for column in found.score.T], axis=1)
    stream = io.BytesIO()
    np.savez_compressed(stream, **content)
    write_whole(path, stream.getvalue())


def read(path: Path) -> Kept:
    """Reads a file that `add` wrote."""
    content = _content(path)
    return Kept(
        qualities=tuple(content["qualities"].tolist()),
        label=content["label"].astype(np.int32),
        method=content["method"],
        identity=content["identity"].astype(np.intp),
        runs={
            name.removeprefix(_RUN): ranks / len(ranks)
            for name, ranks in content.items()
            if name.startswith(_RUN)
        },
    )


def _content(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def _ranks(scores: Array) -> Array:
    """How many scores are lower than each: equal scores have equal ranks."""
    return np.searchsorted(np.sort(scores), scores).astype(np.min_scalar_type(len(scores)))


def cells(
    label: Array, identity: npt.NDArray[np.intp], runs: Mapping[tuple[str, int], Array], base: str
) -> dict[str, Cell]:
    """Compares rows, which are run with several seeds, with one of them.

    All runs share the draws of people, so that differences between them have intervals.

    Args:
      label: `(n,)` 0 real, 1 fake.
      identity: `(n,)` a number for each person.
      runs: For each row and seed `(n,)` scores, or ranks of them.
      base: The row with which the others are compared.

    Returns:
      The cell of each row, of the seeds that the base has, too.
    """
    runs = {(row, seed): of for (row, seed), of in runs.items() if (base, seed) in runs}
    drawn = bootstrap(label, np.stack(list(runs.values()), axis=1), identity)["auc"]
    of_draw = dict(zip(runs, drawn.T, strict=True))
    auc = {run: Ranking(label, of).numbers(np.ones((1, 1)))["auc"][0] for run, of in runs.items()}
    result = {}
    for row in dict.fromkeys(row for row, _ in runs):
        seeds = [seed for name, seed in runs if name == row]
        result[row] = Cell(
            auc=float(np.mean([auc[row, seed] for seed in seeds])),
            drawn=np.mean([of_draw[row, seed] for seed in seeds], axis=0),
            seeds=[auc[row, seed] - auc[base, seed] for seed in seeds],
            differences=np.mean(
                [of_draw[row, seed] - of_draw[base, seed] for seed in seeds], axis=0
            ),
        )
    return result
