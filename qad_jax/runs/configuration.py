"""Configurations: checked against what they claim, compared, stored as JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from data_builders import files
from data_builders.errors import MISREAD, UserError, nearest
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
# Fields that came later: older runs have their defaults.
_LATER = (
    "dataset.weight",
    "dataset.exclude_methods",
    "augment.crop",
    "augment.colour",
    "augment.lens",
    "augment.turn",
    "augment.warp",
    "augment.overlay",
    "localise.weight",
    "qualities_at_once",
)
# The largest weight in a mixture over the smallest.
_WIDEST_WEIGHTS = 1e6
# JAX draws with 32 bits of a seed: more of them would begin the same network again.
_MOST_SEED = 2**32 - 1
_DTYPES = ("float32", "bfloat16")
#: Which tuples training sees, see `qad_jax.training.sampling.ordered`.
SAMPLINGS = ("natural", "balanced", "pairs", "twins")
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
    "qualities_at_once",
    "num_steps",
    "weight_decay",
    "head_only_epochs",
    "awp.gamma",
    "awp.warmup_epochs",
    "hsic.warmup_epochs",
    "hsic.weight",
    "localise.weight",
    "augment.colour",
    "augment.lens",
    "augment.turn",
    "augment.warp",
    "augment.overlay",
    "ema_decay",
    "early_stop_patience",
    "checkpoint_every_steps",
)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Fields by their full names; those of a mixture's datasets begin with `dataset[0].`."""
    for name, value in values.items():
        if isinstance(value, Mapping | ml_collections.ConfigDict):
            yield from _leaves(value, f"{prefix}{name}.")
        elif name == "dataset" and isinstance(value, list | tuple):
            for i, dataset in enumerate(value):
                yield from _leaves(dataset, f"{prefix}{name}[{i}].")
        else:
            yield prefix + name, value


def _indexless(name: str) -> str:
    """The name of a field without the index of its dataset."""
    return re.sub(r"\[\d+\]", "", name)


