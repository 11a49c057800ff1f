"""Datasets that are built: found by their folders, without the data that they were made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from data_builders.errors import UserError
from data_builders.files import read_json
from data_builders.qualities import check_qualities

if TYPE_CHECKING:
    from data_builders.paired import PairedConfig, PairedDatasetBuilder


def configurations(
    dataset_class: type[PairedDatasetBuilder], data_dir: str | None
) -> dict[str, PairedConfig | None]:
    """Finds the configurations that other recipes or lists have built beside a dataset's own.

    Args:
      dataset_class: The dataset.
      data_dir: Where datasets are; None: the folder of TFDS.

    Returns:
      The configurations by their names. None stands for one whose file is damaged: it cannot be
      opened, and the others can.
    """
    import tensorflow_datasets as tfds

    from data_builders.paired import PairedConfig

    configs: dict[str, PairedConfig | None] = {}
    if "max_skipped" not in dataset_class.OPTIONS:
        return configs
    folder = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser() / dataset_class.name
    for path in folder.glob(f"*/{dataset_class.VERSION}/metadata.json"):
        name = path.parts[-3]
        try:
            configs[name] = PairedConfig(name=name, qualities=qualities_of(path))
        except UserError:
            configs[name] = None
    return configs


def qualities_of(path: Path) -> tuple[str, ...]:
    """The qualities of a built dataset, whose files may come from anybody.

    Args:
      path: Its metadata.json. Where that has no recipe, the features beside it tell, in which raw
        is taken for the best and the others have no order.

    Raises:
      UserError: It is damaged.
    """
    try:
        return _qualities(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is damaged: {error}") from error


def _qualities(path: Path) -> tuple[str, ...]:
    metadata = read_json(path)
    if "recipe" in metadata:
        return check_qualities(metadata["recipe"]["qualities"])
    features = read_json(path.with_name("features.json"))["featuresDict"]["features"]
    names = features["image"]["featuresDict"]["features"]
    return tuple(sorted(names, key=lambda name: (name != "raw", name)))
