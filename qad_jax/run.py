"""The two jobs of the command: train and evaluate, from a configuration and a folder."""

from __future__ import annotations

import sys

import jax
import ml_collections
from absl import logging

from data_builders import compilation_cache
from data_builders.errors import UserError
from data_builders.home import expanded
from qad_jax import cpu
from qad_jax.evaluation import inference
from qad_jax.evaluation.evaluate_run import evaluate_run
from qad_jax.models import onednn
from qad_jax.runs import checkpoints, configuration, hosts, state
from qad_jax.training import loop, parallel, preemption
from qad_jax.training.datasets import open_datasets
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
    compilation_cache.keep()
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
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
            fields = "config.batch_size"
            if mode == "train":
                fields += (
                    ", raise config.accumulate_steps, or set config.remat=True or config.model."
                    "dtype=bfloat16, in a new --workdir"
                )
            raise UserError(
                f"the devices have too little memory for this: lower {fields} "
                f"({str(error).splitlines()[0][:200]})"
            ) from error
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
    folder = expanded(workdir).absolute()
    config = configuration.check(config)
    state.check_size(config)
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
        parallel.check(config)
        configuration.check_workdir(config, folder)
        configuration.check_writable(folder)
        on_cpu = jax.default_backend() == "cpu" and config.model.dtype == "bfloat16"
        by_onednn = on_cpu and onednn.wanted(config.model.dtype)
        if on_cpu and (note := cpu.bfloat16_note(onednn=by_onednn)) is not None:
            hosts.say(f"note: config.model.dtype: {note}", file=sys.stderr)
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
            against=None if against is None else expanded(against).absolute(),
        )
    )