def check(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Checks every field in which a mistake would show late or never.

    Args:
      config: As it came from the config file and the command line.

    Returns:
      A frozen copy in which each dataset has all its fields. Qualities and methods are tuples of
      names: the command line gives `raw,c40` as one name.

    Raises:
      UserError: Naming the field.
    """
    config = config.copy_and_resolve_references()
    configs.complete(config)
    known = dict(_leaves(configs.load("common").to_dict()))
    given = dict(_leaves(config.to_dict()))
    for name, value in given.items():
        plain = _indexless(name)
        if plain not in known:
            words = nearest(plain, known).replace("'dataset.", f"'{name.rpartition('.')[0]}.")
            raise UserError(f"config.{name}: there is no such field: {words}")
        wanted = type(known[plain])
        if not isinstance(value, {float: (int, float), tuple: (tuple, list)}.get(wanted, wanted)):
            raise UserError(f"config.{name}: is {value!r}, must be of type {wanted.__name__}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"config.{name}: is {value}, must be a finite number")
    for name in known.keys() - set(map(_indexless, given)):
        raise UserError(f"config.{name}: is missing; build on the packaged configuration 'common'")
    with config.unlocked():
        config.qualities = _names(config.qualities)
        for dataset in configs.datasets(config).values():
            dataset.exclude_methods = tuple(filter(None, _names(dataset.exclude_methods)))
    _check_weights(config)
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
    if config.seed > _MOST_SEED:
        raise UserError(f"config.seed: is {config.seed}, must be at most {_MOST_SEED}")
    qualities = config.qualities
    if not all(qualities) or not qualities or len(set(qualities)) < len(qualities):
        raise UserError(f"config.qualities: {qualities} must be different names, at least one")
    if config.ema_decay >= 1:
        raise UserError(f"config.ema_decay: is {config.ema_decay}, must be below 1")
    if not 0 < config.augment.crop <= 1:
        raise UserError(f"config.augment.crop: is {config.augment.crop}, must be in (0, 1]")
    if config.augment.colour >= 1:
        raise UserError(f"config.augment.colour: is {config.augment.colour}, must be below 1")
    for name, most in (("lens", 0.5), ("turn", 180), ("warp", 0.1), ("overlay", 1)):
        if config.augment[name] > most:
            raise UserError(
                f"config.augment.{name}: is {config.augment[name]}, must be at most {most}"
            )
    in_memory = [field for field, each in configs.datasets(config).items() if each.in_memory]
    if config.augment.crop < 1 and in_memory:
        raise UserError(
            f"{in_memory[0]}.in_memory: images are kept in their final size, and "
            "config.augment.crop can cut no window of them; set one of the two back"
        )
    if config.sampling != "natural" and config.batch_size % 2:
        raise UserError(
            f"config.batch_size: {config.batch_size} tuples cannot be half real, half fake as "
            f"config.sampling {config.sampling!r} has it; {config.batch_size + 1} can"
        )
    if config.localise.weight and config.sampling != "twins":
        raise UserError(
            f"config.localise.weight: needs config.sampling 'twins', which is {config.sampling!r}: "
            "where a fake was changed is seen beside the real image that it was made from"
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
    for weight in config.hsic.layer_weights:
        if not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise UserError(
                f"config.hsic.layer_weights: {weight!r} is no finite number that is 0 or more"
            )
    at_once = config.qualities_at_once or len(qualities)
    if at_once > len(qualities):
        raise UserError(
            f"config.qualities_at_once: is {at_once}, but there are {len(qualities)} "
            "config.qualities"
        )
    if uses_hsic(config):
        if at_once < 2:
            raise UserError(
                "config.hsic.weight: one quality has no other to depend on; set it to 0, or name "
                "two or more config.qualities, of which config.qualities_at_once lets two be seen"
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


def _names(words: Iterable[Any]) -> tuple[str, ...]:
    return tuple(name.strip() for word in words for name in str(word).split(","))


def _check_weights(config: ml_collections.ConfigDict) -> None:
    datasets = configs.datasets(config)
    for field, dataset in datasets.items():
        if not dataset.weight > 0:
            raise UserError(f"{field}.weight: is {dataset.weight}, must be a positive number")
    weights = {field: dataset.weight for field, dataset in datasets.items()}
    least, most = (pick(weights, key=weights.__getitem__) for pick in (min, max))
    if weights[most] / weights[least] > _WIDEST_WEIGHTS:
        raise UserError(
            f"{least}.weight: is {weights[least]}, less than a millionth of {most}.weight, "
            f"{weights[most]}; leave that dataset out, or raise its weight"
        )


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
        there = dict(_leaves(read_json(path)))
    except MISREAD as error:
        raise UserError(f"{path}: is not a configuration; name another --workdir") from error
    here = dict(_leaves(configs.to_dict(config)))
    defaults = dict(_leaves(configs.to_dict(configs.load("common"))))
    # Runs of a mixture are younger than the fields of a dataset.
    later = (name for name in _LATER if "dataset.name" in there or not name.startswith("dataset."))
    there = {**{name: defaults[name] for name in later}, **there}
    different = [
        f"{name} is {there.get(name)!r} there and {here.get(name)!r} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name) and _indexless(name) not in _FREE
    ]
    if different:
        raise UserError(
            f"--workdir: {workdir} holds a run of another configuration "
            f"({'; '.join(different)}); name another folder, or set those fields back to continue "
            "it"
        )


def check_writable(workdir: Path) -> None:
    """Checks that a run's folder can be made or written to; leaves nothing behind.

    Args:
      workdir: The run's folder, which need not exist.

    Raises:
      UserError: Naming the folder that cannot be written.
    """
    files.check_writable(workdir, "--workdir", ("checkpoints", "tensorboard"))


def claim_workdir(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Writes the run's `config.json` where there is none.

    Raises:
      UserError: As `check_workdir`, or where the folder cannot be written.
    """
    check_workdir(config, workdir)
    if not (workdir / "config.json").exists():
        _write(config, workdir)


def renew_workdir(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Writes the run's `config.json` anew where fields differ that may, such as those of paths.

    Args:
      config: That of a run which goes on, so its other fields are those of the file.
      workdir: The run's folder, which `check_workdir` has accepted.

    Raises:
      UserError: Where the folder cannot be written.
    """
    there = dict(_leaves(read_json(workdir / "config.json")))
    here = dict(_leaves(configs.to_dict(config)))
    free = [name for name in there.keys() & here.keys() if _indexless(name) in _FREE]
    if any(there[name] != here[name] for name in free):
        _write(config, workdir)


def _write(config: ml_collections.ConfigDict, workdir: Path) -> None:
    try:
        write_json(workdir / "config.json", configs.to_dict(config))
    except OSError as error:
        raise UserError(f"--workdir: cannot write to {workdir}: {error.strerror}") from error
