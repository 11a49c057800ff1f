"""Some qualities of each tuple a step: what HSIC compares, and what two neighbours share."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_builders.errors import UserError
from qad_jax import configs
from qad_jax.models.layers import IMAGENET, normalise
from qad_jax.training import parallel
from qad_jax.training.step import Batch, Objective, TrainState, make_train_step
from tests.test_losses import reference

TUPLES = 16


class Pixels:
    """Its features are the pixels."""

    normalisation = IMAGENET

    def apply(self, variables, images, **_):
        flat = images.reshape(len(images), -1)
        logits = flat[:, :2] * variables["params"]["fc"]
        return types.SimpleNamespace(logits=logits, features=[flat] * 6), {"batch_stats": {}}


@pytest.mark.parametrize("cut", ["devices", "parts"])
def test_hsic_compares_the_same_two_qualities_of_all_tuples(cut):
    """Of tuples at different pairs of them, it would find their qualities instead."""
    shade = np.array([0, 100, 200])[None, :, None, None, None]
    noise = np.random.default_rng(0).integers(0, 50, (TUPLES, 3, 2, 2, 3))
    images = (shade + noise).astype(np.uint8)
    axis, parts = ("batch", 1) if cut == "devices" else (None, 2)
    objective = Objective(Pixels(), (1.0,) + (0.0,) * 5, axis_name=axis, at_once=2)
    tx = optax.GradientTransformation(
        lambda params: optax.EmptyState(), lambda updates, state, params=None, **_: (params, state)
    )
    step = make_train_step(objective, tx, 0, parts)
    batch = Batch(images, np.zeros(TUPLES, np.int32))
    if axis:
        step = jax.vmap(step, in_axes=(None, 0), axis_name=axis)
        batch = jax.tree.map(lambda leaf: leaf.reshape(8, 2, *leaf.shape[1:]), batch)
    step = jax.jit(step)

    features = np.asarray(normalise(jnp.asarray(images), IMAGENET)).reshape(TUPLES, 3, -1)
    of_part = [
        [reference(f[:, a], f[:, b], "debiased_cka", 6.0) for a, b in ((0, 1), (0, 2), (1, 2))]
        for f in np.split(features, parts)
    ]
    possible = [np.mean(each) for each in itertools.product(*of_part)]
    found = set()
    for seed in range(12):
        state = TrainState(jnp.full((), seed, jnp.int32), {"fc": jnp.ones(())}, {}, ())
        hsic = float(np.mean(step(state, batch)[1]["hsic"]))
        (place,) = [i for i, value in enumerate(possible) if abs(value - hsic) < 1e-4]
        found.add(place)
    assert len(found) > 2  # drawn anew


@pytest.mark.parametrize("sampling", ["natural", "balanced", "pairs", "twins"])
def test_neighbours_that_are_shown_alike_stay_together(sampling):
    config = configs.load("common")
    config.qualities, config.sampling = ("raw", "c23", "c40"), sampling
    config.batch_size = parallel.device_count()  # one tuple for each
    for config.qualities_at_once in (0, 3):
        parallel.check(config)
    config.qualities_at_once = 1
    if sampling == "natural":
        parallel.check(config)
    else:
        with pytest.raises(UserError, match="the real image beside it on the same one; 16 can"):
            parallel.check(config)
