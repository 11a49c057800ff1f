"""Calls the command line in this process, as a user would type it."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import NamedTuple
from unittest import mock

from absl import flags

from qad_jax import main


class Result(NamedTuple):
    status: int
    out: str
    err: str


def call(*arguments: object) -> Result:
    """Runs `python -m qad_jax.main` with arguments, without the start of a process."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    flags.FLAGS.unparse_flags()
    own = ("config", "workdir", "mode", "split", "step", "robustness", "against", "debug")
    for name in (*own, "coordinator", "num_processes", "process_id"):
        flags.FLAGS[name].unparse()
    for name in [name for name in flags.FLAGS if name.startswith("config.")]:
        delattr(flags.FLAGS, name)  # made while parsing, one for each field that is overridden
    argv = ["qad_jax.main", *map(str, arguments)]
    streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with streams[0], streams[1], mock.patch.object(sys, "argv", argv):  # config_flags reads it
        try:
            main._main(main._parse(argv))
        except SystemExit as stop:
            status = int(stop.code or 0)
    return Result(status, out.getvalue(), err.getvalue())


def tiny(config: str, workdir: object, manifest: object, data_dir: object) -> list[str]:
    """Arguments of a training of seconds, through all three phases."""
    return [
        f"--config={config}",
        f"--workdir={workdir}",
        "--config.dataset.name=manifest",
        f"--config.dataset.manifest={manifest}",
        f"--config.dataset.data_dir={data_dir}",
        "--config.model.name=resnet_tiny",
        "--config.image_size=32",
        "--config.batch_size=8",
        "--config.num_epochs=3",
        "--config.head_only_epochs=1",
        "--config.awp.warmup_epochs=2",
        "--config.log_every_steps=2",
        "--config.checkpoint_every_steps=3",
    ]
