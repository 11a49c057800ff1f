"""Settings of a process that computes on a CPU, made before JAX looks for its devices.

They change how fast a step is, and of what it computes the last bits at most, as XLA then adds in
another order. Imports neither JAX nor anything that does.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os

_XLA_FLAGS = {
    # YNNPACK, the default for convolutions since jax 0.10, takes up to three times as long as XLA's
    # own for the gradient of a kernel. Its sums and matrix products stay: there it is the faster.
    "--xla_cpu_experimental_ynn_fusion_type": "-individual_convolution",
    # XLA for CPU drops optimisation barriers before it fuses loops. Then each use of a residual sum
    # computes it again from all the blocks before it, and rematerialisation is undone.
    "--xla_disable_hlo_passes": "cse_barrier_expander",
}
# XLA ends the process at a flag that it does not know.
_JAXLIB_WITH_FLAGS = "0.10."

# From glibc's malloc.h, and their values.
_TRIM_THRESHOLD, _NEVER = -1, -1
_MMAP_MAX, _NO_CHUNK = -4, 0
_ARENA_MAX, _ONE = -8, 1


def tune() -> None:
    """Prepares the process, unless JAX has an accelerator to compute on."""
    if importlib.util.find_spec("jax_plugins") or importlib.util.find_spec("libtpu"):
        return
    add_flags()
    keep_freed_memory()


def add_flags() -> None:
    """Adds to `XLA_FLAGS` what is not set there yet, where XLA knows it."""
    if _jaxlib_version().startswith(_JAXLIB_WITH_FLAGS):
        given = os.environ.get("XLA_FLAGS", "")
        ours = [f"{flag}={value}" for flag, value in _XLA_FLAGS.items() if flag not in given]
        os.environ["XLA_FLAGS"] = " ".join([given, *ours]).strip()


def keep_freed_memory() -> None:
    """Has the allocator keep what is freed for the next step, where it is glibc's.

    A step's intermediate results are gigabytes. By default each is a mapping of its own, returned
    to the kernel at the step's end and cleared by it, page by page, in the next: a sixth of the
    time of a ResNet-50 step. One arena, because only the main one can grow as large as that.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _NEVER)
        mallopt(_MMAP_MAX, _NO_CHUNK)
        mallopt(_ARENA_MAX, _ONE)


def _jaxlib_version() -> str:
    try:
        return importlib.metadata.version("jaxlib")
    except importlib.metadata.PackageNotFoundError:
        return ""
