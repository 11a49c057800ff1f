"""The command `qad-jax`: which job a word starts, and what is done before it."""

import os

import pytest

from qad_jax import cli
from tests.commands import call


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_only_a_job_that_computes_prepares_the_process(name, monkeypatch):
    """XLA's flags change last bits: a dataset is the same from `python -m data_builders.build`."""
    tuned = []
    monkeypatch.setattr("qad_jax.cpu.tune", lambda: tuned.append(name))
    flags = os.environ.get("XLA_FLAGS")
    result = call(name, "--help", main=cli.main)
    assert result.status == 0
    assert f"qad-jax {name}" in result.out
    assert tuned == ([name] if name in ("train", "evaluate", "matrix") else [])
    assert os.environ.get("XLA_FLAGS") == flags


def test_a_word_that_is_no_command():
    result = call("trian", main=cli.main)
    assert (result.status, result.err) == (
        2,
        "error: no command is called 'trian': did you mean 'train'?\n",
    )
