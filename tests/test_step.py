"""The training step: one batch over any number of devices, its cost, its phases."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qad_jax import models, transforms
from qad_jax.models.efficientnet import EfficientNet, Stage
from qad_jax.models.resnet import ResNet
from qad_jax.training.step import (
    HEAD,
    Batch,
    Objective,
    TrainState,
    losses,
    make_train_step,
    normalise,
)
from tests.test_losses import reference

PAIRS = [(0, 1), (0, 2), (1, 2)]
LAYERS = (0.1, 0.25, 0.5, 0.0, 0.0, 0.0)
SIZE, TUPLES, QUALITIES = 32, 16, 3


def leaves_close(got, expected, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * max(1.0, np.abs(b).max()))


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


def test_one_global_batch_with_and_without_devices():
    """Both losses, both gradients of AWP and the statistics, over eight devices and without any."""
    step, state = gradient_step("resnet_least", None, 0.01)
    mapped, mapped_state = gradient_step("resnet_least", "batch", 0.01)
    batch = make_batch()
    over_devices = jax.pmap(mapped, "batch", in_axes=(None, 0), out_axes=(None, None))
    alone, shared = (
        jax.device_get(
            (jax.tree.map(jnp.subtract, state.params, new.params), new.batch_stats, metrics)
        )
        for new, metrics in (
            jax.jit(step)(state, batch),
            over_devices(
                mapped_state, jax.tree.map(lambda x: x.reshape(8, -1, *x.shape[1:]), batch)
            ),
        )
    )
    for got, expected in zip(jax.tree.leaves(shared), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4 * max(1.0, np.abs(expected).max()))
    gradient = jax.tree.leaves(alone[0])
    assert max(np.abs(leaf).max() for leaf in gradient) > 1e-2  # there was something to compare


def test_losses_are_what_they_say():
    """Cross-entropy from the logits in float64, HSIC from the features, both recomputed."""
    model = models.create("resnet_least")
    batch = make_batch(8)
    tx = transforms.qad(0.1, gamma=0.0, hsic_weight=0.1)
    state = make_state(model, tx)
    objective = Objective(model, LAYERS)
    step = make_train_step(objective, tx, 0)
    ((cross_entropy, hsic), (logits, _, each)), told = jax.jit(
        lambda state: (
            losses(objective, state.params, state.batch_stats, batch, jax.random.key(0)),
            {name: step(state, batch)[1][name] for name in ("accuracy", "hsic")},
        )
    )(state)
    right = np.argmax(logits, axis=-1) == batch.labels[:, None]
    assert told["accuracy"] == pytest.approx(right.mean())
    assert right.mean() != 0.5  # as often right would be as often wrong
    assert told["hsic"] == pytest.approx(float(hsic), rel=1e-5)
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
        np.testing.assert_allclose(each[f"hsic/stage{len(seen) + 1}"], np.mean(pairs), rtol=1e-3)
        seen.append(weight)
    # Layers of weight 0 are left out.
    assert set(each) == {"cross_entropy", *(f"hsic/stage{i}" for i in (1, 2, 3))}
    assert len(seen) == 3
    assert each["cross_entropy"] == cross_entropy
    np.testing.assert_allclose(hsic, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "at_once"), [("efficientnet_tiny", 0), ("resnet_least", 1)])
def test_each_step_and_each_seed_draws_anew(name, at_once):
    """Dropout of the one, and the qualities that the other sees, which has no dropout."""
    model = models.create(name)
    tx = transforms.qad(0.1, gamma=0.0, hsic_weight=0.0)
    batch, objective = make_batch(), Objective(model, (0.0,) * 6, at_once=at_once)

    @jax.jit
    def loss(seed, step):
        state = dataclasses.replace(make_state(model, tx), step=step)
        return make_train_step(objective, tx, seed)(state, batch)[1]["cross_entropy"]

    found = [float(loss(seed, step)) for seed in (0, 1) for step in (0, 1, 2)]
    assert len({round(value, 4) for value in found}) == len(found)
    assert float(loss(1, 2)) == found[-1]


def test_pictures_are_normalised_on_the_device():
    pictures = np.array([[0, 128, 255]], np.uint8)
    expected = (pictures / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(jax.jit(normalise)(pictures), expected, rtol=1e-5)


def test_batch_statistics_come_from_the_clean_weights():
    stats = []
    for gamma in (0.0, 0.5):
        step, state = gradient_step("resnet_least", None, gamma)
        new, _ = jax.jit(step)(state, make_batch(8))
        stats.append((new.batch_stats, new.params))
    for clean, perturbed in zip(*(jax.tree.leaves(s) for s, _ in stats), strict=True):
        np.testing.assert_allclose(clean, perturbed, atol=1e-6)
    moved = [
        np.abs(a - b).max() for a, b in zip(*(jax.tree.leaves(p) for _, p in stats), strict=True)
    ]
    assert max(moved) > 1e-3


def test_head_only_moves_the_head_and_nothing_else():
    model = models.create("resnet_least")
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
    """ResNet-50 at its real size, by XLA's own count; nothing is compiled or run.

    That the second gradient costs what the first does is so of any network.
    """
    model = models.create("resnet50")
    real = {"tuples": 64, "size": 224}
    plain = flops(model, layers=(0.0,) * 6, gamma=0.0, **real)
    hsic = flops(model, layers=LAYERS, gamma=0.0, **real)
    assert plain > 192 * 3 * 7e9  # 192 pictures, three passes, about 8 GFLOP each
    assert 1.0 < hsic / plain <= 1.03
    once, twice = (
        flops(models.create("resnet_tiny"), layers=LAYERS, gamma=gamma, tuples=64, size=64)
        for gamma in (0.0, 0.002)
    )
    assert twice / once == pytest.approx(2.0, abs=0.02)


def accumulated(objective, tx, state, batch, count):
    new, metrics = jax.jit(make_train_step(objective, tx, 0, count))(state, batch)
    moved = jax.tree.map(jnp.subtract, state.params, new.params)
    return jax.device_get((moved, new.batch_stats, metrics))


def test_accumulation_is_exact_where_batch_norm_uses_running_statistics():
    """Only the head learns: cross-entropy, its gradient and AWP's are those of the whole batch."""
    model = models.create("resnet_least")
    tx = optax.chain(
        transforms.qad_gradient(gamma=0.01, hsic_weight=0.0), optax.sgd(1.0, momentum=0.5)
    )
    state, batch = make_state(model, tx), make_batch()
    objective = Objective(model, (0.0,) * 6, head_only=True)
    whole = accumulated(objective, tx, state, batch, 1)
    for count in (2, 4):
        leaves_close(accumulated(objective, tx, state, batch, count), whole, 1e-6)
    assert np.abs(whole[0][HEAD]["kernel"]).max() > 1e-3


