"""The bounds of what a detector was measured on, as the `conditions` of its model file.

python benchmarks/conditions.py self_blended --data_dir DATA

Looks at every crop of the validation and the test split: how small, how blurred and how far turned
the faces are. The bounds leave out the outermost hundredth, of which nearly nothing is known.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from data_builders import build, faces
from data_builders.progress import Progress
from data_builders.qualities import crf_of
from qad_jax.detection.conditions import sharpness, turn

_OUTER = 0.01
# A file is near the worst measured quality up to this many CRF above it.
_NEAR = 3
_TOGETHER = 64


def main() -> None:
    """Prints the bounds as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", help="its name, as for qad-jax build")
    parser.add_argument("--data_dir", required=True)
    args = parser.parse_args()
    dataset = build.builder(args.dataset, data_dir=args.data_dir)
    detector = faces.detector()
    sides, details, turns = [], [], []
    for split in ("validation", "test"):
        source = dataset.as_data_source(split)
        with Progress(len(source), split, unit="record") as progress:
            for first in range(0, len(source), _TOGETHER):
                records = [source[i] for i in range(first, min(first + _TOGETHER, len(source)))]
                best = [record["image"][dataset.qualities[0]] for record in records]
                for record, found in zip(records, detector.detect(best), strict=True):
                    sides.append(np.ptp(record["box"][[0, 2]]) / faces.SCALE)
                    details += [sharpness([image]) for image in record["image"].values()]
                    if found.landmarks is not None and len(found.landmarks):
                        turns.append(turn(found.landmarks[:1]))
                    progress.advance()
    crfs = [crf for quality in dataset.qualities if (crf := crf_of(quality)) is not None]
    print(
        json.dumps(
            {
                "smallest_face": round(float(np.quantile(sides, _OUTER)), 1),
                "least_sharpness": round(float(np.quantile(details, _OUTER)), 4),
                "largest_turn": round(float(np.quantile(turns, 1 - _OUTER)), 3),
                "most_compression": max(crfs) + _NEAR,
            }
        )
    )


if __name__ == "__main__":
    main()
