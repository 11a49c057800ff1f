"""The plan of a training against torch's own schedule and optimiser, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_builders.errors import UserError
from qad_jax import configs, transforms
from qad_jax.runs import placement
from qad_jax.training import schedule
from tests.conftest import ROOT

TORCH = np.load(ROOT / "tests" / "data" / "torch_optimiser.npz")
CYCLES = [name for name in TORCH if name.startswith("one_cycle/")]


def cycle(pct_start, peak=2e-4):
    config = configs.load("common")
    config.learning_rate = peak
    config.one_cycle.pct_start = pct_start
    return config


@pytest.mark.parametrize("name", CYCLES)
def test_the_rate_is_torchs_at_every_step(name):
    expected = TORCH[name]
    steps, pct = name.partition("/")[2].split("_")
    assert len(expected) == int(steps)
    rate = schedule.learning_rate(cycle(float(pct)), int(steps))
    on_device = jax.jit(jax.vmap(rate))(np.arange(int(steps)))
    np.testing.assert_allclose(on_device, expected, rtol=1e-5)
    np.testing.assert_allclose([rate(i) for i in range(int(steps))], expected, rtol=1e-9)


def test_the_peak_on_the_first_step_where_torch_divides_by_zero():
    rate = schedule.learning_rate(cycle(0.1), 10)  # the rise is over at step 0
    assert rate(0) == pytest.approx(2e-4)
    assert rate(9) == pytest.approx(2e-4 / 25 / 1e4)
    assert rate(10) == rate(9)  # nothing rises again behind the end


def test_adam_with_coupled_decay_under_the_cycle_is_torchs():
    tx = optax.chain(
        transforms.coupled_adam(0.1),
        optax.scale_by_learning_rate(schedule.learning_rate(cycle(0.3, peak=0.05), 20)),
    )
    weights, state = TORCH["adam/start"], tx.init(TORCH["adam/start"])
    update = jax.jit(tx.update)
    for gradient, expected in zip(TORCH["adam/gradients"], TORCH["adam/weights"], strict=True):
        updates, state = update(gradient, state, weights)
        weights = optax.apply_updates(weights, updates)
        np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-5)
    # Decoupled decay (AdamW) would end elsewhere.
    apart = optax.adamw(schedule.learning_rate(cycle(0.3, peak=0.05), 20), weight_decay=0.1)
    other, state = TORCH["adam/start"], apart.init(TORCH["adam/start"])
    for gradient in TORCH["adam/gradients"]:
        updates, state = apart.update(gradient, state, other)
        other = optax.apply_updates(other, updates)
    assert np.abs(other - expected).max() > 1e-3  # a hundred times as far


@pytest.mark.parametrize(
    ("field", "value", "most"),
    [
        ("num_epochs", 10**6, 715_827),
        ("num_steps", 2**31, 2**31 - 1),
        ("head_only_epochs", 10**6, 715_827),
        ("hsic.warmup_epochs", 10**6, 715_827),
        ("awp.warmup_epochs", 1e308, 715_827),
    ],
)
def test_more_steps_than_can_be_counted(field, value, most):
    config = configs.load("common")
    config.batch_size, config.num_epochs = 8, 1
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=rf"config\.{field}: .* at most {most}$"):
        schedule.plan(config, 24_000)
    config.update_from_flattened_dict({field: most})
    planned = schedule.plan(config, 24_000)
    last = jnp.asarray(planned.steps - 1, jnp.int32)
    assert 0 < jax.jit(schedule.learning_rate(config, planned.steps))(last) < 1e-8
    jax.jit(schedule.hsic_weight(config, planned) if "hsic" in field else jnp.abs)(last)


def test_the_backbone_stands_still_for_the_head_only_epochs_decay_included():
    config = cycle(0.3)
    config.head_only_epochs, config.num_epochs, config.weight_decay = 1, 2, 0.1
    planned = schedule.plan(config, 3 * config.batch_size)
    params = {"conv1": jnp.full((2, 2), 3.0), "fc": jnp.full((2, 2), 3.0)}
    gradient = jax.tree.map(lambda leaf: -jnp.ones_like(leaf), params)
    state = schedule.optimiser(config, planned, planned.phases[0]).init(params)
    moved = []
    for phase in planned.phases:
        tx = schedule.optimiser(config, planned, phase)

        def step(params, state, tx=tx):
            def pullback(_):
                return (gradient,)

            return tx.update(pullback, state, params, grad_fn=lambda _: pullback)

        mapped = jax.jit(
            jax.vmap(step, in_axes=None, out_axes=None, axis_size=1, axis_name=placement.AXIS)
        )
        for _ in range(phase.start, phase.stop):
            updates, state = mapped(params, state)
            norm = float(optax.tree.get(state, "gradient_norm"))
            assert norm == pytest.approx(np.sqrt(8))  # as it comes, without the decay
            params = optax.apply_updates(params, updates)
            moved.append({name: float(jnp.abs(leaf).max()) for name, leaf in updates.items()})
    assert [step["conv1"] for step in moved[:3]] == [0, 0, 0]
    assert all(step["fc"] > 0 for step in moved)
    rate = schedule.learning_rate(config, 6)
    # Adam's first step is as long as the rate: it starts when the backbone does.
    assert moved[3]["conv1"] == pytest.approx(rate(3), rel=1e-4)


def test_a_step_has_the_hsic_the_decay_and_the_devices_that_the_configuration_says():
    """The gradient of two devices, and Adam's first step, worked by hand."""
    config = cycle(0.3)
    config.head_only_epochs, config.num_epochs, config.awp.gamma = 0, 1, 0.0
    config.weight_decay, config.hsic.weight = 0.5, 0.25
    planned = schedule.plan(config, 10 * config.batch_size)
    tx = schedule.optimiser(config, planned, planned.phases[0])
    params = {"fc": jnp.array([2.0, -4.0, 1.0])}
    of_loss, of_hsic = jnp.array([3.0, 2.0, 0.5]), jnp.array([8.0, 4.0, 4.0])

    def step(scale):
        def pullback(cotangents):
            loss, hsic = cotangents
            return ({"fc": scale * (loss * of_loss + hsic * of_hsic)},)

        return tx.update(pullback, tx.init(params), params, grad_fn=lambda _: pullback)

    mapped = jax.vmap(step, axis_name=placement.AXIS)
    updates, state = jax.jit(mapped)(jnp.array([0.5, 1.5]))
    gradient = np.array([3 - 2, 2 - 1, 0.5 - 1])  # less a quarter of that of HSIC
    norms = optax.tree.get(state, "gradient_norm")
    np.testing.assert_allclose(norms, np.linalg.norm(gradient), rtol=1e-6)
    # The decay turns the second sign, and brings the third weight to rest.
    signs = np.sign(gradient + 0.5 * np.array([2, -4, 1]))
    assert signs.tolist() == [1, -1, 0]
    rate = 2e-4 / 25  # at the first step
    np.testing.assert_allclose(updates["fc"], [-rate * signs] * 2, rtol=1e-4, atol=1e-9)


def test_the_perturbation_begins_after_epochs_or_a_part_of_one():
    config = configs.load("common")
    config.batch_size, config.num_epochs, config.head_only_epochs = 8, 4, 0
    for epochs, steps in ((2, 20), (0.25, 2), (0.27, 3), (0, 0)):
        config.awp.warmup_epochs = epochs
        on = [p for p in schedule.plan(config, 80).phases if p.gamma]
        assert [(phase.start, phase.stop) for phase in on] == [(steps, 40)]
