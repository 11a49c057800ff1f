"""The bounds of what a detector was measured on, as the `conditions` of its model file.

python benchmarks/conditions.py self_blended --data_dir DATA --clips clips.csv

Looks at every crop of the validation and the test split: how small, how blurred, how far turned and
how far tilted the faces are. The bounds leave out the outermost hundredth, of which nearly nothing
is known. The table says of each clip of which size its face is and whether it is turned aside: with
it, `python -m qad_jax.release --clips` tells whether errors depend on that.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import held_out
import numpy as np
from measured import new_file

from data_builders import faces
from data_builders.command_line import DONE, Parser, run
from data_builders.files import csv_text, write_whole
from data_builders.progress import Progress
from data_builders.qualities import crf_of
from qad_jax.detection.conditions import sharpness, tilt, turn

_OUTER = 0.01
# A file is near the worst measured quality up to this many CRF above it.
_NEAR = 3
# Of the larger side of a face in pixels, and how far a face is turned that looks to the front.
_SIZES = (100, 200)
_FRONT = 0.25


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python benchmarks/conditions.py", description=__doc__.splitlines()[0])
    parser.add_argument("dataset", help="its name, as for qad-jax build")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--clips", type=new_file, help="the table to write")
    args = parser.parse_args(argv)
    splits = ("validation", "test")
    dataset = held_out.opened(args.dataset, args.data_dir, splits)
    detector = faces.detector()
    sides, details, turns, tilts, rows = [], [], [], [], {}
    for split in splits:
        source = dataset.as_data_source(split)
        with Progress(len(source), split, unit="record") as progress:
            for record in source:
                images = record["image"]
                details += [sharpness([image]) for image in images.values()]
                if record["label"] == 0:  # its fake has the same box, and a face that was moved
                    side = float(np.ptp(record["box"][[0, 2]])) / faces.SCALE
                    (found,) = detector.detect([images[dataset.qualities[0]]])
                    landmarks = None if found.landmarks is None else found.landmarks[:1]
                    turned = turn(landmarks)
                    tilts.append(tilt(landmarks))
                    sides.append(side)
                    turns.append(turned)
                    rows[record["video"].decode()] = _size(side), _direction(turned)
                progress.advance()
    if args.clips is not None:
        table = [(video, *groups) for video, groups in sorted(rows.items())]
        write_whole(args.clips, csv_text(("video", "face size", "direction"), table))
    crfs = [crf for quality in dataset.qualities if (crf := crf_of(quality)) is not None]
    print(
        json.dumps(
            {
                "smallest_face": round(float(np.quantile(sides, _OUTER)), 1),
                "least_sharpness": round(float(np.quantile(details, _OUTER)), 4),
                "largest_turn": round(float(np.nanquantile(turns, 1 - _OUTER)), 3),
                "most_compression": max(crfs) + _NEAR,
                "largest_tilt": round(float(np.nanquantile(tilts, 1 - _OUTER)), 1),
            }
        )
    )
    return DONE


def _size(side: float) -> str:
    low, high = _SIZES
    if side < low:
        return f"below {low} pixels"
    return f"{low} to {high} pixels" if side < high else f"{high} pixels or more"


def _direction(turned: float) -> str:
    if np.isnan(turned):
        return ""
    return "from the front" if turned < _FRONT else "turned aside"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
