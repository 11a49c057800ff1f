"""Are real people called fake because they close their eyes?

python benchmarks/closed_eyes.py FACES [--models MODEL.safetensors ...]

The eyes in the photographs of the test split are closed, as `self_blended` does it, more and more;
a portrait hardly ever shows that, and a talking head does all the time. Prints the mean score of
these real faces, and how many of them lie above the threshold from which a clip is called fake.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from data_builders import compression, faces
from data_builders.progress import Progress
from data_builders.records import Image
from data_builders.self_blended import expression
from data_builders.self_blended.builder import SelfBlended
from data_builders.self_blended.stills import read_stills
from qad_jax import cpu
from qad_jax.detection.detector import Detector
from qad_jax.evaluation import verdicts
from qad_jax.weights import model_file

CLOSED = (0.0, 0.5, 0.75, 1.0)
CRFS = {"c23": 23, "c40": 40}
FRAMES, KEPT = 12, 6  # encoded, and the one that is judged


def crops_of(path: Path) -> dict[tuple[float, str], Image]:
    """The crop of a photograph, for each share to which the eyes are closed and each quality."""
    (image, *_), (face, *_), _ = read_stills(path, 1, 0.5)
    height, width = (side // 2 * 2 for side in image.shape[:2])  # as a codec needs them
    image = image[:height, :width]
    box = faces.square_box(face.box, (height, width))
    crops = {}
    for closed in CLOSED:
        acted = expression.shown(image, face, expression.Lids(closed, closed))
        crops[closed, "raw"] = faces.crop(acted, box)
        encoded = compression.compressed([acted] * FRAMES, CRFS.values(), [KEPT])
        for quality, crf in CRFS.items():
            crops[closed, quality] = faces.crop(encoded[crf][0], box)
    return crops


def main() -> None:
    """Prints a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path, help="a folder as self_blended takes it")
    parser.add_argument("--models", type=Path, nargs="+", default=[model_file.SHIPPED])
    args = parser.parse_args()
    cpu.tune()
    files = SelfBlended.find(args.faces).splits["test"]
    detectors = [Detector.from_pretrained(path) for path in args.models]
    scores: dict[tuple[int, float, str], list[float]] = {}
    with Progress(len(files), "judged", unit="file") as progress:
        for listed in files:
            crops = crops_of(listed.best)
            for number, detector in enumerate(detectors):
                found = detector.scores(list(crops.values()))
                for key, score in zip(crops, found, strict=True):
                    scores.setdefault((number, *key), []).append(float(score))
            progress.advance()
    for number, detector in enumerate(detectors):
        of = detector.model.description
        print(f"\n| {of.name} {of.version}: closed by | {' | '.join(('raw', *CRFS))} |")
        print("|---" * (len(CRFS) + 2) + "|")
        for closed in CLOSED:
            cells = []
            for quality in ("raw", *CRFS):
                upper = verdicts.Thresholds.from_dict(of.qualities[quality]["thresholds"]).upper
                found = np.array(scores[number, closed, quality])
                cells.append(f"{found.mean():.3f}, {100 * np.mean(found > upper):.1f} %")
            print(f"| {closed:g} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
