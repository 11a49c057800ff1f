"""What this device can do at most: bytes a second of its memory, and operations a second.

A large copy from memory to memory, counting bytes read and bytes written, and a large product of
random matrices in bfloat16 and in float32. Where nothing asks for more, XLA may multiply float32
with the ten bits of TF32, so this is measured with and without. A step of training cannot be faster
than its bytes and its operations at these rates (`benchmarks/gpu_step.py` counts both).

    python benchmarks/gpu_ceilings.py
    python benchmarks/gpu_ceilings.py --megabytes 64 --side 512     # small, for a CPU
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import measured
from measured import Measured, positive

from data_builders.command_line import DONE, Parser, run

#: Type, precision and name of the products.
PRODUCTS = (
    ("bfloat16", None, "product, bfloat16"),
    ("float32", None, "product, float32 (TF32 where XLA takes it)"),
    ("float32", "highest", "product, float32 at precision highest"),
)
_RUNS = 10  # one after another in a round, so that their start costs little


def seconds(work: Callable[[Any], Any], value: Any, rounds: int) -> list[float]:
    """Times of one call on the result of the last, after some that compile and warm up."""
    times = []
    for number in range(rounds + 2):
        begin = time.perf_counter()
        for _ in range(_RUNS):
            value = work(value)
        jax.block_until_ready(value)
        if number > 1:
            times.append((time.perf_counter() - begin) / _RUNS)
    return times


def _job(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="python benchmarks/gpu_ceilings.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--megabytes", type=positive, default=4096, help="of the copy (4096)")
    parser.add_argument("--side", type=positive, default=8192, help="of the matrices (8192)")
    parser.add_argument("--rounds", type=positive, default=7)
    measured.add_option(parser)
    options = parser.parse_args(argv)
    results = Measured("gpu_ceilings")
    title = f"ceilings of {jax.devices()[0].device_kind}"

    def add(row: str, amount: float, unit: str, times: list[float]) -> None:
        rates = [amount / one for one in times]
        results.add(title, row, unit, rates, unit=unit, better="higher", digits=1)
        print(f"{row}: {statistics.median(rates):.1f} {unit}", flush=True)

    # Each value is changed, or the copy would be none.
    values = jax.random.normal(jax.random.key(0), (options.megabytes * 2**18,))
    times = seconds(jax.jit(lambda x: -x), values, options.rounds)
    add("memory, read and written", 2 * values.nbytes / 1e9, "GB/s", times)
    del values
    side = options.side
    for dtype, precision, row in PRODUCTS:
        factor = jax.random.normal(jax.random.key(1), (side, side), jnp.dtype(dtype)) / side**0.5
        multiply = jax.jit(functools.partial(jnp.matmul, precision=precision))
        times = seconds(functools.partial(multiply, factor), factor, options.rounds)
        add(row, 2 * side**3 / 1e12, "TFLOP/s", times)
    results.write(options.json)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
