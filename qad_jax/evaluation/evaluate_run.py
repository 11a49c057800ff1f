"""Evaluating a checkpoint of a run: scores, what validation chose, numbers, files."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import ml_collections
import numpy as np

from data_builders.errors import UserError
from data_builders.files import write_whole
from data_builders.paired import PairedDatasetBuilder
from qad_jax import configs
from qad_jax.evaluation import calibration, protocol, robustness, robustness_curves
from qad_jax.evaluation import report as reports
from qad_jax.evaluation.calibration import Calibration
from qad_jax.evaluation.inference import Model
from qad_jax.evaluation.report import card, origin
from qad_jax.evaluation.results import Report
from qad_jax.evaluation.scores import Scores
from qad_jax.runs import checkpoints, hosts
from qad_jax.training.input_pipeline import TupleSource
from qad_jax.training.mixture import open_chosen

_VAL = "validation"


def evaluate_run(
    config: ml_collections.ConfigDict,
    workdir: Path,
    datasets: Sequence[PairedDatasetBuilder],
    *,
    split: str,
    step: int | None = None,
    with_robustness: bool = False,
    against: Path | None = None,
) -> str:
    """Evaluates a checkpoint of a run and writes the results into the run's folder.

    The checkpoint decides the model and its image size; the configuration decides the data and
    their qualities, so that a model can be tried on any dataset and quality. In a folder without
    checkpoints, the weights of `config.model.pretrained` are evaluated as they are.

    Args:
      config: The configuration.
      workdir: The run's folder.
      datasets: Builders whose datasets are built. Each that has the split is evaluated for itself.
      split: Name of the split.
      step: Step of the checkpoint; None stands for the best on validation.
      with_robustness: Whether to evaluate the best quality under corruptions, too.
      against: Folder of a second run whose robustness is measured as well.

    Returns:
      For each dataset the table, the sentence on the weakest quality, and the paths of the files.
    """
    names = [dataset.info.full_name for dataset in datasets]
    if config.model.pretrained and step is None and checkpoints.latest_step(workdir) is None:
        model = Model.imported(config, names)
    else:
        model = Model.restore(workdir, names, step)
    if model.config.model.name != config.model.name:
        raise UserError(
            f"config.model.name: {config.model.name!r}, but the checkpoint in {workdir} is of "
            f"{model.config.model.name!r}"
        )
    for field, asked, decided in (
        ("image_size", config.image_size, model.config.image_size),
        ("model.dtype", config.model.dtype, model.config.model.dtype),
    ):
        if asked != decided:
            hosts.say(
                f"note: config.{field} is {asked}, which changes no evaluation: the checkpoint "
                f"decides it, and has {decided}",
                file=sys.stderr,
            )
    # Before anything is scored, so that a folder that cannot be used is reported at once.
    other = None if against is None else (against, Model.restore(against, names))
    return evaluate_model(
        model, config, workdir, datasets, split=split, with_robustness=with_robustness, other=other
    )


def evaluate_model(
    model: Model,
    config: ml_collections.ConfigDict,
    workdir: Path,
    datasets: Sequence[PairedDatasetBuilder],
    *,
    split: str,
    with_robustness: bool = False,
    other: tuple[Path, Model] | None = None,
) -> str:
    """Evaluates a model that is in memory; see `evaluate_run`.

    Args:
      model: The model.
      config: Decides the data, the qualities and the batch size.
      workdir: Where the results go.
      datasets: As `config` names them.
      split: Name of the split.
      with_robustness: Whether to evaluate the best quality under corruptions, too.
      other: Folder and model of a second run whose robustness is measured as well.
    """
    names = [dataset.info.full_name for dataset in datasets]
    without = [dataset for dataset in datasets if split not in dataset.info.splits]
    if len(without) == len(datasets):  # opening one then says which splits there are
        without = []
    for name, (field, fields) in zip(names, configs.datasets(config).items(), strict=True):
        trained_without = _excluded(model, name)
        if name in model.datasets and list(fields.exclude_methods) != trained_without:
            hosts.say(
                f"note: {field}.exclude_methods changes no evaluation: the model was trained "
                f"without {', '.join(trained_without) or 'none'}, and all methods are shown",
                file=sys.stderr,
            )
    texts = []
    parts = []
    for dataset in datasets:
        if dataset in without:
            texts.append(f"{dataset.info.full_name} has no {split} split: not evaluated")
            parts.append(card.Part(dataset))
            continue
        text, part = _evaluate(
            config, workdir, model, dataset, split, with_robustness=with_robustness, other=other
        )
        texts.append(text)
        parts.append(part)
    own = [part for part in parts if part.dataset.info.full_name in model.datasets]
    complete = len(own) == len(model.datasets) and any(part.report for part in own)
    if hosts.is_first() and split == "test" and complete:
        written = card.render(
            own,
            step=model.step,
            trained_on=model.datasets if model.step else None,  # step 0: from elsewhere
            config=configs.to_dict(model.config),
            provenance=origin.describe(),
        )
        write_whole(workdir / "MODEL_CARD.md", written)
    return "\n\n".join(texts)


def _evaluate(
    config: ml_collections.ConfigDict,
    workdir: Path,
    model: Model,
    dataset: PairedDatasetBuilder,
    split: str,
    *,
    with_robustness: bool,
    other: tuple[Path, Model] | None,
) -> tuple[str, card.Part]:
    """Evaluates one dataset; returns what is printed, and the dataset's part of the card."""
    name = dataset.info.full_name
    source = TupleSource(dataset, split, config.qualities, model.config.image_size)
    label = split if len(model.datasets) == 1 else f"{split} of {name}"
    scores = model.score(source, batch_size=config.batch_size, label=label)
    place = workdir / "evaluation" / folder_of(name, model.datasets)
    # One detector on one dataset has its thresholds beside its checkpoints.
    path = (workdir if len(model.datasets) == 1 else place) / "calibration.json"
    weights = model.digest()
    held = scores if split == _VAL else None
    chosen, rule = _calibrate(model, weights, config, path, dataset, held)
    report = Report(
        dataset=name,
        split=split,
        step=model.step,
        summary=protocol.summarise(scores, chosen=chosen),
        threshold_rule=rule,
        digest=dataset.digests.get(split),
        weights=weights,
    )
    folder = place / split
    if with_robustness:
        runs = [(workdir.name, model, scores)]
        if other is not None:
            against, theirs = other
            called = str(against) if against.name == workdir.name else against.name
            their_source = TupleSource(dataset, split, config.qualities, theirs.config.image_size)
            scored = theirs.score(their_source, batch_size=config.batch_size, label=against.name)
            runs.append((called, theirs, scored))
        curves = robustness.measure(dataset, split, runs, batch_size=config.batch_size)
        if hosts.is_first():
            robustness_curves.write(folder, curves)
    page = folder / "report.html"
    if not hosts.is_first():
        return str(page), card.Part(dataset)
    reports.remove(folder)
    protocol.write(folder, scores, report)
    measured = robustness_curves.read(
        folder, step=model.step, weights=weights, digest=report.digest
    )
    known = ", ".join(model.datasets) or "data that are not known"
    facts = origin.describe(
        model=f"{model.config.model.name}, {model.config.model.dtype}",
        checkpoint=f"step {model.step} of {workdir.name}, trained on {known}",
        dataset=name,
        digest=report.digest,
        threshold=rule,
        devices=f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        configuration=configs.to_dict(model.config),
    )
    page = reports.write(
        folder,
        report,
        scores,
        provenance=facts,
        images=lambda row: source[row]["image"],
        robustness=measured,
    )
    fakes = zip(scores.method, scores.label, strict=True)
    methods = sorted({method for method, label in fakes if label})
    text = "\n".join([protocol.table(report), str(folder), protocol.headline(report), str(page)])
    return text, card.Part(dataset, report, methods, measured)


