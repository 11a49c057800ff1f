"""The mean of what a run learned and of other weights, such as those that it began from.

A run that goes on from a detector on other data learns these, and forgets a little of the first.
The mean of both sets of weights often has what each does better.

References:
  Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
  Wortsman et al., "Model soups", ICML 2022.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_builders.errors import UserError
from data_builders.files import read_json, write_json
from qad_jax.models.localiser import LOCALISER
from qad_jax.runs import checkpoints, new_folder, provenance
from qad_jax.weights import pretrained

#: Of the record of a run, `run.json`: what it was averaged with.
AVERAGED = "averaged_with"


def average(run: Path, other: Path, out: Path, step: int | None = None) -> str:
    """Writes the mean of a run and of other weights as a folder that can be evaluated.

    Args:
      run: The run's folder. Its configuration and its record go with the mean.
      other: Weights of the same model: a file, a model file, or the folder of a run.
      out: The folder to make, in full or not at all; it must be empty or not exist.
      step: The checkpoint of the run; None: the best on validation.

    Returns:
      What was made, in a few words.

    Raises:
      UserError: As `pretrained.of_run` and `pretrained.read`, where the weights are of two
        models, where either has a new head, and where `out` is not empty.
    """
    new_folder.check(out)
    trained = pretrained.of_run(run, step)
    name = trained.config.model.name
    facts: dict[str, Any]
    if other.is_dir():
        more = pretrained.of_run(other)
        if more.config.model.name != name:
            raise UserError(f"--average: {other}: is a run of {more.config.model.name}, not {name}")
        theirs, dropped, facts = more.variables, more.dropped, {"step": more.step}
    else:
        read = pretrained.read(other, name)
        theirs, dropped, facts = read.variables, read.dropped, {"sha256": read.sha256}
    for path, new in ((run, trained.dropped), (other, dropped)):
        if new is not None:
            raise UserError(f"--average: {path}: its head of {new} classes tells no fake from real")
    if jax.tree.map(np.shape, trained.variables) != jax.tree.map(np.shape, theirs):
        has, lacks = (run, other) if LOCALISER in trained.variables else (other, run)
        raise UserError(
            f"--average: {has} has a localiser and {lacks} has none; name weights of a training "
            "with config.localise.weight for both, or for neither"
        )
    mean = jax.tree.map(_mean, trained.variables, theirs)
    record = {**_record(run), AVERAGED: {"file": other.name, **facts}}
    data = checkpoints.data_of(run, trained.step)
    with new_folder.made(out, trained.config) as part:
        checkpoints.save_for_evaluation(part, mean, trained.config, step=trained.step, data=data)
        write_json(part / provenance.FILE, record)
    return f"{out}: the mean of step {trained.step} of {run} and of {other}"


def _mean(one: Any, other: Any) -> Any:
    return ((np.asarray(one, np.float64) + np.asarray(other, np.float64)) / 2).astype(np.float32)


def _record(run: Path) -> dict[str, Any]:
    """The run's record; without one, the mean is nobody's training and can be evaluated alone."""
    try:
        found = read_json(run / provenance.FILE)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
