"""Settings of a process that computes on a CPU, to be made before JAX looks for its devices.

They make steps faster. Results change in the last bits at most, because XLA adds in another order.
This module imports neither JAX nor anything that does.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

# The first and the last jaxlib on which a flag was tried. XLA ends the process at a flag that it
# does not know, and flags come and go with any release: a newer jaxlib runs without it.
Versions = tuple[str, str]
_XLA_FLAGS: dict[str, Versions] = {
    # YNNPACK computes convolutions by default since jax 0.10. For the gradient of a kernel it takes
    # up to three times as long as XLA itself. Sums and matrix products stay: there it is faster.
    "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution": ("0.10.0", "0.12.0.1"),
    # XLA for CPU drops optimisation barriers before it fuses loops. Each use of a residual sum
    # would then compute it again from all the blocks before, and undo rematerialisation.
    "--xla_disable_hlo_passes=cse_barrier_expander": ("0.10.0", "0.12.0.1"),
}

#: An environment variable: 0 leaves no convolution to oneDNN, and 1 those of float32, too.
ONEDNN = "QAD_JAX_ONEDNN"

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


@functools.cache
def processor(cpuinfo: str | None = None) -> tuple[str, frozenset[str]]:
    """Name and flags of the processor, looked up once: many cores make it long.

    Args:
      cpuinfo: The text of Linux's `/proc/cpuinfo`; that of this machine, where none is given.

    Returns:
      The name, empty where it is not told; and the flags, none where they are not known.
    """
    if cpuinfo is None:
        try:
            cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            cpuinfo = ""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    # x86 has the first of the two names, Arm the second.
    flags = fields.get("flags", fields.get("Features", ""))
    return fields.get("model name", ""), frozenset(flags.split())


def has_bfloat16(cpuinfo: str | None = None) -> bool:
    """Whether an x86 processor computes products of bfloat16 itself.

    Args:
      cpuinfo: See `processor`.
    """
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(processor(cpuinfo)[1])


def bfloat16_note(cpuinfo: str | None = None, *, onednn: bool = False) -> str | None:
    """What to know before training in bfloat16 on this processor.

    Args:
      cpuinfo: See `processor`.
      onednn: Whether oneDNN computes the convolutions.

    Returns:
      One line; None where nothing is known: of Arm.
    """
    if has_bfloat16(cpuinfo):
        if onednn:
            return "oneDNN computes the convolutions"
        return (
            "no faster than float32 without oneDNN (pip install 'qad-jax[onednn]'); with it, a "
            "ResNet takes about half the time, and an EfficientNet as long"
        )
    if "sse2" not in processor(cpuinfo)[1]:
        return None
    return (
        "bfloat16 is emulated on this processor, which has neither avx512_bf16 nor amx_bf16: "
        "expect no faster steps than with float32"
    )


def _jaxlib_version() -> str:
    try:
        return importlib.metadata.version("jaxlib")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a release; none of a nightly build, which may know other flags."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()
