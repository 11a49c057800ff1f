"""Convolutions by oneDNN against sums in float64 numpy, and trainings with them."""

import concurrent.futures
import contextlib
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from qad_jax import cpu
from qad_jax.models import convolution, depthwise, onednn
from qad_jax.models.onednn import library
from tests.conftest import ROOT
from tests.test_formulations import train

pytestmark = pytest.mark.skipif(
    not onednn.installed(), reason="the extra onednn is not installed, or not for this machine"
)
#: Machines without such arithmetic have no convolution of bfloat16 in oneDNN.
has_bfloat16 = pytest.mark.skipif(not cpu.has_bfloat16(), reason="no bfloat16 in this processor")
DTYPES = [jnp.float32, pytest.param(jnp.bfloat16, marks=has_bfloat16)]


def by_sums(x, kernel, stride, padding, factor):
    """The convolution, and the gradients of its product with a factor; all float64."""
    before, after = padding
    padded = np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
    side = len(kernel)
    result = np.zeros(factor.shape)
    x_gradient, kernel_gradient = np.zeros(padded.shape), np.zeros(kernel.shape)
    rows, columns = factor.shape[1:3]
    each = kernel.ndim == 3  # a filter for each channel
    for i in range(side):
        for j in range(side):
            part = np.s_[:, i : i + rows * stride : stride, j : j + columns * stride : stride]
            tap = padded[part][:, :rows, :columns]
            if each:
                result += tap * kernel[i, j]
                x_gradient[part] += factor * kernel[i, j]
                kernel_gradient[i, j] = np.sum(tap * factor, axis=(0, 1, 2))
            else:
                result += tap @ kernel[i, j]
                x_gradient[part] += factor @ kernel[i, j].T
                kernel_gradient[i, j] = np.einsum("nhwc,nhwd->cd", tap, factor)
    inside = np.s_[:, before : padded.shape[1] - after, before : padded.shape[2] - after]
    return result, x_gradient[inside], kernel_gradient


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((2, 9, 8, 5), (3, 3, 5, 7), 1, (1, 1)),
        ((2, 9, 8, 16), (3, 3, 16, 8), 2, (0, 1)),
        ((1, 15, 16, 3), (7, 7, 3, 4), 2, (3, 3)),
        ((3, 6, 7, 32), (1, 1, 32, 16), 2, (0, 0)),
        ((3, 8, 7, 6), (3, 3, 6), 1, (1, 1)),
        ((2, 9, 10, 16), (5, 5, 16), 2, (2, 2)),
        ((2, 7, 7, 24), (3, 3, 24), 2, (0, 1)),
    ],
    ids=["3x3", "one side", "stem", "1x1", "depthwise", "depthwise 5x5", "depthwise one side"],
)
def test_a_convolution_and_both_gradients(size, kernel, stride, padding, dtype, monkeypatch):
    monkeypatch.setenv(cpu.ONEDNN, "1")
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal(size), dtype)
    # What bfloat16 holds, because kernels are rounded to it.
    weights = jnp.asarray(rng.standard_normal(kernel), dtype).astype(jnp.float32)
    way = convolution.convolve if len(kernel) == 4 else depthwise.depthwise

    @jax.jit
    def both(x, weights, factor):
        result, pull = jax.vjp(lambda x, weights: way(x, weights, stride, padding), x, weights)
        return result, *pull(factor)

    rows, columns = ((length + sum(padding) - kernel[0]) // stride + 1 for length in size[1:3])
    factor = jnp.asarray(rng.standard_normal((size[0], rows, columns, kernel[-1])), dtype)
    assert both.lower(x, weights, factor).as_text().count(onednn.TARGET) == 3
    found = both(x, weights, factor)
    assert [array.dtype for array in found] == [dtype, dtype, jnp.float32]
    arrays = (np.asarray(array, np.float64) for array in (x, weights))
    expected = by_sums(*arrays, stride, padding, np.asarray(factor, np.float64))
    for ours, right in zip(found, expected, strict=True):
        rounding = 2.0**-8 if ours.dtype == jnp.bfloat16 else 1e-5
        np.testing.assert_allclose(
            np.asarray(ours, np.float64), right, rtol=rounding, atol=rounding * np.abs(right).max()
        )


@pytest.fixture(scope="module")
def by_xla():
    """Losses of fifty steps of float32, in which XLA computes everything."""
    found, program = train("efficientnet_tiny", 0.02)
    assert onednn.TARGET not in program
    return found


def test_fifty_steps_of_float32_lose_as_with_xla(by_xla, monkeypatch):
    """Squeeze-and-excite, depthwise and dense convolutions; swish, because ReLU turns on a bit."""
    monkeypatch.setenv(cpu.ONEDNN, "1")
    found, program = train("efficientnet_tiny", 0.02)
    assert onednn.TARGET in program
    np.testing.assert_allclose(found, by_xla, rtol=1e-4, atol=1e-5)


@has_bfloat16
def test_fifty_steps_of_bfloat16_lose_as_those_of_float32(by_xla):
    found, program = train("efficientnet_tiny", 0.02, jnp.bfloat16)
    assert onednn.TARGET in program
    np.testing.assert_allclose(found[:, 0], by_xla[:, 0], rtol=0.02)


@pytest.mark.parametrize(
    ("value", "bfloat16", "cores", "wanted"),
    [
        (None, True, 16, [True, False]),
        (None, True, 17, [False, False]),
        (None, False, 2, [False, False]),
        ("0", True, 2, [False, False]),
        ("1", True, 17, [True, True]),
        ("1", False, 2, [False, True]),
    ],
)
def test_when_it_is_used(value, bfloat16, cores, wanted, monkeypatch):
    monkeypatch.setattr(onednn, "available_cores", lambda: cores)
    monkeypatch.setattr(cpu, "has_bfloat16", lambda: bfloat16)
    monkeypatch.delenv(cpu.ONEDNN, raising=False)
    if value is not None:
        monkeypatch.setenv(cpu.ONEDNN, value)
    assert [onednn.wanted(dtype) for dtype in ("bfloat16", "float32")] == wanted
    assert not onednn.wanted("float16")
    with onednn.unused():
        assert not any(map(onednn.wanted, ("bfloat16", "float32")))
    monkeypatch.setattr(onednn, "installed", lambda: False)
    assert not any(map(onednn.wanted, ("bfloat16", "float32")))


@pytest.mark.parametrize("used", [True, False])
def test_a_program_for_other_machines_is_traced_without_it(used, monkeypatch):
    monkeypatch.setenv(cpu.ONEDNN, "1")
    x, kernel = jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 2, 2))
    with contextlib.nullcontext() if used else onednn.unused():
        program = jax.jit(lambda x, k: convolution.convolve(x, k, 1, (1, 1))).lower(x, kernel)
    assert (onednn.TARGET in program.as_text()) is used


