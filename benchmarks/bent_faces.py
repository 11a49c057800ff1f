"""Whether the shape of a face moves its score, as it must not: scores of clips that were bent.

python benchmarks/bent_faces.py CLIP... [--models MODEL.safetensors ...]

The crops of the largest face of each clip are shown as they are, with the middle nearer and farther
as a camera's distance changes it, wider, and turned. Real and fake look so alike, so a detector
should give nearly the same score each time. Prints the mean probability of fake of each clip,
before calibration.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_builders import faces
from data_builders.command_line import DONE, Parser, run
from data_builders.errors import UserError
from data_builders.records import Image
from qad_jax import cpu
from qad_jax.detection import media
from qad_jax.detection.detector import Detector
from qad_jax.detection.scoring import resized
from qad_jax.training.augmentation import Shape, View, finish
from qad_jax.weights import model_file

FRAMES = 12
_STILL = np.zeros((5, 5, 2), np.float32)
SHAPES = {
    "as it is": None,
    "middle nearer": Shape(0.3, 0.0, 0.0, _STILL),
    "middle farther": Shape(-0.2, 0.0, 0.0, _STILL),
    "wider": Shape(0.0, 0.1, 0.0, _STILL),
    "turned by 10 degrees": Shape(0.0, 0.0, 10.0, _STILL),
    "turned by -10 degrees": Shape(0.0, 0.0, -10.0, _STILL),
}


def crops_of(path: Path, detector: Detector) -> list[Image]:
    """The crops of the largest face of a clip."""
    clip = media.read(path, FRAMES)
    tracks = detector.looker().tracks(clip.frames, clip.indices, clip.cuts)
    if not tracks:
        raise UserError(f"{path}: no face was found")
    return largest([faces.crops(clip.frames, track) for track in tracks])


def largest(crops: Sequence[list[Image]]) -> list[Image]:
    """The crops of the largest face, however many frames show it."""
    return max(crops, key=lambda of: statistics.median(map(len, of)))


def bent(crops: Sequence[Image], shape: Shape | None, size: int) -> list[Image]:
    """Crops of a network's size, in another shape."""
    rows = np.stack([resized(crop, size) for crop in crops])
    finish(rows, View(shape=shape))
    return list(rows)


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python benchmarks/bent_faces.py", description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--models", type=Path, nargs="+", default=[model_file.SHIPPED])
    args = parser.parse_args(argv)
    cpu.tune()
    for path in args.models:
        detector = Detector.from_pretrained(path)
        of = detector.model.description
        crops = {str(clip): crops_of(clip, detector) for clip in args.clips}
        print(f"\n| {of.name} {of.version} | {' | '.join(crops)} |")
        print("|---" * (len(crops) + 1) + "|")
        for name, shape in SHAPES.items():
            means = [
                detector.scores(bent(one, shape, of.image_size)).mean() for one in crops.values()
            ]
            print(f"| {name} | {' | '.join(f'{mean:.2f}' for mean in means)} |")
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
