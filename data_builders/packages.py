"""Files of weights that packages bring: found without an import, believed by their sha256."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

from data_builders.errors import UserError


def located(package: str, file: str) -> Path | None:
    """Finds a file or a folder of an installed package. Nothing of the package is run.

    Args:
      package: Its name, as pip has it.
      file: The path below the folder that pip installs to.

    Returns:
      The path, at which nothing need be; None where the package is not installed.
    """
    try:
        installed = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(installed.locate_file(file)))


def read(path: Path, sha256: str, *, of: str, install: str) -> bytes:
    """Reads a file, after which it is known to be the expected one.

    Args:
      path: The file.
      sha256: Of its content, in hexadecimal digits.
      of: The package and its version, for messages.
      install: The command that installs it.

    Raises:
      UserError: The file cannot be read, or is another one.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); run `{install}`") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(
            f"{path}: is not the file of {of} (its sha256 differs), and was not opened; run "
            f"`{install} --force-reinstall`"
        )
    return data
