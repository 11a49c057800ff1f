"""Saves leave nothing behind; counted in objects of Python, as bytes also come from elsewhere."""

import gc
import sys

import jax.numpy as jnp
import tensorstore

from configs import common
from qad_jax import flat_saving
from qad_jax.checkpoints import Checkpoints
from qad_jax.step import TrainState

ARRAYS, SAVES = 200, 4


def kept_by_a_save(folder):
    arrays = {str(i): jnp.ones(2) for i in range(ARRAYS)}
    state = TrainState(jnp.asarray(0), arrays, {"m": jnp.ones(2)}, {"v": jnp.ones(2)})
    checkpoints, counts = Checkpoints(folder, {}), []
    for step in range(2 + SAVES):
        checkpoints.save(state, common.get_config(), step=step)
        checkpoints.newest_whole()
        gc.collect()
        counts.append(sys.getallocatedblocks())
    checkpoints.close()
    return (counts[-1] - counts[1]) / SAVES


def test_a_save_keeps_less_than_an_object_for_each_array(tmp_path):
    assert kept_by_a_save(tmp_path) < ARRAYS


def test_tensorstore_keeps_several(tmp_path, monkeypatch):
    """Where this fails, tensorstore has been mended, and flat_saving.py can go."""
    flat_saving.keep()
    specification = tensorstore.KvStore.Spec
    monkeypatch.setattr(specification, "to_json", specification.to_json.__wrapped__)
    assert kept_by_a_save(tmp_path) > 2 * ARRAYS
