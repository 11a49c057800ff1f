"""What do XLA's flags for a CPU bring on the installed jaxlib?

    python benchmarks/xla_flags.py                                   # ResNet-50's training step
    python benchmarks/xla_flags.py --models efficientnet_b1 --rows forward step
    python benchmarks/xla_flags.py --set= --set="--xla_cpu_experimental_ynn_fusion_type=-reduce"

Each set of flags has a process of its own, and in every round each of them runs once, so that
whatever else the machine does falls on all. A ratio is the time of the first set over that of
another in the same round: above 1, the other is faster. Printed are the median over the rounds,
the smallest and the largest. The seconds that a process computes, over all cores, tell more than
those on the clock where other work shares the machine.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import speed
from measured import positive

from data_builders.command_line import DONE, Parser, run
from data_builders.errors import UserError

YNN, BARRIER = "--xla_cpu_experimental_ynn_fusion_type", "--xla_disable_hlo_passes"
SETS = (
    "",
    f"{YNN}=-individual_convolution",
    f"{BARRIER}=cse_barrier_expander",
    f"{YNN}=-individual_convolution {BARRIER}=cse_barrier_expander",
)


class Side:
    """One set of flags, in a process of its own."""

    def __init__(self, flags: str, model: str, dtype: str, tuples: int) -> None:
        self.wall: list[float] = []
        self.computed: list[float] = []
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", model, dtype, str(tuples)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "XLA_FLAGS": flags},
        )

    def run(self, row: str) -> None:
        """Notes the time of one run.

        Raises:
          UserError: The process has ended, as of a flag that XLA does not know.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(row + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise UserError("a process has ended: its error is above")
        wall, computed = map(float, answer.split())
        self.wall.append(wall)
        self.computed.append(computed)

    def forget(self) -> None:
        """Drops what has been noted."""
        self.wall, self.computed = [], []

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve(model: str, dtype: str, tuples: int) -> None:
    """Times the rows named on standard input."""
    speed.cpu.keep_freed_memory()  # as the command does
    ours = speed.Ours(model, dtype, tuples)
    for line in sys.stdin:
        begin = time.process_time()
        wall = ours.seconds(line.strip())
        print(wall, time.process_time() - begin, flush=True)


def _job(argv: Sequence[str]) -> int:
    if argv[:1] == ["--serve"]:
        serve(argv[1], argv[2], int(argv[3]))
        return DONE
    parser = Parser(
        prog="python benchmarks/xla_flags.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rows = ("forward", "plain", "step", "awp")
    parser.add_argument("--set", action="append", dest="sets", help="of flags; once for each")
    parser.add_argument("--rows", nargs="+", choices=rows, default=("step",))
    parser.add_argument("--models", nargs="+", choices=tuple(speed.SIZES), default=("resnet50",))
    parser.add_argument("--dtype", choices=tuple(speed.TOLERANCE), default="float32")
    parser.add_argument("--tuples", type=positive, default=4, help="of 3 images, in a batch (4)")
    parser.add_argument("--rounds", type=positive, default=9, help="after a first, not counted (9)")
    options = parser.parse_args(argv)
    sets = options.sets or SETS
    version = importlib.metadata.version("jaxlib")
    for model in options.models:
        sides = [Side(flags, model, options.dtype, options.tuples) for flags in sets]
        print(f"\n{model}, {options.dtype}, {options.tuples} tuples, jaxlib {version}\n")
        print("| row | flags | s | first / this | s computed | first / this |")
        print("|---|---|---|---|---|---|")
        for row in options.rows:
            for side in sides:
                side.run(row)  # compiles
                side.forget()
            for _ in range(options.rounds):
                for side in sides:
                    side.run(row)
            for flags, side in zip(sets, sides, strict=True):
                columns = [
                    speed.cell(values)
                    for first, this in (
                        (sides[0].wall, side.wall),
                        (sides[0].computed, side.computed),
                    )
                    for values in (this, [a / b for a, b in zip(first, this, strict=True)])
                ]
                print(f"| {row} | {flags or 'none'} | {' | '.join(columns)} |")
            for side in sides:
                side.forget()
            sys.stdout.flush()
        for side in sides:
            side.close()
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
