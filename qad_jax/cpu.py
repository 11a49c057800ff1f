"""Settings of a process that computes on a CPU, to be made before JAX looks for its devices.

They make steps faster. Results change in the last bits at most, because XLA adds in another order.
This module imports neither JAX nor anything that does.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os

_XLA_FLAGS = {
    # YNNPACK computes convolutions by default since jax 0.10. For the gradient of a kernel it takes
    # up to three times as long as XLA itself. Sums and matrix products stay: there it is faster.
    "--xla_cpu_experimental_ynn_fusion_type": "-individual_convolution",
    # XLA for CPU drops optimisation barriers before it fuses loops. Each use of a residual sum
    # would then compute it again from all the blocks before, and undo rematerialisation.
    "--xla_disable_hlo_passes": "cse_barrier_expander",
}
# XLA ends the process where it does not know a flag.
_JAXLIB_WITH_FLAGS = "0.10."

# Parameters of glibc's malloc.h, and the values for them.
_TRIM_THRESHOLD, _NEVER = -1, -1
_MMAP_MAX, _NO_CHUNK = -4, 0
_ARENA_MAX, _ONE = -8, 1


def tune() -> None:
    """Prepares the process, unless a plugin for an accelerator is installed."""
    if importlib.util.find_spec("jax_plugins") or importlib.util.find_spec("libtpu"):
        return
    add_flags()
    keep_freed_memory()


def add_flags() -> None:
    """Adds the flags that `XLA_FLAGS` does not set yet, where XLA knows them."""
    if _jaxlib_version().startswith(_JAXLIB_WITH_FLAGS):
        given = os.environ.get("XLA_FLAGS", "")
        ours = [f"{flag}={value}" for flag, value in _XLA_FLAGS.items() if flag not in given]
        os.environ["XLA_FLAGS"] = " ".join([given, *ours]).strip()


def keep_freed_memory() -> None:
    """Makes glibc's allocator keep freed memory for the next step; does nothing without glibc.

    The intermediate results of a step are gigabytes. By default, each is a mapping of its own. At
    the end of a step it returns to the kernel, which clears it page by page in the next: a sixth of
    the time of a ResNet-50 step. There is one arena, because only the main one can grow so large.
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
