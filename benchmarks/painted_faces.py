"""Fakes of painters that no training saw: networks paint the face, as generators of deepfakes do.

python benchmarks/painted_faces.py FACES [--painter NAME] [--models MODEL.safetensors ...]

A training may have seen the painters of `data_builders.self_blended`. These are others. `soft`, an
autoencoder as that of Deepfakes, has larger squares and enlarges in other steps, the last of them
by four. `sharp`, which a judge teaches, has larger squares, a larger code, and no layer of theirs:
it makes smaller by strides and larger by bilinear interpolation. A painter learns the faces of the
people of the train split, and paints those of the test split.
The painted face is blended into its own image with a soft edge, and nothing else is changed: no
colour, no place and no sharpness but the network's own. Camera and codec are those of
`self_blended`. Prints the AUC at each quality, with intervals over people.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
import photographs
import ranks
from measured import positive

from data_builders import compression
from data_builders import faces as crops_of
from data_builders.clips import VideoFiles
from data_builders.command_line import DONE, Parser, run
from data_builders.records import Image
from data_builders.self_blended import blend, footage, learning, recipes
from data_builders.self_blended.builder import SelfBlended
from data_builders.self_blended.face import FULL, INNER
from data_builders.self_blended.painter import Loaded, block, fold, unfold
from data_builders.self_blended.stills import read_stills
from qad_jax import cpu
from qad_jax.detection.detector import Detector
from qad_jax.evaluation import metrics
from qad_jax.evaluation.bootstrap import bootstrap
from qad_jax.evaluation.protocol import percent
from qad_jax.weights import model_file

CRFS = {"c23": 23, "c30": 30, "c40": 40}
FRAMES, KEPT = 12, 6  # filmed, and the one that is judged


class Soft(nn.Module):
    """An autoencoder: 128 px become a code of 8 by 8 by 40, and a picture again."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Paints `(n, 128, 128, 3)` in [-1, 1]."""
        Block = block()
        for by, width in ((4, 64), (2, 96), (2, 128)):
            x = Block()(nn.Conv(width, (1, 1))(fold(x, by)))
        x = Block()(Block()(nn.Conv(128, (1, 1))(nn.Conv(40, (1, 1))(x))))
        for width in (96, 64):
            x = Block()(unfold(nn.Conv(4 * width, (1, 1))(x), 2))
        x = nn.Conv(48, (3, 3))(nn.leaky_relu(Block()(x), 0.1))
        return unfold(x, 4)


class Sharp(nn.Module):
    """An autoencoder: 160 px become a code of 20 by 20 by 32, and a picture again."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Paints `(n, 160, 160, 3)` in [-1, 1]."""
        for width in (24, 48, 96):
            x = nn.silu(nn.Conv(width, (3, 3), strides=2)(x))
        x = nn.Conv(96, (3, 3))(nn.Conv(32, (1, 1))(x))
        for width in (64, 32, 16):
            n, h, w, channels = x.shape
            x = jax.image.resize(nn.silu(x), (n, 2 * h, 2 * w, channels), "bilinear")
            x = nn.Conv(width, (3, 3))(x)
        return nn.Conv(3, (3, 3))(nn.silu(x))


class Lessons(NamedTuple):
    """A painter, and how it learns.

    Attributes:
      network: The painter.
      side: Of its squares in pixels.
      batch: Squares of a step.
      loss: See `painter.Kind`.
    """

    network: nn.Module
    side: int
    batch: int
    loss: str


PAINTERS = {
    "soft": Lessons(Soft(), 128, 24, "edges"),
    "sharp": Lessons(Sharp(), 160, 12, "judged"),
}


def pair(path: Path, paint: Loaded, seed: int) -> Iterator[dict[str, Image]]:
    """Yields the real and the fake crop of a photograph, at each quality."""
    rng = np.random.default_rng([seed, *path.name.encode()])
    images, (face, *_), _ = read_stills(path, 1, 0.5)
    image = images[0]
    filmed = footage.draw(image.shape[:2], face, FRAMES, rng, moves=True, degraded=0.5)
    real = footage.aged(image, filmed.past, face)
    recipe = dataclasses.replace(
        recipes.draw("full_face", face.size, filmed.scale, rng),
        part=str(rng.choice([FULL, INNER])),
        softness=float(rng.uniform(0.1, 0.6)),
        shift=(0.0, 0.0),
        scale=1.0,
        angle=0.0,
        gain=(1.0, 1.0, 1.0),
        bias=(0.0, 0.0, 0.0),
        **{
            "strength": 1.0,
            "resolution": 0,
            "elastic": 0.0,
            "jpeg": 0,
            "sharpen": 0.0,
            "smooth": 0.0,
        },
        clean=True,
    )
    fake = blend.apply(real, face, recipe, clean=image, paint=paint)
    for still in (real, fake):
        frames, placed = footage.film(filmed, [still] * FRAMES, [face] * FRAMES)
        box = crops_of.square_box(placed[KEPT].box, filmed.size)
        made = compression.compressed(frames, CRFS.values(), [KEPT])
        seen = {"raw": frames[KEPT], **{name: made[crf][0] for name, crf in CRFS.items()}}
        yield {name: crops_of.crop(frame, box) for name, frame in seen.items()}


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python benchmarks/painted_faces.py", description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path, help="a folder as self_blended takes it")
    parser.add_argument("--painter", choices=PAINTERS, default="soft")
    parser.add_argument("--models", type=Path, nargs="+", default=[model_file.SHIPPED])
    parser.add_argument("--steps", type=positive, default=1800, help="of the painter")
    parser.add_argument("--variants", type=positive, default=4, help="pairs of each photograph")
    args = parser.parse_args(argv)
    cpu.tune()
    network, side, batch, loss = PAINTERS[args.painter]
    squares = learning.faces_of(args.faces, side)
    params = learning.learn(
        network, squares, side=side, loss=loss, steps=args.steps, batch=batch, name=args.painter
    )
    paint = Loaded(jax.jit(lambda square: network.apply(params, square)), side)
    tested = SelfBlended.find(args.faces).splits["test"]
    detectors = [Detector.from_pretrained(path) for path in args.models]
    qualities, numbers = ("raw", *CRFS), range(len(detectors))
    scores = {(number, quality): list[float]() for number in numbers for quality in qualities}
    people: list[str] = []

    def pairs(listed: VideoFiles) -> list[dict[str, Image]]:
        return [crops for seed in range(args.variants) for crops in pair(listed.best, paint, seed)]

    for listed, made in photographs.used(tested, pairs, "judged"):
        people += [listed.identity] * len(made)
        for (number, quality), values in scores.items():
            values += detectors[number].scores([crops[quality] for crops in made]).tolist()
    labels = np.tile([0, 1], len(people) // 2)
    print(f"{len(people) // 2} pairs of {len(set(people))} people")
    columns = np.array(list(scores.values())).T
    drawn = bootstrap(labels, columns, people)["auc"]
    for column, (number, quality) in enumerate(scores):
        of = detectors[number].model.description
        auc = metrics.numbers(labels, columns[:, column])["auc"]
        told = ranks.interval_of(drawn[:, column])
        print(f"{of.name} {of.version} {quality}: AUC {percent(auc)} ({told})")
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
