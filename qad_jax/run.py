"""The two jobs of the command: train and evaluate, from a configuration and a folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import jax
import ml_collections
from absl import logging

from data_builders import build, command_line
from data_builders.errors import UserError
from data_builders.paired import PairedDatasetBuilder
from qad_jax import configs
from qad_jax.evaluation import inference
from qad_jax.evaluation.evaluate_run import evaluate_run
from qad_jax.runs import checkpoints, configuration, hosts
from qad_jax.training import loop, parallel, preemption
from qad_jax.training.input_pipeline import check_qualities
from qad_jax.weights import pretrained


def run(
    config: ml_collections.ConfigDict,
    workdir: str,
    *,
    mode: str = "train",
    split: str = "test",
    step: int | None = None,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    robustness: bool = False,
    against: str | None = None,
) -> None:
    """Does one job, together with other processes where there are any.

    Args:
      config: The configuration.
      workdir: The run's folder.
      mode: 'train' (and then evaluate the best checkpoint) or 'evaluate'.
      split: What to evaluate on.
      step: Checkpoint to evaluate; None: the best on validation.
      coordinator: See `hosts.connect`, like the next two.
      num_processes: How many processes.
      process_id: Which one this is.
      robustness: Evaluate under corruptions, too.
      against: Folder of a second run whose robustness is measured beside it.

    Raises:
      UserError: For anything the user can mend.
    """
    logging.set_verbosity(logging.ERROR)  # the libraries tell of every folder they look at
    _cache_compilations()
    hosts.connect(coordinator, num_processes, process_id)
    try:
        _run(
            config,
            workdir,
            mode=mode,
            split=split,
            step=step,
            robustness=robustness,
            against=against,
        )
    except preemption.Preempted:  # all of them leave together
        raise
    except BaseException as error:
        hosts.abandon(error)
        if hosts.lost_another(error):
            raise UserError(
                "another process has ended, its own message says why; start all of them again "
                f"to go on from the last checkpoint ({str(error).splitlines()[0]})"
            ) from error
        raise


def _run(
    config: ml_collections.ConfigDict,
    workdir: str,
    *,
    mode: str,
    split: str,
    step: int | None,
    robustness: bool,
    against: str | None,
) -> None:
    folder = Path(workdir).expanduser().absolute()
    config = configuration.check(config)
    if against is not None and not robustness:
        raise UserError("--against: only with --robustness")
    if mode == "train":
        if config.head_only_epochs and not config.model.pretrained:
            hosts.say(
                "note: config.head_only_epochs trains a head on a backbone that config.model."
                "pretrained has not filled; without pretrained weights, set it to 0",
                file=sys.stderr,
            )
        for flag, given in (("step", step is not None), ("robustness", robustness)):
            if given:
                raise UserError(f"--{flag}: only with --mode evaluate")
        # Before a dataset is built, which may take long.
        parallel.check_divides(config.batch_size, config.accumulate_steps)
        configuration.check_workdir(config, folder)
        configuration.check_writable(folder)
        if config.model.pretrained and checkpoints.latest_step(folder) is None:
            imported = pretrained.of_config(config)
            hosts.say(f"{config.model.pretrained}: {imported.summary}", file=sys.stderr)
        with hosts.first_then_others("dataset"):
            datasets = open_datasets(config, may_build=True)
        loop.train(config, folder, datasets, inference.validator(config, datasets))
        if not any(split in dataset.info.splits for dataset in datasets):
            for dataset in datasets:
                hosts.say(f"{dataset.info.full_name} has no {split} split: trained, not evaluated")
            return
    else:
        datasets = open_datasets(config, may_build=False)
    hosts.say(
        evaluate_run(
            config,
            folder,
            datasets,
            split=split,
            step=step,
            with_robustness=robustness,
            against=None if against is None else Path(against).expanduser().absolute(),
        )
    )


def open_datasets(
    config: ml_collections.ConfigDict, *, may_build: bool
) -> list[PairedDatasetBuilder]:
    """Opens the configured datasets, building first those that need nothing from outside.

    None is built before all are known to be there or to be such.

    Args:
      config: The configuration.
      may_build: Whether to build.

    Returns:
      The builders, in the order of the configuration.

    Raises:
      UserError: If one is not built: the message has the command that builds it.
    """
    opened: dict[str, PairedDatasetBuilder] = {}
    for field, fields in configs.datasets(config).items():
        dataset = _builder(field, fields)
        name = dataset.info.full_name
        if name in opened:
            raise UserError(
                f"{field}.name: {name} is in the mixture already; raise its weight there instead"
            )
        check_qualities(dataset, config.qualities)
        if not dataset.is_prepared() and (not may_build or "manual_dir" in dataset.NEEDS):
            raise UserError(_how_to_build(field, fields, dataset))
        opened[name] = dataset
    for dataset in opened.values():
        if not dataset.is_prepared():
            build.prepare(dataset)
            for reason in (dataset.info.metadata or {}).get("skipped", []):
                hosts.say(f"skipped: {reason}", file=sys.stderr)
    return list(opened.values())


def _builder(field: str, fields: ml_collections.ConfigDict) -> PairedDatasetBuilder:
    try:
        return build.builder(
            fields.name,
            data_dir=fields.data_dir,
            manual_dir=fields.manual_dir,
            manifest=fields.manifest,
        )
    except UserError as error:
        if field == "config.dataset":
            raise
        raise UserError(f"{field}: {error}") from error


def _how_to_build(
    field: str, fields: ml_collections.ConfigDict, dataset: PairedDatasetBuilder
) -> str:
    needed = {"data_dir": fields.data_dir, **{n: fields[n] or n.upper() for n in dataset.NEEDS}}
    options = [word for option, at in needed.items() if at for word in (f"--{option}", at)]
    command = command_line.command("python", "-m", "data_builders.build", fields.name, *options)
    return f"{field}.name: {fields.name} is not built in {dataset.data_path.parent}; run: {command}"


def _cache_compilations() -> None:
    """Keeps compiled programs between runs, unless the user has said where or that not."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "qad_jax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
