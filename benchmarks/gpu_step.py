"""What XLA makes of a training step for a GPU that is not there: kernels, memory traffic, ceilings.

The whole step (HSIC, AWP, Adam) of a configuration at its own batch size, compiled for a described
GPU as `benchmarks/memory.py` does it and never run. Needs the `cuda` extra, no GPU; minutes.

Traffic is the sum, over all kernels, of the bytes of operands and results, each once a kernel;
caches, and operands of which a kernel reads a part, are not considered. FLOPs are those of XLA's
cost analysis of the step before optimisation, as the compilation without a device has none.

    export XLA_FLAGS=--xla_gpu_enable_triton_gemm=false  # see benchmarks/memory.py
    python -m benchmarks.gpu_step --config=hkrawp_resnet

`--here` compiles for the GPU of this machine, with the kernels that tuning chooses. `--shifted`
sums depthwise convolutions of shifted maps in 16 bits, too, as is done in 32 (see
`qad_jax/models/depthwise.py`); `--hlo FILE` keeps the optimised program to look at.
"""

from __future__ import annotations

import collections
import math
import re
import sys
from collections.abc import Sequence

import jax

from benchmarks import memory
from benchmarks.measured import new_file, positive
from data_builders.command_line import DONE, Parser, run
from data_builders.files import write_whole
from qad_jax import configs
from qad_jax.models import depthwise

#: FLOP and bytes a second as NVIDIA publishes them, dense in bfloat16, by the kind of the device.
PEAKS = {
    "NVIDIA H100 80GB HBM3": (989e12, 3.35e12),
    "NVIDIA H200": (989e12, 4.8e12),
    "NVIDIA A100-SXM4-80GB": (312e12, 2.039e12),
}

_BYTES = {"pred": 1, "u8": 1, "bf16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8}
_NO_KERNEL = {"parameter", "constant", "get-tuple-element", "bitcast", "tuple"}
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)(?:, |$)")


def _size(shape: str) -> int:
    """Bytes of a shape or of a tuple of them; workspaces (s8) are no traffic and count nothing."""
    return sum(
        _BYTES.get(kind, 0) * math.prod(int(side) for side in sides.split(",") if side)
        for kind, sides in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", shape)
    )


def kernels(hlo: str) -> list[tuple[str, int]]:
    """Kind and traffic in bytes of every instruction of the entry computation that does something.

    Raises:
      ValueError: If there is a loop or a branch, whose inside would be missing.
    """
    sizes: dict[str, int] = {}
    found = []
    for line in hlo[hlo.index("\nENTRY ") :].splitlines():
        if (match := _INSTRUCTION.match(line)) is None:
            continue
        name, shape, opcode, operands = match.groups()
        sizes[name] = _size(shape)
        if opcode in _NO_KERNEL:
            continue
        if opcode in ("while", "conditional", "call"):
            raise ValueError(f"{name}: a {opcode}, whose inside is not counted")
        target = re.search(r'custom_call_target="([^"]+)"', line)
        labels = re.search(r"dim_labels=(\w+)_\w+->(\w+)", line)
        kind = target[1] if target else opcode
        if labels:
            kind += " NHWC" if labels[1] == labels[2] == "b01f" else f" {labels[0]}"
        elif opcode == "fusion":  # XLA names them after what is in them
            parts = {"gemm": "Triton product", "transpose": "transpose", "reduce": "reduction"}
            known = (parts[word] for word in parts if word in name)
            kind = f"fusion: {next(known, 'elementwise')}"
        used = set(re.findall(r"%([\w.\-]+)", operands))
        found.append((kind, sizes[name] + sum(sizes[each] for each in used)))
    return found


def bounds(flops: float, traffic: float, kind: str) -> list[str]:
    """What a step computes and moves, and the times that this takes at least where peaks are known.

    Args:
      flops: Its operations.
      traffic: Its bytes.
      kind: The kind of the device, as JAX names it.
    """
    lines = [f"arithmetic: {flops / 1e12:.2f} TFLOP", f"traffic: {traffic / 1e9:.1f} GB"]
    if kind in PEAKS:
        for i, (amount, peak) in enumerate(zip((flops, traffic), PEAKS[kind], strict=True)):
            lines[i] += f", at least {amount / peak * 1e3:.1f} ms on {kind}"
    return lines


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python -m benchmarks.gpu_step", description=__doc__)
    parser.add_argument("--config", choices=memory.CONFIGS, required=True)
    parser.add_argument("--dtype", choices=memory.DTYPES, default="bfloat16")
    parser.add_argument("--target", default="h100", help="see benchmarks/memory.py")
    parser.add_argument("--tuples", type=positive, help="by default the configuration's batch size")
    parser.add_argument("--shifted", action="store_true", help="no depthwise convolution by cuDNN")
    parser.add_argument("--here", action="store_true", help="compile for the GPU of this machine")
    parser.add_argument("--hlo", type=new_file, help="where to write the optimised program")
    flags = parser.parse_args(argv)
    if flags.here and jax.default_backend() == "cpu":
        parser.error("--here: JAX finds no GPU on this machine")
    on = None if flags.here else memory.described_gpu(flags.target)
    kind = (next(iter(on.device_set)) if on else jax.devices()[0]).device_kind
    config = configs.load(flags.config)
    tuples = flags.tuples or config.batch_size

    # Counted in the program for a CPU, which has sums of shifted maps either way: XLA counts a
    # grouped convolution's gradient as if it were dense.
    (_, step), *shapes = memory.step_and_shapes(config, tuples, flags.dtype, remat=False)
    lowered = jax.jit(step).trace(*shapes).lower(lowering_platforms=("cpu",))
    counted = lowered.cost_analysis()
    flops = counted["flops"] if counted else math.nan
    if flags.shifted:
        depthwise._cuda = lambda x, way: {}
    compiled = memory.compiled_step(config, tuples, flags.dtype, on=on)
    hlo = compiled.as_text() or ""
    if flags.hlo:
        write_whole(flags.hlo, hlo)

    count: collections.Counter[str] = collections.Counter()
    traffic: collections.Counter[str] = collections.Counter()
    for name, size in kernels(hlo):
        count[name] += 1
        traffic[name] += size
    print(f"{flags.config}, {flags.dtype}, {tuples} tuples, jax {jax.__version__}\n")
    print("| kernels | number | GB |\n|---|---|---|")
    for name, size in traffic.most_common():
        print(f"| {name} | {count[name]} | {size / 1e9:.2f} |")
    total = traffic.total()
    print(f"| all | {count.total()} | {total / 1e9:.1f} |\n")
    print(f"peak memory: {memory.peak_bytes(compiled) / 2**20:.0f} MB")
    print(*bounds(flops, total, kind), sep="\n")
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
