"""How well is seen that a face lies on its side or stands upside down?

python benchmarks/lying_faces.py FACES [--every 12]

Turns photographs by quarters, finds the largest face in each as `qad-jax detect` does, and counts
for how many of those that are found `upright.quarters` says the quarters by which to turn back.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import photographs
from measured import positive

from data_builders import faces
from data_builders.command_line import DONE, Parser, run
from data_builders.self_blended.builder import SelfBlended
from data_builders.self_blended.stills import read_stills
from qad_jax import cpu
from qad_jax.detection import upright


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python benchmarks/lying_faces.py", description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path, help="a folder as self_blended takes it")
    parser.add_argument("--every", type=positive, default=12, help="take one file in so many")
    args = parser.parse_args(argv)
    cpu.tune()
    detector = faces.detector()
    files = SelfBlended.find(args.faces).videos[:: args.every]
    told: list[list[int]] = [[], [], [], []]
    count = 0
    for _, stills in photographs.used(files, lambda one: read_stills(one.best, 1, 0.5), "turned"):
        count += 1
        for turned, said in enumerate(told):
            shown = np.ascontiguousarray(np.rot90(stills.images[0], turned))
            (found,) = detector.detect([shown])
            if len(found.boxes):
                largest = int(np.argmax(found.boxes[:, 2] - found.boxes[:, 0]))
                said.append(upright.quarters([shown], found.boxes[[largest]], detector))
    for turned, said in enumerate(told):
        right = sum(one == -turned % 4 for one in said)
        lying = sum(one != 0 for one in said)
        print(
            f"turned by {90 * turned:3} degrees: a face is found in {len(said)} of {count}; "
            f"taken for lying {lying}, turned back rightly {right}"
        )
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