def test_accumulation_in_training_is_the_mean_over_the_parts():
    """Gradient, losses and running statistics against four steps on the parts, averaged by hand."""
    step_of_part, state = gradient_step("resnet_least", None, 0.0)
    batch = make_batch()
    objective = Objective(models.create("resnet_least"), LAYERS)
    tx = optax.chain(transforms.qad_gradient(gamma=0.0, hsic_weight=0.1), optax.sgd(1.0))
    found = accumulated(objective, tx, state, batch, 4)
    part_step, parts = jax.jit(step_of_part), []
    for i in range(4):
        new, metrics = part_step(state, jax.tree.map(lambda x, i=i: x[4 * i : 4 * i + 4], batch))
        moved = jax.tree.map(jnp.subtract, state.params, new.params)
        parts.append(jax.device_get((moved, new.batch_stats, metrics)))
    expected = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0, dtype=np.float64), *parts)
    leaves_close(found, expected, 1e-4)
    assert abs(expected[2]["hsic"]) > 0.01


def test_parts_over_devices_are_those_of_the_global_batch():
    """Two devices, two parts: part k is the k-th half of each device's batch."""
    tx = optax.chain(
        transforms.qad_gradient(gamma=0.0, hsic_weight=0.1, axis_name="batch"), optax.sgd(1.0)
    )
    objective = Objective(
        models.create("resnet_least", axis_name="batch"), LAYERS, axis_name="batch"
    )
    state, batch = make_state(models.create("resnet_least"), tx), make_batch()
    placed = jax.tree.map(lambda x: x.reshape(2, -1, *x.shape[1:]), batch)
    mapped = jax.pmap(
        make_train_step(objective, tx, 0, 2),
        axis_name="batch",
        in_axes=(None, 0),
        out_axes=(None, None),
        devices=jax.local_devices()[:2],
    )
    new, metrics = mapped(state, placed)
    order = np.r_[0:4, 8:12, 4:8, 12:16]
    alone = Objective(models.create("resnet_least"), LAYERS)
    tx = optax.chain(transforms.qad_gradient(gamma=0.0, hsic_weight=0.1), optax.sgd(1.0))
    shuffled = jax.tree.map(lambda x: x[order], batch)
    expected = accumulated(alone, tx, make_state(alone.model, tx), shuffled, 2)
    moved = jax.tree.map(jnp.subtract, state.params, new.params)
    leaves_close(jax.device_get((moved, new.batch_stats, metrics)), expected, 1e-4)