def test_what_cannot_be_computed_is_an_error_and_not_a_crash():
    sides = jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 2, 2))
    onednn._handler()  # it is registered
    call = jax.ffi.ffi_call(onednn.TARGET, jax.ShapeDtypeStruct((1, 4, 4, 2), jnp.float32))
    with pytest.raises(jax.errors.JaxRuntimeError, match="oneDNN could not compute a convolution"):
        jax.block_until_ready(jax.jit(lambda x, k: call(x, k, key=np.int64(1)))(*sides))
    impossible = library.Geometry((1, 4, 4, 2), (3, 3, 9, 2), (1, 4, 4, 2), 1, 1, 1, "float32")
    with pytest.raises(library.OneDnnError, match="convolution_forward_primitive_desc_create ends"):
        onednn.convolution(*sides, impossible)


def test_programs_of_several_threads_do_not_disturb_each_other(monkeypatch):
    monkeypatch.setenv(cpu.ONEDNN, "1")
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.standard_normal((3, 3, 8, 8)), jnp.float32)
    maps = [jnp.asarray(rng.standard_normal((4, 16, 16, 8)), jnp.float32) for _ in range(16)]
    run = jax.jit(lambda x: convolution.convolve(x, kernel, 1, (1, 1)))
    expected = [
        lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        for x in maps
    ]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, maps * 4))
    for ours, right in zip(found, expected * 4, strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-4, atol=1e-4)


FIRST_CALLS = """
import threading
import jax, jax.numpy as jnp, numpy as np
from qad_jax.models import convolution

x = np.random.default_rng(0).standard_normal((2, 17, 17, 3)).astype(np.float32)
kernel = np.random.default_rng(1).standard_normal((7, 7, 3, 64)).astype(np.float32)
start, found = threading.Barrier(4), []

def first(number):
    start.wait()
    way = jax.grad(lambda k: jnp.sum(convolution.convolve(x, k, 2, (3, 3)) ** 2))
    found.append(jax.jit(way).lower(kernel).compile())

def later(number):
    found[number] = np.asarray(found[number](kernel))

for work in (first, later):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
padded = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0))).astype(np.float64)
windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), (1, 2))[:, ::2, ::2]
result = np.einsum("nhwcij,ijcd->nhwd", windows, kernel)
expected = np.einsum("nhwcij,nhwd->ijcd", windows, 2 * result)
for gradient in found:
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
print("equal")
"""


@pytest.mark.checkout
@pytest.mark.parametrize("isa", ["SSE41", "DEFAULT"])
def test_a_process_may_trace_first_in_many_threads_and_compute_in_others(isa):
    """Where a processor has no better kernels, oneDNN needs scratch memory, of the right thread."""
    settings = {"ONEDNN_MAX_CPU_ISA": isa, cpu.ONEDNN: "1", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", FIRST_CALLS],
        env={**os.environ, **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr


def test_a_library_that_does_not_work_is_not_used(tmp_path, monkeypatch):
    broken = tmp_path / "libdnnl.so.3"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(library, "find", lambda: broken)
    with pytest.warns(UserWarning, match=r"without oneDNN, which does not work: .*libdnnl"):
        assert onednn.installed.__wrapped__() is False
    monkeypatch.setattr(library, "find", lambda: None)
    assert onednn.installed.__wrapped__() is False


def test_a_batch_of_batches_is_computed(monkeypatch):
    monkeypatch.setenv(cpu.ONEDNN, "1")
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2, 5, 5, 4)), jnp.float32)
    found = jax.vmap(lambda x: convolution.convolve(x, jnp.ones((1, 1, 4, 2)), 1, (0, 0)))(x)
    np.testing.assert_allclose(found, np.repeat(x.sum(-1, keepdims=True), 2, -1), rtol=1e-4)


def test_several_devices_of_one_processor_compute_at_once(monkeypatch):
    monkeypatch.setenv(cpu.ONEDNN, "1")
    count = jax.local_device_count()
    x = np.random.default_rng(0).standard_normal((count, 2, 6, 6, 4)).astype(np.float32)
    kernel = jnp.ones((1, 1, 4, 2))
    found = jax.pmap(lambda x: convolution.convolve(x, kernel, 1, (0, 0)))(x)
    np.testing.assert_allclose(found, np.repeat(x.sum(-1, keepdims=True), 2, -1), rtol=1e-4)
