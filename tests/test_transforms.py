"""The transforms against the ascent formula in float64 numpy, in chains, under jit and pmap."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qad_jax.losses
import qad_jax.transforms
from qad_jax.transforms import awp, collaborative, cross_replica_mean, qad

GAMMA = 0.1
WEIGHT = 0.3
DEVICES = 8


def make_params(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "kernel": rng.normal(size=(4, 3)).astype(np.float32),
        "bias": rng.normal(size=3).astype(np.float32),
        "zero": np.zeros((3, 2), np.float32),
        "unused": np.ones((2, 2), np.float32),
    }


def make_batch(samples=8, seed=1):
    return np.random.default_rng(seed).normal(size=(samples, 4)).astype(np.float32)


def losses(params, x):
    """Two scalars with curvature, so that the gradient nearby differs from the gradient here."""
    hidden = x @ params["kernel"] + params["bias"]
    return (
        jnp.mean(hidden**4) + jnp.mean((hidden @ params["zero"]) ** 2),
        jnp.mean(jnp.abs(hidden) ** 3),
    )


def exact_gradient(params, x, weight=WEIGHT):
    """The gradient of `losses` combined, written out by hand, in float64."""
    p = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}
    x = np.asarray(x, np.float64)
    hidden = x @ p["kernel"] + p["bias"]
    out = hidden @ p["zero"]
    d_out = 2 * out / out.size
    d_hidden = 4 * hidden**3 / hidden.size + d_out @ p["zero"].T
    d_hidden -= weight * 3 * np.abs(hidden) * hidden / hidden.size
    return {
        "kernel": x.T @ d_hidden,
        "bias": d_hidden.sum(0),
        "zero": hidden.T @ d_out,
        "unused": np.zeros((2, 2)),
    }


def exact_awp(params, x, gamma=GAMMA, weight=WEIGHT):
    gradient = exact_gradient(params, x, weight)
    perturbed = {}
    for name, leaf in params.items():
        w = np.asarray(leaf, np.float64)
        g = gradient[name]
        sizes = np.linalg.norm(w), np.linalg.norm(g)
        moves = w.ndim > 1 and min(sizes) > 0
        perturbed[name] = w + gamma * sizes[0] / sizes[1] * g if moves else w
    return exact_gradient(perturbed, x, weight)


def close(got, expected, rtol=2e-5):
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=rtol, atol=1e-5, err_msg=name)


def apply(tx, params, x, state=None, **extra):
    def at(p):
        return jax.vjp(lambda p: losses(p, x), p)[1]

    state = tx.init(params) if state is None else state
    return tx.update(at(params), state, params, grad_fn=at, **extra)


def test_awp_hands_on_the_gradient_at_the_perturbed_weights():
    params, x = make_params(), make_batch()
    tx = awp(GAMMA, inner=collaborative(WEIGHT))
    updates, state = jax.jit(lambda p, x: apply(tx, p, x))(params, x)
    close(updates, exact_awp(params, x))
    # Of the leaves with two axes one is zero and one has no gradient: the kernel alone moves.
    length = GAMMA * np.linalg.norm(np.asarray(params["kernel"], np.float64))
    np.testing.assert_allclose(optax.tree.get(state, "perturbation_norm"), length, rtol=1e-5)
    clean = exact_gradient(params, x)["kernel"]
    assert np.abs(updates["kernel"] - clean).max() > 0.05 * np.abs(clean).max()


def test_awp_on_plain_gradients():
    params, x = make_params(), make_batch()
    grad = jax.grad(lambda p: losses(p, x)[0])
    tx = awp(GAMMA)
    updates, _ = tx.update(grad(params), tx.init(params), params, grad_fn=grad)
    close(updates, exact_awp(params, x, weight=0.0))


@pytest.mark.parametrize("scale", [0.0, 1e-30])
def test_zero_and_tiny_gradients(scale):
    params = make_params()
    seen = []

    def grad_fn(p):
        seen.append(p)
        return jax.tree.map(jnp.ones_like, p)

    gradient = jax.tree.map(lambda leaf: scale * jnp.ones_like(leaf), params)
    tx = awp(GAMMA)
    updates, _ = tx.update(gradient, tx.init(params), params, grad_fn=grad_fn)
    close(updates, jax.tree.map(np.ones_like, params))
    kernel = params["kernel"]
    step = GAMMA * np.linalg.norm(kernel) / np.sqrt(kernel.size) if scale else 0.0
    np.testing.assert_allclose(seen[0]["kernel"], kernel + step, rtol=1e-5)
    np.testing.assert_array_equal(seen[0]["bias"], params["bias"])
    np.testing.assert_array_equal(seen[0]["zero"], params["zero"])


def test_no_second_pass_while_the_schedule_is_zero():
    params, x = make_params(), make_batch()
    passes = []

    def counted(p):
        jax.debug.callback(lambda: passes.append(1))
        return jax.vjp(lambda p: losses(p, x), p)[1]

    tx = awp(lambda count: jnp.where(count < 2, 0.0, GAMMA), inner=collaborative(WEIGHT))

    @jax.jit
    def step(state):
        pullback = jax.vjp(lambda p: losses(p, x), params)[1]
        return tx.update(pullback, state, params, grad_fn=counted)

    state = tx.init(params)
    for expected in [exact_gradient, exact_gradient, exact_awp]:
        updates, state = step(state)
        close(updates, expected(params, x))
        assert (state.perturbation_norm > 0) == (expected is exact_awp)
    jax.effects_barrier()
    assert len(passes) == 1
    assert state.count == 3
    assert state.inner_state.count == 3  # one step of the inner schedule an update, not two


@pytest.mark.parametrize("gamma", [0.0, -1.0, optax.constant_schedule(0.0)])
def test_gamma_off_needs_no_gradient_elsewhere(gamma):
    params, x = make_params(), make_batch()
    tx = awp(gamma, inner=collaborative(WEIGHT))

    def never(_):
        raise AssertionError("a second pass was run")

    pullback = jax.vjp(lambda p: losses(p, x), params)[1]
    updates, _ = tx.update(pullback, tx.init(params), params, grad_fn=never)
    close(updates, exact_gradient(params, x))


def test_collaborative_follows_its_schedule():
    params, x = make_params(), make_batch()
    tx = collaborative(optax.linear_schedule(0.0, WEIGHT, 2))
    state = tx.init(params)
    for weight in (0.0, WEIGHT / 2, WEIGHT, WEIGHT):
        updates, state = apply(tx, params, x, state)
        close(updates, exact_gradient(params, x, weight))


def test_in_a_chain_with_others_that_take_extra_arguments():
    params, x = make_params(), make_batch()

    def scaled(updates, state, params=None, *, factor, **extra):
        assert "grad_fn" in extra
        return jax.tree.map(lambda u: factor * u, updates), state

    scale = optax.GradientTransformationExtraArgs(optax.init_empty_state, scaled)
    inner = optax.chain(collaborative(WEIGHT), scale)
    tx = optax.chain(awp(GAMMA, inner=inner), scale, optax.scale(-1.0))
    updates, _ = apply(tx, params, x, factor=3.0)
    # A factor on the gradient leaves the relative ascent step where it was.
    close(updates, jax.tree.map(lambda g: -9.0 * g, exact_awp(params, x)))


def test_over_devices_it_climbs_the_loss_of_the_global_batch():
    params, x = make_params(), make_batch(2 * DEVICES)
    tx = awp(GAMMA, inner=optax.chain(collaborative(WEIGHT), cross_replica_mean("batch")))

    def replica(params, x):
        return apply(tx, params, x)[0]

    updates = jax.pmap(replica, "batch", in_axes=(None, 0))(params, x.reshape(DEVICES, 2, 4))
    for device in range(DEVICES):
        close(jax.tree.map(lambda u, d=device: u[d], updates), exact_awp(params, x), rtol=1e-4)


def test_schedule_under_pmap():
    params, x = make_params(), make_batch(2 * DEVICES)
    tx = qad(
        0.1,
        gamma=lambda count: jnp.where(count < 1, 0.0, GAMMA),
        hsic_weight=WEIGHT,
        axis_name="batch",
    )

    def two_steps(params, x):
        first, state = apply(tx, params, x)
        return first, apply(tx, params, x, state)[0]

    first, second = jax.pmap(two_steps, "batch", in_axes=(None, 0))(
        params, x.reshape(DEVICES, 2, 4)
    )
    # Adam's first step is the sign of the gradient times the rate.
    expected = -0.1 * np.sign(exact_gradient(params, x)["kernel"])
    np.testing.assert_allclose(first["kernel"][3], expected, rtol=1e-4)
    # The second step perturbs: Adam's two moments of both gradients, written out in float64.
    gradients = exact_gradient(params, x), exact_awp(params, x)
    for name in params:
        one, two = (gradient[name] for gradient in gradients)
        mean = (0.9 * 0.1 * one + 0.1 * two) / (1 - 0.9**2)
        spread = (0.999 * 0.001 * one**2 + 0.001 * two**2) / (1 - 0.999**2)
        expected = -0.1 * mean / (np.sqrt(spread) + 1e-8)
        for device in range(DEVICES):
            np.testing.assert_allclose(second[name][device], expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(second["kernel"], axis=0).max() == 0.0


def test_qad_is_coupled_adam_on_the_gradient_at_the_worst_weights():
    """Three steps against Adam with L2 in the gradient, written out in float64."""
    rate, decay, params, x = 0.01, 0.1, make_params(), make_batch()
    tx = qad(rate, gamma=GAMMA, hsic_weight=WEIGHT, weight_decay=decay)
    step = jax.jit(lambda p, s: apply(tx, p, x, s))
    state = tx.init(params)
    exact = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}
    first = {name: np.zeros_like(leaf) for name, leaf in exact.items()}
    second = {name: np.zeros_like(leaf) for name, leaf in exact.items()}
    for t in range(1, 4):
        updates, state = step(params, state)
        params = optax.apply_updates(params, updates)
        gradient = exact_awp(exact, x)
        for name, w in exact.items():
            g = gradient[name] + decay * w
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            mean, spread = first[name] / (1 - 0.9**t), second[name] / (1 - 0.999**t)
            exact[name] = w - rate * mean / (np.sqrt(spread) + 1e-8)
    close(params, exact, rtol=1e-4)


def test_awp_without_params_or_gradient_function():
    tx = awp(GAMMA)
    state = tx.init({"w": jnp.ones(2)})
    with pytest.raises(ValueError, match="pass `params`"):
        tx.update({"w": jnp.ones(2)}, state, grad_fn=lambda p: p)
    with pytest.raises(TypeError, match="grad_fn"):
        tx.update({"w": jnp.ones(2)}, state, {"w": jnp.ones(2)})


@pytest.mark.parametrize("module", [qad_jax.losses, qad_jax.transforms])
def test_examples_in_the_documentation_run(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
