"""Fakes of a kind that no training saw: the face is painted by an autoencoder, as by Deepfakes.

python benchmarks/painted_faces.py FACES [--models MODEL.safetensors ...]

The detector's fakes are blends of photographs, and no network painted any of them. Here a small
autoencoder learns the faces of the people of the train split, and paints those of the test split.
The painted face is blended into its own image with a soft edge, and nothing else is changed: no
colour, no place and no sharpness but the network's own. Camera and codec are those of
`self_blended`. Prints the AUC at each quality, with intervals over people.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from data_builders import compression
from data_builders import faces as crops_of
from data_builders.errors import UserError
from data_builders.progress import Progress
from data_builders.records import Image
from data_builders.self_blended import blend, footage, recipes
from data_builders.self_blended.builder import SelfBlended
from data_builders.self_blended.face import FULL, INNER, Face
from data_builders.self_blended.stills import read_stills
from qad_jax import cpu
from qad_jax.detection.detector import Detector
from qad_jax.evaluation import metrics
from qad_jax.evaluation.bootstrap import bootstrap, interval
from qad_jax.weights import model_file

SIDE, CODE, BATCH = 128, 40, 24
CRFS = {"c23": 23, "c30": 30, "c40": 40}
FRAMES, KEPT = 12, 6  # filmed, and the one that is judged
# The part of a face that is painted, in distances of the eyes, and a frame around it for training.
_REACH, _AROUND = 3.3, 1.25


def _fold(x: jax.Array, by: int) -> jax.Array:
    """Pixels of a square become channels of one."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // by, by, w // by, by, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h // by, w // by, by * by * c)


def _unfold(x: jax.Array, by: int) -> jax.Array:
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, by, by, c // by**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h * by, w * by, c // by**2)


class _Block(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        y = nn.Conv(width, (3, 3))(nn.leaky_relu(x, 0.1))
        return x + nn.Conv(width, (1, 1), kernel_init=nn.initializers.zeros)(nn.leaky_relu(y, 0.1))


class Painter(nn.Module):
    """An autoencoder: 128 px become a code of 8 by 8 by 40, and a picture again."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Paints `(n, 128, 128, 3)` in [-1, 1]."""
        for by, width in ((4, 64), (2, 96), (2, 128)):
            x = _Block()(nn.Conv(width, (1, 1))(_fold(x, by)))
        x = _Block()(_Block()(nn.Conv(128, (1, 1))(nn.Conv(CODE, (1, 1))(x))))
        for width in (96, 64):
            x = _Block()(_unfold(nn.Conv(4 * width, (1, 1))(x), 2))
        x = nn.Conv(48, (3, 3))(nn.leaky_relu(_Block()(x), 0.1))
        return _unfold(x, 4)


def _template(face: Face, side: int, reach: float) -> npt.NDArray[np.float64]:
    """The map from pixels of an image to a square around the face."""
    matrix = face.coordinates()
    scale = side / reach
    middle = np.array([side / 2, side / 2]) - scale * np.array([0, 0.45])
    return np.concatenate([scale * matrix[:, :2], (scale * matrix[:, 2] + middle)[:, None]], axis=1)


def _square(image: Image, face: Face, side: int, reach: float) -> npt.NDArray[np.float32]:
    """The face in a square of its own, without aliasing."""
    matrix = _template(face, side, reach)
    scale = min(1.0, float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))))
    height, width = (max(1, round(scale * length)) for length in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    back = np.diag([image.shape[1] / width, image.shape[0] / height, 1])
    cut = cv2.warpAffine(small, matrix @ back, (side, side), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(cut, np.float32)


def learn(squares: Sequence[npt.NDArray[np.float32]], steps: int) -> Any:
    """Trains the autoencoder.

    Args:
      squares: Faces of `_AROUND` times its side, which are turned, moved and mirrored.
      steps: Number of steps.

    Returns:
      Its parameters.
    """
    rng = np.random.default_rng(0)
    model = Painter()
    params = model.init(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3)))
    optimiser = optax.adam(optax.schedules.cosine_decay_schedule(2e-3, steps, 0.05))

    def loss(params: Any, images: jax.Array) -> jax.Array:
        error = model.apply(params, images) - images
        # Of values, and of differences of neighbours: the latter make edges sharp.
        steps_of = (jnp.diff(error, axis=axis) for axis in (1, 2))
        return jnp.abs(error).mean() + sum(jnp.abs(one).mean() for one in steps_of)

    @jax.jit
    def step(params: Any, state: Any, images: jax.Array) -> tuple[Any, Any]:
        updates, state = optimiser.update(jax.grad(loss)(params, images), state)
        return optax.apply_updates(params, updates), state

    state = optimiser.init(params)
    whole = len(squares[0])
    with Progress(steps, "autoencoder", unit="step") as progress:
        for _ in range(steps):
            batch = np.empty((BATCH, SIDE, SIDE, 3), np.float32)
            for one in batch:
                turn = cv2.getRotationMatrix2D(
                    (whole / 2, whole / 2), rng.uniform(-8, 8), rng.uniform(0.92, 1.08)
                )
                turn[:, 2] += (SIDE - whole) / 2 + rng.uniform(-4, 4, 2)
                shown = cv2.warpAffine(squares[rng.integers(len(squares))], turn, (SIDE, SIDE))
                one[:] = shown[:, :: rng.choice([-1, 1])] / 127.5 * rng.uniform(0.8, 1.15) - 1
            params, state = step(params, state, batch)
            progress.advance(1)
    return params


