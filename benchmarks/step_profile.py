"""Where the time of a training step on a CPU goes, by what XLA made of it.

    taskset -c 0 python benchmarks/step_profile.py --model resnet50

One step under JAX's profiler; each operation of the compiled program is counted under what it does.
On one core, since with several a convolution goes on in other threads when the profiler has seen
its end.
"""

from __future__ import annotations

import collections
import gzip
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import speed
from measured import positive

from data_builders.command_line import DONE, Parser, run

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (?:\(.*?\)|\S+) ([\w\-]+)\(")
_INSIDE = ("convolution", "dot", "reduce")


def kinds(hlo: str) -> dict[str, str]:
    """What each instruction of a compiled program does, by its name."""
    inside: dict[str, list[str]] = {}
    called: dict[str, tuple[str, str]] = {}
    current = ""
    for line in hlo.splitlines():
        if match := _COMPUTATION.match(line):
            current = match[1]
        elif match := _INSTRUCTION.match(line):
            inside.setdefault(current, []).append(match[2])
            body = re.search(r"calls=%?([\w.\-]+)", line)
            library = " (YNNPACK)" if "__ynn" in line else ""
            called[match[1]] = body[1] if body else "", match[2] + library
    found = {}
    for name, (body, opcode) in called.items():
        kind = next((word for word in _INSIDE if word in inside.get(body, [])), "elementwise loop")
        found[name] = opcode.replace("fusion", kind) if body else opcode
    return found


def measured(folder: str) -> list[dict[str, Any]]:
    """The operations in a trace."""
    (file,) = Path(folder).rglob("perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    return [event for event in events if "hlo_op" in event.get("args", {}) and event["ph"] == "X"]


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python benchmarks/step_profile.py", description=__doc__)
    parser.add_argument("--model", choices=tuple(speed.SIZES), default="resnet50")
    parser.add_argument("--dtype", choices=tuple(speed.TOLERANCE), default="float32")
    parser.add_argument("--tuples", type=positive, default=4)
    options = parser.parse_args(argv)
    speed.cpu.tune()
    ours = speed.Ours(options.model, options.dtype, options.tuples)
    step, state = ours.step_and_state(True, 0.0)
    batch = speed.parallel.shard(ours.batch)
    compiled = step.lower(state, batch).compile()
    for _ in range(2):  # the memory of the first is new
        state, metrics = compiled(state, batch)
    jax.block_until_ready(metrics)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            jax.block_until_ready(compiled(state, batch))
            whole = time.perf_counter() - begin
        known = kinds(compiled.as_text())
        spent: collections.Counter[str] = collections.Counter()
        count: collections.Counter[str] = collections.Counter()
        for event in measured(folder):
            kind = known.get(event["args"]["hlo_op"], "other")
            spent[kind] += event["dur"]
            count[kind] += 1
    total = spent.total()
    print(f"{options.model}, {options.dtype}, {options.tuples} tuples: {whole:.2f} s\n")
    print("| what | number | s | share |\n|---|---|---|---|")
    for kind, microseconds in spent.most_common(8):
        share = f"{100 * microseconds / total:.0f} %"
        print(f"| {kind} | {count[kind]} | {microseconds / 1e6:.2f} | {share} |")
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
