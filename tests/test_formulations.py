"""Speed changes no number: fifty steps against the same network written in plain operations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from qad_jax import models, transforms
from qad_jax.models import depthwise, layers
from qad_jax.training.step import Objective, make_train_step
from tests.test_step import LAYERS, make_batch, make_state

STEPS, TUPLES, SIZE = 50, 8, 16


def convolve(x, kernel, stride, padding, groups=1):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        (padding, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def write_plainly(monkeypatch):
    """XLA's convolution for every convolution, flax's pooling, no barrier."""

    def grouped(x, kernel, stride, padding):
        return convolve(x, kernel[:, :, None].astype(x.dtype), stride, padding, x.shape[-1])

    def dense(x, kernel, stride, padding):
        return convolve(x, kernel.astype(x.dtype), stride, padding)

    monkeypatch.setattr(layers, "depthwise", grouped)
    monkeypatch.setattr(layers, "convolve", dense)
    pool = nn.max_pool
    monkeypatch.setattr(
        models.resnet, "max_pool", lambda x: pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    )
    monkeypatch.setattr(lax, "optimization_barrier", lambda x: x)


def train(name, rate, dtype=jnp.float32):
    model = models.create(name, dtype=dtype)
    # Not Adam: its first steps turn the sign of a rounding error into a whole step.
    tx = optax.chain(transforms.qad_gradient(gamma=0.0, hsic_weight=0.1), optax.sgd(rate))
    step = jax.jit(make_train_step(Objective(model, LAYERS), tx, seed=0))
    state, batch, found = make_state(model, tx, SIZE), make_batch(TUPLES, SIZE), []
    for _ in range(STEPS):
        state, metrics = step(state, batch)
        found.append([metrics["cross_entropy"], metrics["hsic"]])
    return np.asarray(found), step.lower(state, batch).as_text()


@pytest.mark.parametrize(("name", "rate"), [("resnet_tiny", 3e-4), ("efficientnet_tiny", 0.02)])
def test_fifty_steps_lose_as_plainly_written(name, rate, monkeypatch):
    """Activations are smooth: where a ReLU turns, the last bit decides on a whole gradient.

    With ReLU, two orders of the same sums part by a hundredth of HSIC once that has happened.
    """
    monkeypatch.setattr(nn, "relu", nn.silu)
    fast, fast_program = train(name, rate)
    write_plainly(monkeypatch)
    plain, plain_program = train(name, rate)
    assert "optimization_barrier" in fast_program
    assert "optimization_barrier" not in plain_program
    assert plain_program.count("stablehlo.convolution") > fast_program.count(
        "stablehlo.convolution"
    )
    assert fast[-1, 0] < 0.95 * fast[0, 0]  # it learns, so that there is something to compare
    np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 3, 4, 24])
def test_kernel_gradients_of_all_platforms_are_the_same(samples):
    """In float64 numpy, tap by tap."""
    rng = np.random.default_rng(0)
    padded = rng.standard_normal((samples, 11, 9, 5)).astype(np.float32)
    factor = rng.standard_normal((samples, 5, 4, 5)).astype(np.float32)
    expected = np.zeros((3, 3, 5))
    for i in range(3):
        for j in range(3):
            tap = padded[:, i : i + 9 : 2, j : j + 7 : 2].astype(np.float64)
            expected[i, j] = np.sum(tap * factor, axis=(0, 1, 2))
    for way in (depthwise._sums_in_one_pass, depthwise._sums_in_two_passes):
        found = jax.jit(way, static_argnums=(0, 1))(3, 2, padded, factor)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_on_a_gpu_16_bits_are_convolved_by_cudnn_and_compute_the_same():
    """The program for a GPU has grouped convolutions, forward and back; the one for a CPU none."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 3, 4)).astype(np.float32)

    def value_and_gradients(x, kernel):
        result, pull = jax.vjp(lambda x, k: depthwise.depthwise(x, k, 2, (0, 1)), x, kernel)
        return result, pull(jnp.cos(result))

    for dtype, cudnn in ((jnp.bfloat16, 3), (jnp.float32, 0)):
        x = jnp.asarray(rng.standard_normal((2, 8, 6, 4)), dtype)
        traced = jax.jit(value_and_gradients).trace(x, kernel)
        for platform, count in (("cuda", cudnn), ("cpu", 0)):
            program = traced.lower(lowering_platforms=(platform,)).as_text()
            assert program.count("stablehlo.convolution") == count, (dtype, platform)

    # What a CPU makes of the way of the GPU.
    x = x.astype(jnp.float32)
    result, gradients = jax.jit(value_and_gradients)(x, kernel)
    grouped = depthwise._grouped(2, (0, 1), x, kernel)
    np.testing.assert_allclose(grouped, result, rtol=1e-5, atol=1e-5)
    factor = jnp.cos(result)
    pulled = depthwise._grouped_kernel_gradient(kernel, 2, (0, 1), x, factor)
    np.testing.assert_allclose(pulled, gradients[1], rtol=1e-5, atol=1e-5)
