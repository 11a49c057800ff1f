"""HSIC against the textbook formulas in float64 numpy, at the edges, and over devices."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qad_jax.losses import ESTIMATORS, collaborative_hsic, hsic

SIGMA = 0.7
DEVICES = 8


def reference_kernel(x, sigma):
    """The kernel in float64, or in complex128 for a derivative by a complex step."""
    x = np.asarray(x)
    x = x.astype(np.result_type(x, np.float64)).reshape(len(x), -1)
    squares = np.sum((x[:, None] - x[None]) ** 2, axis=-1)
    return np.exp(-squares / (2 * sigma**2 * x.shape[1]))


def reference(x, y, estimator, sigma=SIGMA):
    """The formulas as they are printed, with explicit centring matrices and zeroed diagonals."""
    k, l = reference_kernel(x, sigma), reference_kernel(y, sigma)  # noqa: E741
    m = len(k)
    h = np.eye(m) - np.ones((m, m)) / m
    one = np.ones(m)

    def biased(k, l):  # noqa: E741
        return np.trace(k @ h @ l @ h) / (m - 1) ** 2

    def unbiased(k, l):  # noqa: E741
        k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
        total = (
            np.trace(k @ l)
            + (one @ k @ one) * (one @ l @ one) / ((m - 1) * (m - 2))
            - 2 / (m - 2) * (one @ k @ l @ one)
        )
        return total / (m * (m - 3))

    def resolvent(k):
        centred = h @ k @ h
        return centred @ np.linalg.inv(centred + 1e-5 * m * np.eye(m))

    if estimator == "nhsic":
        return np.trace(resolvent(k) @ resolvent(l))
    plain = {"biased": biased, "cka": biased}.get(estimator, unbiased)
    value = plain(k, l)
    return value / np.sqrt(plain(k, k) * plain(l, l)) if "cka" in estimator else value


def pair(m=12, shape=(5, 3), seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(m, *shape)) * scale
    y = 0.6 * x[..., :2] + 0.4 * scale * rng.normal(size=(*x.shape[:-1], 2))
    return x.astype(np.float32), y.astype(np.float32)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("sigma", [SIGMA, 6.0])
def test_equals_the_formula_in_float64(estimator, sigma):
    x, y = pair()
    got = jax.jit(lambda x, y: hsic(x, y, sigma=sigma, estimator=estimator))(x, y)
    assert got.dtype == jnp.float32
    assert got.shape == ()
    np.testing.assert_allclose(got, reference(x, y, estimator, sigma), rtol=2e-4)


@pytest.mark.parametrize("estimator", ["unbiased", "debiased_cka", "biased", "cka"])
def test_kernels_close_to_one_keep_their_variation(estimator):
    """Wide layers with small features: K differs from 1 in its fifth digit."""
    x, y = pair(m=16, shape=(400, 3), scale=0.05)
    got = hsic(x, y, estimator=estimator)
    np.testing.assert_allclose(got, reference(x, y, estimator, 6.0), rtol=1e-3)


def test_bfloat16_features_are_computed_in_float32():
    x, y = (jnp.asarray(z, jnp.bfloat16) for z in pair())
    got = hsic(x, y, sigma=SIGMA)
    exact = reference(np.asarray(x, np.float32), np.asarray(y, np.float32), "debiased_cka")
    np.testing.assert_allclose(got, exact, rtol=1e-4)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradient_equals_finite_differences_of_the_formula(estimator):
    x, y = pair(m=6, shape=(3, 3))
    gradient = jax.jit(jax.grad(lambda x: hsic(x, y, sigma=SIGMA, estimator=estimator)))(x)
    step = 1e-5
    for index in [(0, 0, 0), (2, 1, 2), (5, 2, 1)]:
        up, down = (x.astype(np.float64) for _ in range(2))
        up[index] += step
        down[index] -= step
        expected = (reference(up, y, estimator) - reference(down, y, estimator)) / (2 * step)
        np.testing.assert_allclose(gradient[index], expected, rtol=5e-3, atol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("constant", [0.0, 0.1, 1234.5])
def test_constant_features_give_zero_and_finite_gradients(estimator, constant):
    x = np.full((8, 100), constant, np.float32)
    _, y = pair(m=8)
    for a, b in [(x, y), (y, x), (x, x)]:
        value, gradients = jax.value_and_grad(
            lambda a, b: hsic(a, b, estimator=estimator), argnums=(0, 1)
        )(a, b)
        assert value == 0.0
        assert all(np.all(np.isfinite(g)) for g in gradients)


@pytest.mark.parametrize("estimator", ["unbiased", "debiased_cka"])
def test_samples_that_are_all_far_apart_tell_nothing(estimator):
    """No kernel of two samples differs from 0: what is left of the matrix is rounding."""
    x, y = (jax.random.normal(jax.random.key(i), (64, 8)) for i in range(2))

    def value(x):
        return hsic(100 * x, 100 * y, sigma=0.5, estimator=estimator)

    got, gradient = jax.value_and_grad(value)(x)
    assert got == 0
    assert not gradient.any()
    # As long as some are near enough, it is what the formula says.
    near, _ = pair(m=64, shape=(4, 2))
    exact = reference(near, near[::-1], estimator, 0.3)
    np.testing.assert_allclose(
        hsic(near, near[::-1], sigma=0.3, estimator=estimator), exact, rtol=2e-3, atol=1e-9
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_what_is_no_number_is_not_independent(estimator, bad):
    x, y = pair(m=8)
    x[3, 2, 1] = bad
    assert np.isnan(hsic(x, y, estimator=estimator))
    assert np.isnan(collaborative_hsic([np.stack([x, x], axis=1)], [1.0], estimator=estimator))


def test_dependence_is_told_from_independence():
    x, _ = pair(m=64)
    rng = np.random.default_rng(1)
    paired = hsic(x, x + 0.1 * rng.normal(size=x.shape).astype(np.float32))
    shuffled = hsic(x, x[rng.permutation(64)])
    assert paired > 0.95
    assert abs(shuffled) < 0.2


def gradient_in_float64(value, at):
    """The gradient of a float64 function by complex steps, in which no difference cancels."""
    step, gradient = 1e-30, np.zeros(at.shape)
    for index in np.ndindex(at.shape):
        moved = at.astype(np.complex128)
        moved[index] += step * 1j
        gradient[index] = value(moved).imag / step
    return gradient


def rounding_of_nhsic(*features):
    """How far float32 moves the gradient of nhsic, relative to its largest entry.

    The gradient is a product with two inverses of Kc + epsilon m I. Rounding moves each of them by
    the unit roundoff times the condition number of that matrix, and the roundings of the m terms of
    a sum add up like a random walk. The smallest eigenvalue is epsilon m, as Kc has no constant.
    """
    m = len(features[0])
    h, ridge = np.eye(m) - 1 / m, 1e-5 * m
    largest = max(np.linalg.eigvalsh(h @ reference_kernel(x, SIGMA) @ h)[-1] for x in features)
    return 2 * np.sqrt(m) * 2.0**-24 * (largest / ridge + 1)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("shape", [(2, 7), (2, 3)])  # 7 features do not divide over 8 devices
def test_over_devices_value_and_gradient_are_those_of_the_global_batch(estimator, shape):
    x, y = pair(m=2 * DEVICES, shape=shape)
    rng = np.random.default_rng(2)
    w = rng.normal(size=(shape[-1], 5)).astype(np.float32)

    def replica(w, x, y):
        def loss(w):
            return hsic(jnp.tanh(x @ w), y, sigma=SIGMA, estimator=estimator, axis_name="batch")

        value, gradient = jax.value_and_grad(loss)(w)
        return value, jax.lax.pmean(gradient, "batch")

    def split(z):
        return z.reshape(DEVICES, -1, *z.shape[1:])

    def features(w):
        return np.tanh(x.astype(np.float64) @ w)

    values, gradients = jax.pmap(replica, "batch", in_axes=(None, 0, 0))(w, split(x), split(y))
    value = reference(features(w), y, estimator)
    gradient = gradient_in_float64(lambda w: reference(features(w), y, estimator), w)
    # For the value of nhsic, the bound of test_equals_the_formula_in_float64 holds here, too.
    bound = 2e-4 if estimator == "nhsic" else 2e-5
    np.testing.assert_allclose(values, np.full(DEVICES, value), rtol=bound)
    error = rounding_of_nhsic(features(w), y) if estimator == "nhsic" else 2e-5
    for g in gradients:
        np.testing.assert_allclose(g, gradient, rtol=2e-4, atol=error * np.abs(gradient).max())


def test_unbiased_counts_the_samples_of_all_devices():
    """Two samples a device are too few for one device and enough for eight."""
    x, y = pair(m=2 * DEVICES)
    axis = jax.pmap(lambda x, y: hsic(x, y, axis_name="batch"), "batch")(
        x.reshape(DEVICES, 2, -1), y.reshape(DEVICES, 2, -1)
    )
    np.testing.assert_allclose(axis, hsic(x, y), rtol=1e-4)


def test_collaborative_is_the_weighted_mean_over_pairs():
    rng = np.random.default_rng(3)
    layers = [rng.normal(size=(10, 3, *shape)).astype(np.float32) for shape in [(4, 4, 2), (7,)]]
    weights = (0.1, 0.5)
    expected = sum(
        weight
        * np.mean(
            [
                reference(layer[:, a], layer[:, b], "debiased_cka")
                for a, b in itertools.combinations(range(3), 2)
            ]
        )
        for layer, weight in zip(layers, weights, strict=True)
    )
    got = jax.jit(lambda f: collaborative_hsic(f, weights, sigma=SIGMA))(layers)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_a_layer_of_weight_zero_costs_nothing():
    layers = [jnp.ones((8, 3, 16)), jnp.ones((8, 3, 4096))]

    def flops(layers, weights):
        compiled = jax.jit(lambda f: collaborative_hsic(f, weights)).lower(layers)
        return compiled.cost_analysis()["flops"]

    assert flops(layers, (1.0, 0.0)) == flops(layers[:1], (1.0,))
    assert flops(layers, (1.0, 1.0)) > 10 * flops(layers, (1.0, 0.0))
    assert collaborative_hsic(layers, (0.0, 0.0)) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: hsic(x, x, estimator="cca"), "unknown estimator 'cca'"),
        (lambda x: hsic(x, x[:-1]), "same samples"),
        (lambda x: hsic(x[:3], x[:3]), "3 samples.*needs at least 4"),
        (lambda x: hsic(x[:1], x[:1], estimator="biased"), "needs at least 2"),
        (lambda x: hsic(x, x, sigma=0.0), "sigma is 0.0"),
        (lambda x: collaborative_hsic([x], (1.0, 1.0)), "1 layers of features, 2 weights"),
        (lambda x: collaborative_hsic([x[:, :1]], (1.0,)), "one quality"),
        (lambda x: collaborative_hsic([x, x[:, :2]], (1.0, 1.0)), "same m and Q"),
    ],
)
def test_mistakes_are_named_while_tracing(call, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call, jax.ShapeDtypeStruct((8, 3, 5), jnp.float32))
