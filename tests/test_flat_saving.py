"""Saves leave nothing behind; counted in objects of Python, as bytes also come from elsewhere."""

import json
import subprocess
import sys
import types

import pytest

from qad_jax.runs import flat_saving
from tests.conftest import ROOT

ARRAYS, SAVES = 200, 4
# In a process of its own, where nothing else comes and goes.
COUNT = f"""
import gc, json, pathlib, sys
import jax.numpy as jnp, tensorstore
from qad_jax import configs
from qad_jax.runs.checkpoints import Checkpoints
from qad_jax.training.step import TrainState

def kept_by_a_save(folder):
    arrays = {{str(i): jnp.ones(2) for i in range({ARRAYS})}}
    state = TrainState(jnp.asarray(0), arrays, {{"m": jnp.ones(2)}}, {{"v": jnp.ones(2)}})
    checkpoints, counts = Checkpoints(pathlib.Path(folder), {{}}), []
    for step in range(2 + {SAVES}):
        checkpoints.save(state, configs.load("common"), step=step)
        checkpoints.newest_whole()
        gc.collect()
        counts.append(sys.getallocatedblocks())
    checkpoints.close()
    return (counts[-1] - counts[1]) / {SAVES}

ours = kept_by_a_save(sys.argv[1])
specification = tensorstore.KvStore.Spec
original = specification.to_json.__wrapped__
specification.to_json = lambda self: original(self)
print(json.dumps([ours, kept_by_a_save(sys.argv[2])]))
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saves")
    command = [sys.executable, "-c", COUNT, str(folder / "ours"), str(folder / "plain")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_save_keeps_less_than_an_object_for_each_array(kept):
    assert kept[0] < ARRAYS


def test_tensorstore_keeps_several(kept):
    """Where this fails, tensorstore has been mended, and flat_saving.py can go."""
    assert kept[1] > 2 * ARRAYS


def test_versions_without_what_is_replaced_are_left_alone(monkeypatch):
    monkeypatch.setattr(flat_saving, "tensorstore", types.SimpleNamespace())
    monkeypatch.setattr(flat_saving, "_ORBAX", "orbax.checkpoint.nowhere")
    flat_saving.keep.__wrapped__()
    monkeypatch.setattr(flat_saving, "_ORBAX", "json")  # a module without the function
    flat_saving.keep.__wrapped__()
    assert not hasattr(json, "get_tensorstore_raw_bytes")
