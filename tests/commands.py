"""Calls the command line in this process, as a user would type it."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

from qad_jax import main
from tests.conftest import ROOT


class Result(NamedTuple):
    status: int
    out: str
    err: str


def call(*arguments: object, main: Callable[[list[str]], int] = main.main) -> Result:
    """Runs `python -m qad_jax.main`, or another command, without the start of a process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # --help
            status = int(stop.code or 0)
    return Result(status, out.getvalue(), err.getvalue())


def until_told(job: Future[Any], capsys: Any, line: str) -> None:
    """Waits until a job that goes on in another thread has said something."""
    told = ""
    while line not in told:
        assert not job.done()
        time.sleep(0.01)
        told += capsys.readouterr().err


def loaded(*modules: str) -> set[str]:
    """All that is imported where some modules are, in a new process."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def tiny(config: str, workdir: object, manifest: object, data_dir: object) -> list[str]:
    """Arguments of a training of seconds, through all three phases."""
    return [
        f"--config={config}",
        f"--workdir={workdir}",
        "--config.dataset.name=manifest",
        f"--config.dataset.manifest={manifest}",
        f"--config.dataset.data_dir={data_dir}",
        "--config.model.name=resnet_least",
        "--config.image_size=32",
        "--config.batch_size=8",
        "--config.num_epochs=3",
        "--config.head_only_epochs=1",
        "--config.awp.warmup_epochs=2",
        "--config.log_every_steps=2",
        "--config.checkpoint_every_steps=3",
    ]
