"""What a release is made of beside the run: results, what is told of it, and groups of people.

See `qad_jax.evaluation.release`.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from data_builders import command_line
from data_builders.errors import UserError, nearest
from data_builders.files import is_number, read_json, unmarked
from data_builders.lists import one_form, read_text
from qad_jax import configs
from qad_jax.evaluation import compare, scores
from qad_jax.evaluation.scores import Scores
from qad_jax.runs import checkpoints

#: What `qad_jax.detection.conditions.Conditions` and `detection.marks.Marks` read, which lie above.
CONDITIONS = (
    "smallest_face",
    "least_sharpness",
    "largest_turn",
    "most_compression",
    "largest_tilt",
)
MARKS = ("right", "found", "false")


def results(path: Path, split: str, *, run: Path, step: int, weights: str) -> tuple[Scores, str]:
    """Reads the scores of a checkpoint.

    Args:
      path: A folder of results or a file of scores, see `compare.find`.
      split: Name of the split, for where a run's folder is given.
      run: Folder of the run that is released.
      step: Step of the checkpoint whose weights are released.
      weights: Digest of these weights.

    Returns:
      The scores, and the full name of the dataset that they are of.

    Raises:
      UserError: There are none, they are of another checkpoint or do not say of which, or one is no
        number.
    """
    file = compare.find(path, split)
    beside = file.with_name("metrics.json")
    command = command_line.command(
        "qad-jax", "evaluate", run, "--split", split, "--step", str(step)
    )
    try:
        told = read_json(beside)
        found, dataset, digest = told["step"], told["dataset"], told.get("weights")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{beside}: does not tell of which checkpoint the scores are; run: {command}"
        ) from error
    if found != step:
        of = "those of another tool" if found is None else f"of step {found}"
        raise UserError(
            f"{beside}: the scores are {of}, and the weights of step {step}; run: {command}"
        )
    if digest not in (None, weights):  # older files do not tell it
        raise UserError(
            f"{beside}: the scores are of other weights of step {step} than those of {run}; "
            f"run: {command}"
        )
    read = scores.read(file)
    if odd := int(np.sum(~np.isfinite(read.score))):
        raise UserError(f"{path}: {odd} scores are not numbers; evaluate the run again")
    return read, str(dataset)


def without_excluded(
    read: Scores, dataset: str, *, run: Path, step: int, config: ml_collections.ConfigDict
) -> Scores:
    """Leaves out the methods that a checkpoint was trained without.

    Args:
      read: Scores on a validation split.
      dataset: Full name of the dataset that they are of.
      run: The run's folder.
      step: Step of the checkpoint.
      config: The configuration of the training.
    """
    names = checkpoints.datasets_of(run, step)
    trained = dict(zip(names, configs.datasets(config).values(), strict=False))
    excluded = list(trained[dataset].exclude_methods) if dataset in trained else []
    return read.take(np.flatnonzero(~np.isin(read.method, excluded))) if excluded else read


def about(path: Path) -> dict[str, Any]:
    """Reads what a person tells of a detector, see `release.release`.

    Raises:
      UserError: Something is missing, or cannot be in a model file.
    """
    try:
        told = read_json(path)
        for name in ("name", "version"):
            if not isinstance(told[name], str):
                raise TypeError(f"{name} is no text")
        for source in told["sources"]:
            if not {"title", "licence"} <= source.keys():
                raise ValueError("each of the sources needs a title and a licence")
        for name, value in (told.get("conditions") or {}).items():
            if name not in CONDITIONS:  # a bound that nobody reads would hold nothing
                raise ValueError(f"there is no condition {name!r}: {nearest(name, CONDITIONS)}")
            if not is_number(value):
                raise ValueError(f"the condition {name} is {value!r}, no finite number")
        for quality, shares in (told.get("localisation") or {}).items():
            known = all(is_number(shares.get(name)) and 0 <= shares[name] <= 1 for name in MARKS)
            if shares.keys() != set(MARKS) or not known:
                raise ValueError(
                    f"the localisation at {quality} must be {', '.join(MARKS)}, from 0 to 1 each"
                )
        json.dumps(told, allow_nan=False)  # as the file holds it
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"--about: {path}: {reason}") from error
    return dict(told)


def groups_of(path: Path, key: str) -> dict[str, dict[str, str]]:
    """Reads a CSV file with a column for who or what it is, and one for each way of grouping.

    Args:
      path: The file.
      key: Name of the first: `identity` or `video`.

    Returns:
      For each other column the group of each; where it is empty, it is in none.

    Raises:
      UserError: The file cannot be read, has no such columns, or names two groups of one.
    """
    text = io.StringIO(read_text(path, "list of groups"), newline="")
    try:
        rows = list(csv.DictReader(text))
    except csv.Error as error:
        raise UserError(
            f"{path}: cannot be read: {error}; look for a quote without an end"
        ) from error
    columns = [name for name in (rows[0] if rows else ()) if name and name != key]
    if not columns or key not in rows[0]:
        raise UserError(f"{path}: needs a column {key} and at least one more, and a row")
    groups: dict[str, dict[str, str]] = {column: {} for column in columns}
    for row in rows:
        name = one_form(unmarked(row[key] or ""))
        for column in columns:
            group = row[column]
            if name and group and groups[column].setdefault(name, group) != group:
                raise UserError(
                    f"{path}: {name} has two groups in the column {column}, "
                    f"{groups[column][name]!r} and {group!r}; keep one"
                )
    return groups
