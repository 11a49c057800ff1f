"""The folder of a run that comes without a training, such as that of converted weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import ml_collections

from data_builders.errors import UserError
from data_builders.files import whole_folder, write_json
from qad_jax import configs
from qad_jax.runs import checkpoint_errors, configuration


def check(out: Path) -> None:
    """Refuses a folder to make that holds something already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out: {out} exists; name a new folder")


@contextlib.contextmanager
def made(out: Path, config: ml_collections.ConfigDict) -> Iterator[Path]:
    """Makes the folder of a run without a training, in full or not at all.

    Args:
      out: The folder, which must be empty or not exist.
      config: Its configuration.

    Yields:
      A folder beside it to write into, which holds the configuration.

    Raises:
      UserError: It cannot be written, or another process has made it by then.
    """
    configuration.check_workdir(config, out)
    advice = "nothing is left of it; mend that, and give the same command again"
    with checkpoint_errors.saving(f"--out: {out}", lambda: advice), whole_folder(out) as part:
        write_json(part / configs.STORED, configs.to_dict(config))
        yield part
