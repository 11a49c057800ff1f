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

from data_builders.errors import UserError, nearest
from data_builders.files import read_json

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
    if file in names():  # a file or folder of that name beside it cannot be meant: it has no suffix
        return f"{folder() / file}.py{colon}{argument}"
    if (Path(given) / STORED).is_file():
        return of_run(given)
    if not Path(file).is_file():
        known = "" if "/" in file or file.endswith(".py") else f" ({nearest(file, names())})"
        raise UserError(f"--config: {file}: there is no such file and no packaged one{known}")
    return given


def of_run(folder: str | Path) -> str:
    """The file that stands for the configuration of a run, whatever its folder is called.

    Args:
      folder: The folder of the run, which holds `STORED`.
    """
    return f"{_READER}:{Path(folder) / STORED}"


def load(given: str | Path) -> ml_collections.ConfigDict:
    """Loads a configuration, packaged or from a file.

    Args:
      given: As for `find`.

    Raises:
      UserError: Where there is none, or it fails.
    """
    path, _, argument = find(str(given)).partition(":")
    try:
        get_config = runpy.run_path(path)["get_config"]
        config: ml_collections.ConfigDict = get_config(argument) if argument else get_config()
    except Exception as error:  # a file of configuration is code, and may fail in any way
        raise UserError(f"--config: {path}: {type(error).__name__}: {error}") from error
    return config


def to_dict(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Plain dictionaries and lists, as JSON has them."""
    plain: dict[str, Any] = json.loads(config.to_json_best_effort())
    return plain


def from_dict(values: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """The inverse of `to_dict`: lists become tuples, as configurations have them."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(item) for name, item in value.items()}
        return tuple(value) if isinstance(value, list) else value

    return ml_collections.ConfigDict(plain(values))


def stored(path: Path) -> ml_collections.ConfigDict:
    """Reads the configuration that a run has left behind.

    Fields that a later version has added have their defaults.

    Raises:
      UserError: Where the file is not one.
    """
    try:
        values = read_json(path)
        config = load("common")
        config.update(from_dict(values))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"--config: {path}: is not the configuration of a run: {error}") from error
    return config
