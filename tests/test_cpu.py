"""Settings of the process: made where they help, and never over the user's own."""

import importlib.metadata
import importlib.util
import os
import re
import resource
import subprocess
import sys

import pytest

from qad_jax import cpu
from tests.commands import call
from tests.conftest import ROOT

OURS = (
    "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution "
    "--xla_disable_hlo_passes=cse_barrier_expander"
)


@pytest.fixture
def tuned(monkeypatch):
    """XLA_FLAGS behind a call of `tune`, on a machine of some kind."""

    def tuned(given, plugins=(), jaxlib="0.10.2"):
        monkeypatch.setattr(cpu, "keep_freed_memory", lambda: None)  # not for the other tests
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in plugins or None)
        monkeypatch.setattr(importlib.metadata, "version", lambda name: jaxlib)
        monkeypatch.setenv("XLA_FLAGS", given)
        cpu.tune()
        return os.environ["XLA_FLAGS"]

    return tuned


def test_flags_are_added_to_the_users(tuned):
    assert tuned("") == OURS
    assert tuned("--xla_dump_to=x") == f"--xla_dump_to=x {OURS}"
    assert tuned(OURS) == OURS


def test_what_the_user_has_set_stays(tuned):
    mine = "--xla_disable_hlo_passes=fusion"
    assert tuned(mine) == f"{mine} {OURS.split()[0]}"


@pytest.mark.parametrize("plugin", ["jax_plugins", "libtpu"])
def test_an_accelerator_is_left_alone(tuned, plugin):
    assert tuned("--a=b", plugins=(plugin,)) == "--a=b"


@pytest.mark.parametrize("jaxlib", ["0.10.0", "0.11.2", "0.12.0", "0.12.0.1"])
def test_flags_are_those_of_every_jaxlib_they_were_tried_on(tuned, jaxlib):
    assert tuned("", jaxlib=jaxlib) == OURS


@pytest.mark.parametrize("jaxlib", ["0.9.2", "0.12.0.2", "0.12.1", "0.13.0", "0.12.0.dev20260901"])
def test_flags_that_another_jaxlib_may_not_know_are_left_out(tuned, jaxlib):
    assert tuned("--a=b", jaxlib=jaxlib) == "--a=b"


@pytest.mark.checkout
def test_the_pinned_jaxlibs_are_tuned(tuned):
    files = sorted((ROOT / "requirements").glob("*.txt"))
    assert len(files) == 3
    for file in files:
        (version,) = re.findall(r"^jaxlib==(.+)$", file.read_text(), re.MULTILINE)
        assert tuned("", jaxlib=version) == OURS, f"{file.name}: see qad_jax/cpu.py"


def cpuinfo(flags, name="model name\t: A processor @ 2 GHz\n"):
    """As Linux tells it of two cores; on Arm there is another name for the flags, and no model."""
    core = f"processor\t: 0\n{name}{flags}\nbogomips\t: 1\n\n"
    return core + core.replace("A processor", "Another")


X86 = "flags\t\t: fpu sse2 avx2 avx512f"


def test_a_processor_is_read_from_what_linux_tells():
    name, flags = cpu.processor(cpuinfo(X86))
    assert name == "A processor @ 2 GHz"
    assert flags == {"fpu", "sse2", "avx2", "avx512f"}
    assert cpu.processor("") == ("", frozenset())
    assert cpu.processor(cpuinfo("Features\t: fp asimd bf16", "")) == ("", {"fp", "asimd", "bf16"})


def test_what_bfloat16_brings_is_told():
    assert cpu.bfloat16_note(cpuinfo(X86)) == cpu.bfloat16_note(cpuinfo(X86), onednn=True)
    assert cpu.bfloat16_note(cpuinfo(X86)) == (
        "bfloat16 is emulated on this processor, which has neither avx512_bf16 nor amx_bf16: "
        "expect no faster steps than with float32"
    )
    for flag in ("avx512_bf16", "amx_bf16"):
        text = cpuinfo(f"{X86} {flag}")
        assert cpu.bfloat16_note(text) == (
            "no faster than float32 without oneDNN (pip install 'qad-jax[onednn]'); with it, a "
            "ResNet takes about half the time, and an EfficientNet as long"
        )
        assert cpu.bfloat16_note(text, onednn=True) == "oneDNN computes the convolutions"


@pytest.mark.parametrize("text", ["", cpuinfo("Features\t: fp asimd bf16", "")])
def test_nothing_is_told_of_bfloat16_where_nothing_is_known(text):
    assert not cpu.has_bfloat16(text)
    assert cpu.bfloat16_note(text) is None


@pytest.mark.parametrize(("dtype", "notes"), [("bfloat16", 1), ("float32", 0)])
def test_a_training_begins_with_the_note(dtype, notes, monkeypatch, tmp_path):
    monkeypatch.setattr(cpu, "bfloat16_note", lambda onednn: "it is slow")
    words = ["--config=quickstart", f"--workdir={tmp_path}/run", f"--config.model.dtype={dtype}"]
    told = call(*words, f"--config.model.pretrained={tmp_path}/missing.pth")
    assert told.err.count("note: config.model.dtype: it is slow\n") == notes
    assert "missing.pth" in told.err.splitlines()[-1]
    assert (told.status, told.out) == (1, "")


def run(code):
    clean = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_barriers_hold_in_a_tuned_process():
    """And this jaxlib knows both flags: it would have ended the process."""
    code = (
        "{}\nimport jax, jax.numpy as jnp\n"
        "def f(x):\n"
        "    y = jax.lax.optimization_barrier(jnp.sin(x))\n"
        "    return y * 2, y.reshape(-1)\n"
        "print('opt-barrier' in jax.jit(f).lower(jnp.ones((8, 8))).compile().as_text())"
    )
    assert run(code.format("from qad_jax import cpu; cpu.tune()")) == ["True"]
    assert run(code.format("")) == ["False"]


@pytest.mark.skipif(sys.platform != "linux", reason="no glibc on this system")
def test_memory_once_freed_is_not_fetched_from_the_kernel_again():
    code = (
        "{}\nimport resource, numpy as np\n"
        "def work():\n"
        "    np.ones(25_000_000)\n"  # 200 MB
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "work()\nbefore = faults()\nwork()\nprint(faults() - before)"
    )
    pages = 200e6 / resource.getpagesize()
    (kept,) = run(code.format("from qad_jax import cpu; cpu.keep_freed_memory()"))
    (returned,) = run(code.format(""))
    assert int(kept) < 0.01 * pages
    # Else the first says nothing; fewer faults than pages where the kernel gives huge ones.
    assert int(returned) > 10 * int(kept)
