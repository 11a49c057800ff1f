"""Datasets that are built: found by their folders, without the data that they were made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_builders.errors import UserError, nearest
from data_builders.files import read_json
from data_builders.home import check_encoding
from data_builders.qualities import check_qualities, is_name

if TYPE_CHECKING:
    from data_builders.paired import PairedConfig, PairedDatasetBuilder


def open_built(
    dataset_class: type[PairedDatasetBuilder],
    config: str,
    place: Path,
    needed: Mapping[str, Any],
    recipe: Mapping[str, Any],
) -> PairedDatasetBuilder:
    """Makes the builder of a dataset, which needs what it was made of unless `config` names it.

    Args:
      dataset_class: The dataset.
      config: A configuration of it, or one that another recipe or list has built; '' is the first.
      place: Where datasets are on this machine.
      needed: What the class needs besides.
      recipe: See `video_builder.VideoDatasetBuilder`.

    Raises:
      UserError: There is no such configuration, it is damaged, or it is built and a recipe is
        given; or no dataset can be in this place.
    """
    check_encoding(place, "--data_dir")
    base, configs = dataset_class.name, {known.name for known in dataset_class.BUILDER_CONFIGS}
    if not config or config in configs:
        return dataset_class(data_dir=str(place), config=config or None, **needed, **recipe)
    built = configurations(dataset_class, place)
    if config in built and recipe:
        raise UserError(
            f"{', '.join(map(flag_of, recipe))}: {base}/{config} is built already; leave this out"
        )
    if config in built:
        chosen, version = built[config]
        if chosen is None:
            raise UserError(
                f"{base}/{config}: its metadata.json is damaged; remove its folder in {place} and "
                "build it again"
            )
        return dataset_class(data_dir=str(place), config=chosen, version=version, **needed)
    known = [*configs, *built]
    raise UserError(
        f"dataset {base!r} has no configuration {config!r}: "
        + (nearest(config, known) if known else "it has none, and no other recipe is built")
    )


def flag_of(field: str) -> str:
    """The option of the command that is for a field of a recipe."""
    return f"--{'faces' if field == 'face_source' else field}"


def versions_of(dataset_class: type[PairedDatasetBuilder], config: str) -> tuple[str, ...]:
    """The versions of which `open_built` opens a configuration, the present one first."""
    own = {known.name for known in dataset_class.BUILDER_CONFIGS}
    earlier = () if config in own else dataset_class.SUPPORTED_VERSIONS
    return tuple(map(str, (dataset_class.VERSION, *earlier)))


def check_records(dataset: PairedDatasetBuilder) -> None:
    """Raises a UserError where a copied dataset does not have the records of its digests."""
    from data_builders.digest import changed

    if split := changed(dataset, dataset.digests):
        raise UserError(
            f"{dataset.info.full_name}: the digest of the {split} split is not the one in its "
            "metadata.json; copy the dataset to the bucket again"
        )


def configurations(
    dataset_class: type[PairedDatasetBuilder], place: Path
) -> dict[str, tuple[PairedConfig | None, str]]:
    """Finds the configurations that other recipes or lists have built beside a dataset's own.

    Args:
      dataset_class: The dataset.
      place: Where datasets are.

    Returns:
      By its name each configuration, with its version: the present one where it is there, else an
      earlier one that is supported yet. None stands for a configuration whose file is damaged: it
      cannot be opened, and the others can.
    """
    from data_builders.paired import PairedConfig

    configs: dict[str, tuple[PairedConfig | None, str]] = {}
    if "max_skipped" not in dataset_class.OPTIONS:
        return configs
    folder = place / dataset_class.name
    versions = versions_of(dataset_class, "")
    for version, path in ((v, at) for v in versions for at in folder.glob(f"*/{v}/metadata.json")):
        name = path.parts[-3]
        if name in configs:
            continue
        try:
            configs[name] = PairedConfig(name=name, qualities=qualities_of(path)), version
        except UserError:
            configs[name] = None, version
    return configs


def qualities_of(path: Path) -> tuple[str, ...]:
    """The qualities of a built dataset, whose files may come from anybody.

    Args:
      path: Its metadata.json. Where that names no qualities, as of older datasets, the features
        beside it tell, in which raw is taken for the best and the others have no order.

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
    if not all(map(is_name, names)):
        raise ValueError("a quality of its features.json is no name")
    ordered = metadata.get("qualities", sorted(names, key=lambda name: (name != "raw", name)))
    if sorted(ordered) != sorted(names):
        raise ValueError("its qualities are not those of its features.json")
    return tuple(ordered)
