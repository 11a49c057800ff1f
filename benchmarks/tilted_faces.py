"""Do the error rates hold for faces that are tilted within the picture?

python benchmarks/tilted_faces.py self_blended/DIGEST --data_dir DATA [--model MODEL.safetensors]

Tilts every crop of the test split to one side or the other, and judges it with the thresholds of
the model. What is missing in the corners is mirrored, which a real picture has not: so real faces
are called fake more often here, if anything. Prints for each angle and quality the AUC, and how
many real and fake images are called fake.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import held_out
import numpy as np
import thresholds

from data_builders.command_line import DONE, Parser, run
from data_builders.progress import Progress
from data_builders.records import Image
from qad_jax import cpu
from qad_jax.detection.detector import Detector
from qad_jax.evaluation import metrics
from qad_jax.evaluation.protocol import percent
from qad_jax.weights import model_file

ANGLES = (0, 10, 20, 30, 45)
QUALITIES = ("raw", "c23", "c40")


def tilted(crop: Image, degrees: float) -> Image:
    """A crop that is tilted about its middle."""
    side = len(crop)
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, 1.0)
    turned = cv2.warpAffine(
        crop, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(turned, np.uint8)


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python benchmarks/tilted_faces.py", description=__doc__.splitlines()[0])
    parser.add_argument("dataset", help="its name, as for qad-jax build")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--model", type=Path, default=model_file.SHIPPED)
    args = parser.parse_args(argv)
    cpu.tune()
    detector = Detector.from_pretrained(args.model)
    bounds = thresholds.of(detector.model.description, QUALITIES)
    dataset = held_out.opened(args.dataset, args.data_dir, qualities=QUALITIES)
    source = dataset.as_data_source("test")
    labels, scores = [], {(angle, quality): list[float]() for angle in ANGLES for quality in bounds}
    with Progress(len(source), "judged", unit="record") as progress:
        for index, record in enumerate(source):
            labels.append(int(record["label"]))
            keys = list(scores)
            crops = [
                tilted(record["image"][quality], angle if index // 2 % 2 else -angle)
                for angle, quality in keys
            ]
            for key, score in zip(keys, detector.scores(crops), strict=True):
                scores[key].append(float(score))
            progress.advance()
    truth = np.array(labels)
    print("| tilt | quality | AUC | real called fake, % | fake called fake, % |")
    print("|---|---|---|---|---|")
    for (angle, quality), values in scores.items():
        found = np.array(values)
        called = found > bounds[quality].upper
        print(
            f"| {angle} | {quality} | {percent(metrics.numbers(truth, found)['auc'])} "
            f"| {100 * called[truth == 0].mean():.1f} | {100 * called[truth == 1].mean():.1f} |"
        )
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