def paint(paint_square: Any, image: Image, face: Face) -> Image:
    """The image with the painted face in its place."""
    size = image.shape[1], image.shape[0]
    square = _square(image, face, SIDE, _REACH) / 127.5 - 1
    painted = np.asarray(paint_square(square[None]))[0] * 127.5 + 127.5
    matrix = _template(face, SIDE, _REACH)
    back = cv2.warpAffine(
        np.clip(painted, 0, 255), matrix, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    )
    inside = np.zeros((SIDE, SIDE), np.float32)
    inside[4:-4, 4:-4] = 1
    where = cv2.warpAffine(inside, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    mixed = image + where[..., None] * (back - image)
    return np.asarray(np.rint(np.clip(mixed, 0, 255)), np.uint8)


def pair(path: Path, paint_square: Any, seed: int) -> Iterator[dict[str, Image]]:
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
    fake = blend.apply(real, face, recipe, clean=paint(paint_square, image, face))
    for still in (real, fake):
        frames, placed = footage.film(filmed, [still] * FRAMES, [face] * FRAMES)
        box = crops_of.square_box(placed[KEPT].box, filmed.size)
        made = compression.compressed(frames, CRFS.values(), [KEPT])
        seen = {"raw": frames[KEPT], **{name: made[crf][0] for name, crf in CRFS.items()}}
        yield {name: crops_of.crop(frame, box) for name, frame in seen.items()}


def main() -> None:
    """Trains the painter, and judges what it painted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path, help="a folder as self_blended takes it")
    parser.add_argument("--models", type=Path, nargs="+", default=[model_file.SHIPPED])
    parser.add_argument("--steps", type=int, default=1800, help="of the autoencoder")
    parser.add_argument("--variants", type=int, default=4, help="pairs of each photograph")
    args = parser.parse_args()
    cpu.tune()
    splits = SelfBlended.find(args.faces).splits
    squares = []
    for listed in splits["train"]:
        try:
            images, found, _ = read_stills(listed.best, 1, 0.5)
        except UserError as error:
            print(f"left out: {error}")
            continue
        squares.append(_square(images[0], found[0], round(_AROUND * SIDE), _AROUND * _REACH))
    params = learn(squares, args.steps)
    paint_square = jax.jit(lambda square: Painter().apply(params, square))
    detectors = {}
    for path in args.models:
        detector = Detector.from_pretrained(path)
        of = detector.model.description
        detectors[f"{of.name} {of.version}"] = detector
    qualities = ("raw", *CRFS)
    scores = {(name, quality): list[float]() for name in detectors for quality in qualities}
    people: list[str] = []
    with Progress(len(splits["test"]) * args.variants, "judged", unit="pair") as progress:
        for listed in splits["test"]:
            for seed in range(args.variants):
                both = list(pair(listed.best, paint_square, seed))
                people += [listed.identity] * 2
                for (name, quality), values in scores.items():
                    values += detectors[name].scores([crops[quality] for crops in both]).tolist()
                progress.advance(1)
    labels = np.tile([0, 1], len(people) // 2)
    print(f"{len(people) // 2} pairs of {len(set(people))} people")
    columns = np.array(list(scores.values())).T
    drawn = bootstrap(labels, columns, people)["auc"]
    for column, (name, quality) in enumerate(scores):
        auc = 100 * metrics.numbers(labels, columns[:, column])["auc"]
        low, high = (100 * (end or 0) for end in interval(drawn[:, column]))
        print(f"{name} {quality}: AUC {auc:.1f} ({low:.1f}-{high:.1f})")


if __name__ == "__main__":
    main()
