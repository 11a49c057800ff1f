"""Configurations: checked against what they claim, compared, stored as JSON."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from data_builders.errors import UserError, nearest
from data_builders.files import is_pattern, read_json, write_json
from qad_jax import configs, models
from qad_jax.losses import ESTIMATORS

# Fields that may differ when a run continues: they say where data is and how often to log.
_FREE = {
    "dataset.data_dir",
    "dataset.manual_dir",
    "dataset.manifest",
    "dataset.in_memory",
    "log_every_steps",
    "checkpoint_every_steps",
}
_DTYPES = ("float32", "bfloat16")
#: Which tuples training sees, see `qad_jax.training.sampling.ordered`.
SAMPLINGS = ("natural", "balanced", "pairs")
_POSITIVE = (
    "image_size",
    "batch_size",
    "accumulate_steps",
    "num_epochs",
    "learning_rate",
    "hsic.sigma",
    "log_every_steps",
    "one_cycle.div_factor",
    "one_cycle.final_div_factor",
)
_NOT_NEGATIVE = (
    "seed",
    "num_steps",
    "weight_decay",
    "head_only_epochs",
    "awp.gamma",
    "awp.warmup_epochs",
    "hsic.warmup_epochs",
    "hsic.weight",
    "ema_decay",
    "early_stop_patience",
    "checkpoint_every_steps",
)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def check(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Checks every field in which a mistake would show late or never.

    Args:
      config: As it came from the config file and the command line.

    Returns:
      A frozen copy, with the qualities as a tuple of names: the command line gives `raw,c40` as
      one name.

    Raises:
      UserError: Naming the field.
    """
    known = dict(_leaves(configs.load("common").to_dict()))
    given = dict(_leaves(config.to_dict()))
    for name in given.keys() - known.keys():
        raise UserError(f"config.{name}: there is no such field: {nearest(name, known)}")
    for name in known.keys() - given.keys():
        raise UserError(f"config.{name}: is missing; build on the packaged configuration 'common'")
    for name, value in given.items():
        wanted = type(known[name])
        if not isinstance(value, {float: (int, float), tuple: (tuple, list)}.get(wanted, wanted)):
            raise UserError(f"config.{name}: is {value!r}, must be of type {wanted.__name__}")
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.qualities = tuple(
            name.strip() for quality in config.qualities for name in str(quality).split(",")
        )
    fields = dict(_leaves(config.to_dict()))
    for name in _POSITIVE:
        if not fields[name] > 0:
            raise UserError(f"config.{name}: is {fields[name]}, must be positive")
    for name in _NOT_NEGATIVE:
        if not fields[name] >= 0:
            raise UserError(f"config.{name}: is {fields[name]}, must not be negative")
    for name, choices in [
        ("model.name", models.NAMES),
        ("model.dtype", _DTYPES),
        ("hsic.estimator", ESTIMATORS),
        ("sampling", SAMPLINGS),
    ]:
        if fields[name] not in choices:
            raise UserError(
                f"config.{name}: unknown {fields[name]!r}: {nearest(fields[name], choices)}"
            )
    qualities = config.qualities
    if not all(qualities) or not qualities or len(set(qualities)) < len(qualities):
        raise UserError(f"config.qualities: {qualities} must be different names, at least one")
    if config.ema_decay >= 1:
        raise UserError(f"config.ema_decay: is {config.ema_decay}, must be below 1")
    if config.sampling != "natural" and config.batch_size % 2:
        raise UserError(
            f"config.batch_size: {config.batch_size} tuples cannot be half real, half fake as "
            f"config.sampling {config.sampling!r} has it; {config.batch_size + 1} can"
        )
    if not 0 < config.one_cycle.pct_start < 1:
        raise UserError(
            f"config.one_cycle.pct_start: is {config.one_cycle.pct_start}, must be in (0, 1)"
        )
    if len(config.hsic.layer_weights) != 6:
        raise UserError(
            f"config.hsic.layer_weights: {len(config.hsic.layer_weights)} numbers; a model has six "
            "features (four stages, pooled, logits)"
        )
    if uses_hsic(config):
        if len(qualities) < 2:
            raise UserError(
                "config.hsic.weight: one quality has no other to depend on; set it to 0, or name "
                "two or more config.qualities"
            )
        fewest = ESTIMATORS[config.hsic.estimator]
        if config.batch_size < fewest * config.accumulate_steps:
            parts = ""
            if config.accumulate_steps > 1:
                parts = f" in {config.accumulate_steps} parts (config.accumulate_steps)"
            raise UserError(
                f"config.batch_size: {config.batch_size} tuples{parts}, but hsic.estimator "
                f"{config.hsic.estimator!r} needs at least {fewest} at a time"
            )
    config.lock()
    return config


def uses_hsic(config: ml_collections.ConfigDict) -> bool:
    """Whether the HSIC term has any weight."""
    return config.hsic.weight > 0 and any(config.hsic.layer_weights)


def check_workdir(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Checks that a folder is free, or holds a run of this configuration; writes nothing.

    Args:
      config: The run's configuration.
      workdir: The run's folder.

    Raises:
      UserError: Where the folder belongs to a run of another configuration, naming the fields, or
        holds checkpoints without a configuration, or where checkpoints would be lost in it.
    """
    if is_pattern(workdir):  # Orbax would not find the parts of a checkpoint to put together
        raise UserError(
            f"{workdir}: checkpoints cannot be in a folder with [, * or ? in its path; "
            "name another folder"
        )
    path = workdir / "config.json"
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir: {workdir} is a file, not a folder")
    if not path.exists():
        if (workdir / "checkpoints").exists():
            raise UserError(
                f"--workdir: {workdir} has checkpoints but no config.json; name another folder"
            )
        return
    try:
        stored = read_json(path)
    except ValueError:
        stored = None
    if not isinstance(stored, dict):
        raise UserError(f"{path}: is not a configuration; name another --workdir")
    there, here = dict(_leaves(stored)), dict(_leaves(configs.to_dict(config)))
    different = [
        f"{name} is {there.get(name)!r} there and {here.get(name)!r} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name) and name not in _FREE
    ]
    if different:
        raise UserError(
            f"--workdir: {workdir} holds a run of another configuration "
            f"({'; '.join(different)}); name another folder, or set those fields back to continue "
            "it"
        )


def check_writable(workdir: Path) -> None:
    """Checks that a run's folder can be made or written to; leaves nothing behind.

    Permissions do not tell whether a disk is full or read-only, so a file without a name is
    written.

    Args:
      workdir: The run's folder, which need not exist.

    Raises:
      UserError: Naming the folder that cannot be written.
    """
    try:
        nearest_folder = next(path for path in (workdir, *workdir.parents) if path.exists())
        subfolders = [workdir / name for name in ("checkpoints", "tensorboard")]
        for folder in (nearest_folder, *(path for path in subfolders if path.exists())):
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(b"x")
                probe.flush()
    except OSError as error:
        raise UserError(
            f"--workdir: cannot write to {workdir}: {error.strerror}; name another folder, or "
            "mend that"
        ) from error


def claim_workdir(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Writes the run's `config.json` where there is none.

    Raises:
      UserError: As `check_workdir`, or where the folder cannot be written.
    """
    check_workdir(config, workdir)
    path = workdir / "config.json"
    if path.exists():
        return
    try:
        write_json(path, configs.to_dict(config))
    except OSError as error:
        raise UserError(f"--workdir: cannot write to {workdir}: {error.strerror}") from error
