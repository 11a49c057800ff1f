"""The configurations that come with the package, by name.

In a checkout they lie in `configs/` at the top; in an installed package they are part of it. A
configuration of one's own begins with one of them::

    from qad_jax import configs


    def get_config():
        config = configs.load("common")
        config.learning_rate = 1e-4
        return config
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections

from data_builders.errors import MISREAD, UserError, nearest
from data_builders.files import read_json
from data_builders.home import expanded

#: The file in the folder of a run that holds its configuration.
STORED = "config.json"
_HERE = Path(__file__).resolve().parent
# A file of configuration whose argument is a stored one.
_READER = _HERE / "stored_config.py"


def folder() -> Path:
    """Where the packaged configurations lie."""
    installed = _HERE / "_configs"
    return installed if installed.is_dir() else _HERE.parent / "configs"


def names() -> list[str]:
    """Names of the packaged configurations."""
    return sorted(path.stem for path in folder().glob("[!_]*.py"))


def find(given: str) -> str:
    """The file that a value of `--config` stands for.

    Args:
      given: The path of a file or the name of a packaged configuration, either of which may be
        followed by a colon and an argument for its `get_config`; or the folder of a run.

    Returns:
      The path, with the argument where there is one.

    Raises:
      UserError: Where there is neither such a file nor such a name.
    """
    file, colon, argument = given.partition(":")
    if file.startswith("~"):  # which shells leave as it is behind a `=`
        file = str(expanded(file))
        given = f"{file}{colon}{argument}"
    if file in names():  # a file or folder of that name beside it cannot be meant: it has no suffix
        return f"{folder() / file}.py{colon}{argument}"
    if (Path(given) / STORED).is_file():
        return of_run(given)
    if Path(file).is_dir():
        raise UserError(f"--config: {file}: is a folder that holds no run; name a file")
    if not Path(file).is_file():
        known = "" if "/" in file or file.endswith(".py") else f" ({nearest(file, names())})"
        raise UserError(f"--config: {file}: there is no such file and no packaged one{known}")
    return given


def of_run(folder: str | Path) -> str:
    """The file that stands for the configuration of a run, whatever its folder is called.

    Args:
      folder: The folder of the run, which holds `STORED`.
    """
    return f"{_READER}:{expanded(folder) / STORED}"


def load(given: str | Path) -> ml_collections.ConfigDict:
    """Loads a configuration, packaged or from a file.

    Args:
      given: As for `find`.

    Raises:
      UserError: Where there is none, or it fails.
    """
    path, _, argument = find(str(given)).partition(":")
    try:
        get_config = runpy.run_path(path).get("get_config")
        if get_config is None:
            raise UserError(
                f"--config: {path}: has no function get_config(); name a file of configuration"
            )
        config = get_config(argument) if argument else get_config()
    except UserError:
        raise
    except Exception as error:  # a file of configuration is code, and may fail in any way
        raise UserError(f"--config: {path}: {type(error).__name__}: {error}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(f"--config: {path}: get_config() must return a ConfigDict")
    if isinstance(config, ml_collections.FrozenConfigDict):
        config = ml_collections.ConfigDict(config)
    return config


def datasets(config: ml_collections.ConfigDict) -> dict[str, ml_collections.ConfigDict]:
    """The datasets of a configuration by the names of their fields, in their order.

    Returns:
      `config.dataset`, or for a mixture `config.dataset[0]`, `config.dataset[1]`, and so on.
    """
    if isinstance(config.dataset, tuple):
        return {f"config.dataset[{i}]": dataset for i, dataset in enumerate(config.dataset)}
    return {"config.dataset": config.dataset}


def complete(config: ml_collections.ConfigDict) -> None:
    """Gives each dataset of a configuration the fields that it lacks, with their defaults.

    A list of datasets becomes a tuple, and a list of one becomes this dataset.

    Args:
      config: It is changed in place.

    Raises:
      UserError: Where a dataset is not given by its fields.
    """
    defaults = load("common").dataset.to_dict()

    def completed(field: str, given: Any) -> ml_collections.ConfigDict:
        if not isinstance(given, Mapping | ml_collections.ConfigDict):
            raise UserError(
                f"{field}: is {given!r}, must be the fields of a dataset, such as "
                "{'name': 'celeb_df_v2'}"
            )
        fields = {**defaults, **given}
        return ml_collections.ConfigDict({n: _like(defaults.get(n), v) for n, v in fields.items()})

    if "dataset" not in config:
        raise UserError("config.dataset: is missing; build on the packaged configuration 'common'")
    given = config.dataset
    if isinstance(given, list | tuple):
        if not given:
            raise UserError("config.dataset: the list is empty, must hold at least one dataset")
        made = tuple(completed(f"config.dataset[{i}]", each) for i, each in enumerate(given))
        dataset = made if len(made) > 1 else made[0]
    else:
        dataset = completed("config.dataset", given)
    _set_dataset(config, dataset)


def replace_mixture(config: ml_collections.ConfigDict) -> None:
    """Puts one dataset in the place of a mixture, to evaluate on data that are not in it.

    It has the fields that all datasets of the mixture share, and else their defaults.

    Args:
      config: It is changed in place.
    """
    one = load("common").dataset.to_dict()
    for name in one:
        values = [dataset.get(name) for dataset in config.dataset]
        if all(value == values[0] for value in values):
            one[name] = values[0]
    _set_dataset(config, ml_collections.ConfigDict(one))


def _like(default: Any, value: Any) -> Any:
    """A whole number as a fraction, a list as a tuple, where the default is one."""
    if isinstance(default, float) and type(value) is int:
        return float(value)
    return tuple(value) if isinstance(default, tuple) and isinstance(value, list) else value


def _set_dataset(config: ml_collections.ConfigDict, dataset: Any) -> None:
    with config.unlocked():
        del config.dataset  # ml_collections would make a tuple a list again where there was one
        config.dataset = dataset


def to_dict(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Plain dictionaries and lists, as JSON has them."""
    plain: dict[str, Any] = json.loads(config.to_json_best_effort())
    return plain


def from_dict(values: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """The inverse of `to_dict`: lists become tuples, as configurations have them."""

    def restored(value: Any) -> Any:
        if isinstance(value, Mapping):
            fields = {name: restored(item) for name, item in value.items()}
            return ml_collections.ConfigDict(fields)
        return tuple(map(restored, value)) if isinstance(value, list) else value

    return ml_collections.ConfigDict(restored(values))


def whole(values: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """As `from_dict`, of what a run has left behind: fields of later versions have their defaults.

    Raises:
      Exception: One of `MISREAD`, where the values are not those of a configuration.
    """
    config = load("common")
    config.update(from_dict(values))
    try:
        complete(config)
    except UserError as error:
        raise ValueError(str(error)) from error
    return config


def stored(path: Path) -> ml_collections.ConfigDict:
    """Reads the configuration that a run has left behind, see `whole`.

    Raises:
      UserError: Where the file is not one.
    """
    try:
        return whole(read_json(path))
    except (OSError, *MISREAD) as error:
        raise UserError(f"--config: {path}: is not the configuration of a run: {error}") from error
