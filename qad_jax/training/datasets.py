"""The datasets that a configuration names."""

from __future__ import annotations

import sys

import ml_collections

from data_builders import build, command_line
from data_builders.errors import UserError
from data_builders.paired import PairedDatasetBuilder
from qad_jax import configs
from qad_jax.runs import hosts
from qad_jax.training.input_pipeline import check_qualities


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
            raise UserError(how_to_build(f"{field}.name", fields, dataset))
        opened[name] = dataset
    for dataset in opened.values():
        was_built = dataset.is_prepared()
        build.prepare(dataset)  # opens what another process has built since
        if not was_built:
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


def how_to_build(
    where: str, fields: ml_collections.ConfigDict, dataset: PairedDatasetBuilder
) -> str:
    """Says that a dataset is not built, with the command that builds it.

    Args:
      where: The field or flag that names it.
      fields: Those of the dataset in a configuration.
      dataset: Its builder.
    """
    needed = {"data_dir": fields.data_dir, **{n: fields[n] or n.upper() for n in dataset.NEEDS}}
    options = [word for option, at in needed.items() if at for word in (f"--{option}", at)]
    command = command_line.command("python", "-m", "data_builders.build", fields.name, *options)
    return f"{where}: {fields.name} is not built in {dataset.data_path.parent}; run: {command}"