def folder_of(dataset: str, trained_on: Sequence[str]) -> str:
    """The folder of results, but those on the only dataset that the run was trained on."""
    return "" if tuple(trained_on) == (dataset,) else re.sub(r"[^\w.-]+", "-", dataset)


def _calibrate(
    model: Model,
    weights: str,
    config: ml_collections.ConfigDict,
    path: Path,
    dataset: PairedDatasetBuilder,
    validation: Scores | None,
) -> tuple[Calibration | None, str]:
    """Chooses thresholds and temperatures on validation, and says the rule in words.

    They are part of the detector: another dataset is judged by those that were chosen on the
    validation split of the dataset that the detector was trained on. One that was trained on
    several has some for each, and none for another dataset.
    """
    name = dataset.info.full_name
    own = name in model.datasets
    if not model.datasets:
        return None, "0.5: what the model was trained on is not known"
    if not own and len(model.datasets) > 1:
        return None, f"0.5: the model was trained on several datasets, and {name} is none of them"
    # The first process is about to write the file: all processes go by what it reads before.
    stored = calibration.read(path, step=model.step, weights=weights)
    stored = stored if hosts.gather(stored is not None)[0] else None
    if stored and own and stored.dataset != name:
        stored = None
    known = stored.qualities if stored else {}
    if own and (validation is not None or not set(config.qualities) <= set(known)):
        if _VAL not in dataset.info.splits:
            return None, f"0.5: {name} has no validation split to choose one on"
        excluded = _excluded(model, name)
        if validation is None:
            source = open_chosen(
                dataset,
                _VAL,
                config.qualities,
                model.config.image_size,
                exclude_methods=excluded,
            )
            if len(source):
                validation = model.score(source, batch_size=config.batch_size, label=_VAL)
        else:
            validation = validation.take(np.flatnonzero(~np.isin(validation.method, excluded)))
        if validation is None or not len(validation.label):
            without = ", ".join(excluded)
            return None, f"0.5: without {without}, nothing is left of the validation split"
        fitted = calibration.fit(validation, dataset=name, step=model.step)
        # What an earlier call chose for other qualities stays.
        stored = fitted._replace(qualities={**known, **fitted.qualities}, weights=weights)
        if hosts.is_first():
            calibration.write(path, stored)
    if stored is None:
        return None, (
            f"0.5: nothing was chosen on validation yet; evaluate on {model.datasets[0]} first"
        )
    excluded = _excluded(model, stored.dataset)
    without = f" without {', '.join(excluded)}" if excluded else ""
    rule = f"{calibration.RULE} ({stored.dataset}{without})"
    missing = [
        name
        for name in config.qualities
        if name not in stored.qualities or stored.qualities[name].threshold is None
    ]
    return stored, f"{rule}; 0.5 for {', '.join(missing)}" if missing else rule


def _excluded(model: Model, name: str) -> list[str]:
    """The methods that the model was trained without, of one of the datasets it was trained on."""
    trained = dict(zip(model.datasets, configs.datasets(model.config).values(), strict=False))
    return list(trained[name].get("exclude_methods") or ()) if name in trained else []
