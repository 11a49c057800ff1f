"""The patches of saving: saves leave nothing behind; counted in objects of Python, as bytes also
come from elsewhere. And what is called at exit does not wait for threads."""

import atexit
import json
import subprocess
import sys
import threading
import types

import pytest

from data_builders import patches
from data_builders.patches import exit_before_threads, orbax_byte_counts, tensorstore_json
from tests.conftest import ROOT

# The first saves fill caches: five of them on Python 3.13, two on 3.11.
ARRAYS, WARM_UP, SAVES = 200, 6, 4
# In a process of its own, where nothing else comes and goes.
COUNT = f"""
import gc, json, pathlib, sys
import jax.numpy as jnp, tensorstore
from qad_jax import configs
from qad_jax.runs.checkpoints import Checkpoints
from qad_jax.runs.state import TrainState

def kept_by_a_save(folder):
    arrays = {{str(i): jnp.ones(2) for i in range({ARRAYS})}}
    state = TrainState(jnp.asarray(0), arrays, {{"m": jnp.ones(2)}}, {{"v": jnp.ones(2)}})
    checkpoints, counts = Checkpoints(pathlib.Path(folder), {{}}), []
    for step in range({WARM_UP} + {SAVES}):
        checkpoints.save(state, configs.load("common"), step=step)
        checkpoints.newest_whole()
        gc.collect()
        counts.append(sys.getallocatedblocks())
    checkpoints.close()
    return (counts[-1] - counts[{WARM_UP} - 1]) / {SAVES}

gc.freeze()  # what was imported is not gone through behind each save
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
    """Where this fails, tensorstore has been mended, and its patch can go."""
    assert kept[1] > 2 * ARRAYS


def test_at_exit_no_thread_is_waited_for():
    code = (
        "import os, sys, threading, time\n"
        "from data_builders.patches import exit_before_threads\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "exit_before_threads.register(lambda: (print('left', flush=True), os._exit(5)))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (5, "left\n")


def test_at_exit_without_the_private_function(monkeypatch):
    registered = []
    monkeypatch.delattr(threading, "_register_atexit")
    monkeypatch.setattr(atexit, "register", registered.append)
    exit_before_threads.register(print)
    assert registered == [print]


def test_versions_without_what_is_replaced_are_left_alone(monkeypatch):
    import tensorstore
    from orbax.checkpoint._src.serialization import tensorstore_utils

    with monkeypatch.context() as patch:
        patch.setattr(tensorstore.KvStore, "Spec", types.SimpleNamespace)
        tensorstore_json.remember.__wrapped__()
        assert not hasattr(types.SimpleNamespace, "to_json")
    for version in ("0.11.9", "1.0.0"):
        monkeypatch.setattr(patches.importlib.metadata, "version", lambda name, v=version: v)
        before = tensorstore_utils.get_tensorstore_raw_bytes
        orbax_byte_counts.leave_out.__wrapped__()
        assert tensorstore_utils.get_tensorstore_raw_bytes is before
