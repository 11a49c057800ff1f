"""Folders of a user: for files that are kept, for datasets, and the one that `~` stands for."""

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


def datasets_folder(data_dir: str | os.PathLike[str] = "") -> str:
    """Where datasets are: as it is named, else `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`.

    An empty value counts as none; TFDS itself takes it for the current folder.

    Returns:
      A path, perhaps with `~`, or the address of a bucket.
    """
    given = os.fspath(data_dir) or os.environ.get("TFDS_DATA_DIR")
    return given or os.path.join("~", "tensorflow_datasets")


def check_encoding(folder: Path, flag: str) -> None:
    """Looks whether datasets can be in a folder: the library of their files takes UTF-8 alone.

    Raises:
      UserError: Its path is not UTF-8. The message names the option.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{flag}: {folder}: is no path in UTF-8, which files of datasets need; name another "
            "folder"
        ) from error


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
