"""Eight virtual devices on one CPU, a compilation cache that outlives the run, shared datasets."""

import contextlib
import gc
import os
from pathlib import Path

import pytest

from qad_jax import cpu

ROOT = Path(__file__).resolve().parent.parent

#: Where the package is tested without its sources, there is nothing that these could import. What
#: needs a file of them in one test alone is marked `checkout`.
NEED_SOURCES = ("test_leaked_videos.py", "test_painted_faces.py")
collect_ignore = [] if (ROOT / "benchmarks").is_dir() else [*NEED_SOURCES]

# Before jax is imported, and inherited by the commands that tests start. Tiny models run for
# milliseconds and compile for seconds: the compiler's cheapest settings take a third of the time.
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8"]
)
cpu.add_flags(
    {
        "--xla_backend_optimization_level=0": ("0.10.0", "0.12.0.1"),
        "--xla_cpu_use_fusion_emitters=false": ("0.10.0", "0.11.0"),
    }
)
cpu.add_flags()  # as the command does: what runs in this process must have the bits of one
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
# The many small programs, too: each process that a test starts would compile them again.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


# Tracing a network makes hundreds of thousands of objects, and pytest holds millions: collected as
# rarely as this, they cost a sixth less time.
gc.set_threshold(100_000, 50, 100)


#: How a reason to skip ends where the machine itself lacks something. Packages and programs are
#: installed on all machines of CI.
OF_THE_MACHINE = ("on this system", "in this processor")


def failed_in_ci(report):
    """Fails what is skipped on the machines of CI, where nobody would see that it is not tested."""
    if os.environ.get("CI") and report.skipped:
        *_, reason = report.longrepr
        if not reason.endswith(OF_THE_MACHINE):
            report.outcome, report.longrepr = "failed", f"must not be skipped in CI: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return failed_in_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return failed_in_ci((yield))  # of a module that is skipped as a whole


@pytest.fixture(scope="session")
def manifest(tmp_path_factory):
    """A data.json of 40 / 12 / 14 tuples at three qualities, PNG and JPEG, of different sizes."""
    from tests.faces import write_manifest

    folder = tmp_path_factory.mktemp("crops")
    counts = {"train": 40, "val": 12, "test": 14}
    return write_manifest(folder, counts, suffixes=(".png", ".jpg", ".png"))


@pytest.fixture(scope="module")
def pairs_in_this_process():
    """Where a codec could end it; but a process of its own compiles the detector anew."""
    from data_builders.self_blended.builder import SelfBlended

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SelfBlended, "APART", False)
        yield


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where datasets are built, once for all tests."""
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(scope="session")
def dataset(manifest, data_dir):
    """The manifest's dataset, built."""
    from data_builders import build

    made = build.builder("manifest", data_dir=data_dir, manifest=manifest)
    build.prepare(made)
    return made


@pytest.fixture(scope="module")
def chromium():
    """A browser; of a module, as its event loop is in the way."""
    from data_builders.errors import UserError
    from tests.browser import browser

    with contextlib.ExitStack() as stack:
        try:
            opened = stack.enter_context(browser())
        except UserError as error:
            pytest.skip(str(error))
        yield opened


@pytest.fixture
def tabs(chromium):
    """Opens tabs; what they write to the console or ask of other hosts is an error."""
    from tests.browser import Tabs

    made = Tabs(chromium)
    yield made
    made.close()
    assert made.errors == []
    assert made.asked == []
