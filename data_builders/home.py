"""The folder of a user: where files are kept for later, and what `~` stands for."""

from __future__ import annotations

import os
from pathlib import Path

from data_builders.errors import UserError


def cache_folder() -> Path:
    """Where all commands keep what they could make or fetch again: `$XDG_CACHE_HOME/qad_jax`.

    An empty or a relative value counts as none, as in the XDG Base Directory Specification; the
    folder is `~/.cache/qad_jax` then.

    Raises:
      UserError: There is no such value, and nothing says which is the folder of the user.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        base = given.expanduser()
        base = base if base.is_absolute() else Path("~/.cache").expanduser().absolute()
    except RuntimeError as error:  # there is no $HOME, and the system does not know the user
        raise UserError(
            "no folder of the user is known to keep files in; set XDG_CACHE_HOME to a folder"
        ) from error
    return base / "qad_jax"


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path in which a leading `~` or `~NAME` stands for the home folder of a user.

    Raises:
      UserError: There is no such user, or nothing says which is the folder of this one.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{path}: the home folder that ~ stands for is not known; write the path in full"
        ) from error
