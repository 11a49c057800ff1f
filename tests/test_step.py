"""The training step: one batch over any number of devices, its cost, its phases."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qad_jax import models, transforms
from qad_jax.step import HEAD, Batch, Objective, TrainState, losses, make_train_step, normalise
from tests.test_losses import reference

PAIRS = [(0, 1), (0, 2), (1, 2)]
LAYERS = (0.1, 0.25, 0.5, 0.0, 0.0, 0.0)
SIZE, TUPLES, QUALITIES = 32, 16, 3


def make_batch(tuples=TUPLES, size=SIZE):
    rng = np.random.default_rng(0)
    return Batch(
        rng.integers(0, 256, (tuples, QUALITIES, size, size, 3), dtype=np.uint8),
        rng.integers(0, 2, tuples).astype(np.int32),
    )


def make_state(model, tx, size=SIZE):
    variables = model.init(jax.random.key(1), jnp.zeros((1, size, size, 3)), train=False)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=tx.init(variables["params"]),
    )


def gradient_step(name, axis_name, gamma):
    """A step of plain descent at rate 1: the change of the parameters is the gradient."""
    objective = Objective(models.create(name, axis_name=axis_name), LAYERS, axis_name=axis_name)
    tx = optax.chain(
        transforms.qad_gradient(gamma=gamma, hsic_weight=0.1, axis_name=axis_name), optax.sgd(1.0)
    )
    return make_train_step(objective, tx, seed=0), make_state(models.create(name), tx)


@pytest.mark.parametrize("gamma", [0.0, 0.01])
def test_one_global_batch_over_1_2_and_8_devices(gamma):
    results = {}
    for devices in (1, 2, 8):
        step, state = gradient_step("resnet_tiny", "batch", gamma)
        batch = jax.tree.map(lambda x, d=devices: x.reshape(d, -1, *x.shape[1:]), make_batch())
        mapped = jax.pmap(
            step,
            axis_name="batch",
            in_axes=(None, 0),
            out_axes=(None, None),
            devices=jax.local_devices()[:devices],
        )
        new, metrics = mapped(state, batch)
        results[devices] = jax.device_get(
            (
                metrics,
                jax.tree.map(jnp.subtract, state.params, new.params),
                new.batch_stats,
            )
        )
    for devices in (2, 8):
        for got, expected in zip(
            jax.tree.leaves(results[devices]), jax.tree.leaves(results[1]), strict=True
        ):
            np.testing.assert_allclose(got, expected, atol=1e-4 * max(1.0, np.abs(expected).max()))
    gradient = jax.tree.leaves(results[1][1])
    assert max(np.abs(leaf).max() for leaf in gradient) > 1e-2  # there was something to compare


def test_without_devices_it_is_the_same_step():
    step, state = gradient_step("resnet_tiny", None, 0.0)
    mapped, mapped_state = gradient_step("resnet_tiny", "batch", 0.0)
    alone = jax.jit(step)(state, make_batch())
    batch = jax.tree.map(lambda x: x[None], make_batch())
    one = jax.pmap(
        mapped, "batch", in_axes=(None, 0), out_axes=(None, None), devices=jax.local_devices()[:1]
    )(mapped_state, batch)
    alone, one = ((new.params, new.batch_stats, metrics) for new, metrics in (alone, one))
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_losses_are_what_they_say():
    """Cross-entropy from the logits in float64, HSIC from the features, both recomputed."""
    model = models.create("resnet_tiny")
    batch = make_batch(8)
    state = make_state(model, optax.identity())
    objective = Objective(model, LAYERS)
    (cross_entropy, hsic), (logits, _, each) = jax.jit(
        lambda p, s: losses(objective, p, s, batch, jax.random.key(0))
    )(state.params, state.batch_stats)
    z = np.asarray(logits, np.float64)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    expected = -np.mean([log_p[i, q, y] for i, y in enumerate(batch.labels) for q in range(3)])
    np.testing.assert_allclose(cross_entropy, expected, rtol=1e-5)
    output, _ = jax.jit(
        lambda p, s: model.apply(
            {"params": p, "batch_stats": s},
            normalise(batch.images.reshape(-1, SIZE, SIZE, 3)),
            train=True,
            mutable=["batch_stats"],
        )
    )(state.params, state.batch_stats)
    expected, seen = 0.0, []
    for weight, feature in zip(LAYERS[:3], output.features[:3], strict=True):
        f = np.asarray(feature).reshape(8, QUALITIES, -1)
        pairs = [reference(f[:, a], f[:, b], "debiased_cka", 6.0) for a, b in PAIRS]
        expected += weight * np.mean(pairs)
        np.testing.assert_allclose(each[f"stage{len(seen) + 1}"], np.mean(pairs), rtol=1e-3)
        seen.append(weight)
    assert len(each) == len(seen) == 3  # layers of weight 0 are left out
    np.testing.assert_allclose(hsic, expected, rtol=1e-3, atol=1e-5)


def test_pictures_are_normalised_on_the_device():
    pictures = np.array([[0, 128, 255]], np.uint8)
    expected = (pictures / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(jax.jit(normalise)(pictures), expected, rtol=1e-5)


def test_batch_statistics_come_from_the_clean_weights():
    stats = []
    for gamma in (0.0, 0.5):
        step, state = gradient_step("resnet_tiny", None, gamma)
        new, _ = jax.jit(step)(state, make_batch(8))
        stats.append((new.batch_stats, new.params))
    for clean, perturbed in zip(*(jax.tree.leaves(s) for s, _ in stats), strict=True):
        np.testing.assert_allclose(clean, perturbed, atol=1e-6)
    moved = [
        np.abs(a - b).max() for a, b in zip(*(jax.tree.leaves(p) for _, p in stats), strict=True)
    ]
    assert max(moved) > 1e-3


def test_head_only_moves_the_head_and_nothing_else():
    model = models.create("resnet_tiny")
    tx = transforms.qad(0.1, gamma=0.0, hsic_weight=0.1)
    state = make_state(model, tx)
    step = make_train_step(Objective(model, LAYERS, head_only=True), tx, seed=0)
    new, _ = jax.jit(step)(state, make_batch(8))
    for name in state.params:
        moved = any(
            np.abs(a - b).max() > 0
            for a, b in zip(
                jax.tree.leaves(state.params[name]), jax.tree.leaves(new.params[name]), strict=True
            )
        )
        assert moved == (name == HEAD), name
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, new.batch_stats)


def flops(model, *, layers, gamma, tuples, size):
    objective = Objective(model, layers)
    tx = transforms.qad(1e-4, gamma=gamma, hsic_weight=0.1)
    state = jax.eval_shape(lambda: make_state(model, tx, size))
    batch = Batch(
        jax.ShapeDtypeStruct((tuples, QUALITIES, size, size, 3), jnp.uint8),
        jax.ShapeDtypeStruct((tuples,), jnp.int32),
    )
    lowered = jax.jit(make_train_step(objective, tx, 0)).lower(state, batch)
    return lowered.cost_analysis()["flops"]


def test_hsic_costs_three_percent_at_most_and_awp_doubles():
    """ResNet-50 at its real size, by XLA's own count; nothing is compiled or run."""
    model = models.create("resnet50")
    real = {"tuples": 64, "size": 224}
    plain = flops(model, layers=(0.0,) * 6, gamma=0.0, **real)
    hsic = flops(model, layers=LAYERS, gamma=0.0, **real)
    both = flops(model, layers=LAYERS, gamma=0.002, **real)
    assert plain > 192 * 3 * 7e9  # 192 pictures, three passes, about 8 GFLOP each
    assert 1.0 < hsic / plain <= 1.03
    assert both / hsic == pytest.approx(2.0, abs=0.02)
