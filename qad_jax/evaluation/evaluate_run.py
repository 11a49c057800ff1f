"""Evaluating a checkpoint of a run: scores, what validation chose, numbers, files."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import ml_collections

from data_builders.errors import UserError
from data_builders.files import write_whole
from data_builders.paired import PairedDatasetBuilder
from qad_jax import configs
from qad_jax.evaluation import calibration, protocol, robustness, robustness_curves
from qad_jax.evaluation.calibration import Calibration
from qad_jax.evaluation.inference import Model
from qad_jax.evaluation.report import card, origin
from qad_jax.evaluation.report import write as write_report
from qad_jax.evaluation.results import Report
from qad_jax.evaluation.scores import Scores
from qad_jax.runs import checkpoints, hosts
from qad_jax.training.input_pipeline import TupleSource


def evaluate_run(
    config: ml_collections.ConfigDict,
    workdir: Path,
    dataset: PairedDatasetBuilder,
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
      dataset: A builder whose dataset is built.
      split: Its split.
      step: Step of the checkpoint; None stands for the best on validation.
      with_robustness: Whether to evaluate the best quality under corruptions, too.
      against: Folder of a second run whose robustness is measured as well.

    Returns:
      The table, the sentence on the weakest quality, and the paths of the files.
    """
    name = dataset.info.full_name
    if config.model.pretrained and step is None and checkpoints.latest_step(workdir) is None:
        model = Model.imported(config, name)
    else:
        model = Model.restore(workdir, name, step)
    if model.config.model.name != config.model.name:
        raise UserError(
            f"config.model.name: {config.model.name!r}, but the checkpoint in {workdir} is of "
            f"{model.config.model.name!r}"
        )
    # Before anything is scored, so that a folder that cannot be used is reported at once.
    other = None if against is None else Model.restore(against, name)
    source = TupleSource(dataset, split, config.qualities, model.config.image_size)
    scores = model.score(source, batch_size=config.batch_size, label=split)
    chosen, rule = _calibrate(model, config, workdir, dataset, scores if split == _VAL else None)
    report = Report(
        dataset=name,
        split=split,
        step=model.step,
        summary=protocol.summarise(scores, chosen=chosen),
        threshold_rule=rule,
    )
    folder = workdir / "evaluation" / _folder_of(name, model.dataset) / split
    if with_robustness:
        runs = [(workdir.name, model, scores)]
        if against is not None and other is not None:
            called = str(against) if against.name == workdir.name else against.name
            theirs = TupleSource(dataset, split, config.qualities, other.config.image_size)
            scored = other.score(theirs, batch_size=config.batch_size, label=against.name)
            runs.append((called, other, scored))
        curves = robustness.measure(dataset, split, runs, batch_size=config.batch_size)
        if hosts.is_first():
            robustness_curves.write(folder, curves)
    page = folder / "report.html"
    if not hosts.is_first():
        return str(page)
    protocol.write(folder, scores, report)
    measured = robustness_curves.read(folder, step=model.step)
    facts = origin.describe(
        model=f"{model.config.model.name}, {model.config.model.dtype}",
        checkpoint=f"step {model.step} of {workdir.name}, trained on {model.dataset}",
        dataset=name,
        digest=(dataset.info.metadata or {}).get("digest", {}).get(split),
        threshold=rule,
        devices=f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        configuration=configs.to_dict(model.config),
    )
    page = write_report(
        folder,
        report,
        scores,
        provenance=facts,
        images=lambda row: source[row]["image"],
        robustness=measured,
    )
    if split == "test" and name == model.dataset:
        fakes = zip(scores.method, scores.label, strict=True)
        written = card.render(
            report,
            dataset=dataset,
            trained_on=model.dataset if model.step else None,  # step 0: from elsewhere
            methods=sorted({method for method, label in fakes if label}),
            config=configs.to_dict(model.config),
            provenance=facts,
            measured=measured,
        )
        write_whole(workdir / "MODEL_CARD.md", written)
    return "\n".join([protocol.table(report), str(folder), protocol.headline(report), str(page)])


_VAL = "validation"


def _folder_of(dataset: str, trained_on: str) -> str:
    """The folder of results on another dataset than the one that the run was trained on."""
    return "" if dataset == trained_on else re.sub(r"[^\w.-]+", "-", dataset)


def _calibrate(
    model: Model,
    config: ml_collections.ConfigDict,
    workdir: Path,
    dataset: PairedDatasetBuilder,
    validation: Scores | None,
) -> tuple[Calibration | None, str]:
    """Chooses thresholds and temperatures on validation, and says the rule in words.

    They are part of the detector: another dataset is judged by those that were chosen on the
    validation split of the dataset that the detector was trained on.
    """
    path = workdir / "calibration.json"
    # The first process is about to write the file: all processes go by what it reads before.
    stored = calibration.read(path, step=model.step)
    stored = stored if hosts.gather(stored is not None)[0] else None
    own = dataset.info.full_name == model.dataset
    if stored and own and stored.dataset != model.dataset:
        stored = None
    known = stored.qualities if stored else {}
    if own and (validation is not None or not set(config.qualities) <= set(known)):
        if _VAL not in dataset.info.splits:
            return None, f"0.5: {dataset.info.full_name} has no validation split to choose one on"
        if validation is None:
            source = TupleSource(dataset, _VAL, config.qualities, model.config.image_size)
            validation = model.score(source, batch_size=config.batch_size, label=_VAL)
        fitted = calibration.fit(validation, dataset=model.dataset, step=model.step)
        # What an earlier call chose for other qualities stays.
        stored = fitted._replace(qualities={**known, **fitted.qualities})
        if hosts.is_first():
            calibration.write(path, stored)
    if stored is None:
        return None, (
            f"0.5: nothing was chosen on validation yet; evaluate on {model.dataset} first"
        )
    rule = f"{calibration.RULE} ({stored.dataset})"
    missing = [
        name
        for name in config.qualities
        if name not in stored.qualities or stored.qualities[name].threshold is None
    ]
    return stored, f"{rule}; 0.5 for {', '.join(missing)}" if missing else rule
