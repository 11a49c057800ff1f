"""Settings of a process that computes on a CPU, made before JAX looks for its devices.

They change how fast a step is, and of what it computes the last bits at most, as XLA then adds in
another order. Imports neither JAX nor anything that does.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
from collections.abc import Mapping

# The first and the last jaxlib on which a flag was tried. XLA ends the process at a flag that it
# does not know, and flags come and go with any release: a newer jaxlib runs without it.
Versions = tuple[str, str]
_XLA_FLAGS: dict[str, Versions] = {
    # YNNPACK, the default for convolutions since jax 0.10, takes up to three times as long as XLA's
    # own for the gradient of a kernel. Its sums and matrix products stay: there it is the faster.
    "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution": ("0.10.0", "0.12.0.1"),
    # XLA for CPU drops optimisation barriers before it fuses loops. Then each use of a residual sum
    # computes it again from all the blocks before it, and rematerialisation is undone.
    "--xla_disable_hlo_passes=cse_barrier_expander": ("0.10.0", "0.12.0.1"),
}

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


def add_flags(flags: Mapping[str, Versions] | None = None) -> None:
    """Adds to `XLA_FLAGS` what is not set there yet, where XLA is known to know it.

    Args:
      flags: As they are written there, each with the first and the last jaxlib that it was tried
        on; those that speed up training, where none are given.
    """
    given = os.environ.get("XLA_FLAGS", "")
    flags = _XLA_FLAGS if flags is None else flags
    installed = _numbers(_jaxlib_version())
    ours = [
        flag
        for flag, (first, last) in flags.items()
        if _numbers(first) <= installed <= _numbers(last) and flag.split("=")[0] not in given
    ]
    if ours:
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


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a release; none of a nightly build, which may know other flags."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()