@pytest.mark.parametrize("name", ["resnet", "efficientnet"])
def test_rematerialisation_changes_nothing_but_memory(name):
    """Losses, gradients and running statistics; stochastic depth draws the same twice."""
    narrow = {
        "resnet": partial(ResNet, stage_sizes=(1, 1, 1, 1), widths=(2, 2, 2, 2), stem_width=4),
        "efficientnet": partial(
            EfficientNet,
            stages=(Stage(2, 3, 1, 1, 4), Stage(2, 3, 2, 2, 4)),
            feature_blocks=(0, 1, 2, 3),
            stem_width=4,
            head_width=8,
        ),
    }[name]
    state, batch, results = make_state(narrow(), optax.identity()), make_batch(8), []
    for remat in (False, True):
        objective = Objective(narrow(remat=remat), LAYERS)

        def function(params, objective=objective):
            values, (_, stats, _) = losses(
                objective, params, state.batch_stats, batch, jax.random.key(3)
            )
            return values[0] - values[1], stats

        traced = jax.jit(jax.value_and_grad(function, has_aux=True)).trace(state.params)
        assert ("remat" in str(traced.jaxpr)) == remat
        results.append(jax.device_get(traced.lower().compile()(state.params)))
    leaves_close(results[1], results[0], 1e-5)


def test_bfloat16_is_of_the_arithmetic_alone():
    """Parameters, their update, statistics, both losses and the logits stay float32."""
    model = models.create("resnet_least", dtype=jnp.bfloat16)
    tx = transforms.qad(1e-3, gamma=0.002, hsic_weight=0.1)
    state = jax.eval_shape(lambda: make_state(model, tx))
    batch = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, make_batch(8)))
    new, metrics = jax.eval_shape(make_train_step(Objective(model, LAYERS), tx, 0, 2), state, batch)
    kept = new.params, new.batch_stats, new.opt_state, metrics
    kinds = {leaf.dtype for leaf in jax.tree.leaves(kept)}
    assert kinds == {jnp.dtype("float32"), jnp.dtype("int32")}  # and the optimiser's counts
    given = state.params, state.batch_stats, batch, jax.random.key(0)
    values, (logits, *_) = jax.eval_shape(lambda *x: losses(Objective(model, LAYERS), *x), *given)
    assert {leaf.dtype for leaf in (*values, logits)} == {jnp.dtype("float32")}
    traced = str(jax.make_jaxpr(lambda *x: losses(Objective(model, LAYERS), *x))(*given))
    convolutions = [line for line in traced.splitlines() if "= conv_general_dilated" in line]
    assert convolutions
    assert all("bf16" in line.partition("=")[0] for line in convolutions)
