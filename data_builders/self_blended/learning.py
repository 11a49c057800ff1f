"""Teaches painters, the networks of the family 'painted', on the faces of the train split.

python -m data_builders.self_blended.learning --manual_dir FACES --out painters
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from data_builders import clips, command_line
from data_builders.errors import UserError, unusable
from data_builders.files import check_writable, write_whole
from data_builders.home import expanded
from data_builders.progress import Progress
from data_builders.records import Image
from data_builders.self_blended import judge, painter, painter_files
from data_builders.self_blended.builder import SelfBlended
from data_builders.self_blended.stills import is_of_file, read_stills

if TYPE_CHECKING:
    import flax.linen as nn
    import jax

_AROUND = 1.25  # sides of the square that are cut out, for turns and movements
_LEAST = 8  # faces: of fewer, nothing is learned but these
_MOST = 4000  # files: a painter of 1200 steps sees few faces more
# A judge learns in the second half of the lessons: before, there is no face that it could judge.
# Its opinion counts from a share of the lessons on, and more and more up to another share.
_JUDGED_FROM, _COUNTS_FROM, _COUNTS_WHOLLY = 0.5, 0.6, 0.7
_COUNTS = 0.3  # its weight then


def faces_of(folder: Path, side: int) -> list[Image]:
    """Cuts out the faces of the people of the train split.

    Args:
      folder: As the builder takes it.
      side: Of the squares that will be painted, in pixels.

    Returns:
      Squares of 1.25 times this side, from 4000 files at most.

    Raises:
      UserError: The folder holds no faces, or too few.
    """
    listed = SelfBlended.find(folder).splits["train"]
    chosen = [listed[index].best for index in clips.spread(len(listed), _MOST)]
    found, wider = [], _AROUND * painter.REACH
    with Progress(len(chosen), "finding faces", unit="file") as progress:
        for path in chosen:
            try:
                images, (face, *_), _ = read_stills(path, 1, 0.5)
            except Exception as error:
                if not is_of_file(error, path):
                    raise
                print(f"left out: {unusable(path, [path], error)}", file=sys.stderr)
            else:
                square = painter.cut(images[0], face, round(_AROUND * side), wider)
                found.append(np.asarray(np.rint(square), np.uint8))
            progress.advance(1)
    if len(found) < _LEAST:
        raise UserError(
            f"--manual_dir: {folder}: {len(found)} of its files of the train split show a face, "
            f"and a painter needs {_LEAST}"
        )
    return found


def _loss(kind: str) -> Callable[[jax.Array], jax.Array]:
    """What is made small, of the difference of painted and real squares.

    Where a painter is judged, this is 'edges', and the judge's opinion comes on top.
    """
    import jax.numpy as jnp

    def squared(error: jax.Array) -> jax.Array:
        return jnp.square(error).mean()

    def edges(error: jax.Array) -> jax.Array:
        # Differences of neighbours count, too: they make edges sharp.
        steps = (jnp.abs(jnp.diff(error, axis=axis)).mean() for axis in (1, 2))
        return jnp.abs(error).mean() + sum(steps)

    return {"squared": squared, "edges": edges, "judged": edges}[kind]


def learn(
    model: nn.Module,
    squares: Sequence[Image],
    *,
    side: int,
    loss: str,
    steps: int,
    batch: int,
    seed: int = 0,
    name: str = "painter",
) -> Any:
    """Trains a painter to paint what it sees.

    Args:
      model: The network.
      squares: Faces of 1.25 times its side, which are turned, moved, mirrored and lit.
      side: Of the squares that it paints.
      loss: See `painter.Kind`.
      steps: Number of steps.
      batch: Number of faces of a step.
      seed: Of its first weights and of all that is drawn.
      name: Shown with the progress.

    Returns:
      Its parameters.
    """
    import jax
    import jax.numpy as jnp
    import optax

    rng = np.random.default_rng(seed)
    params = model.init(jax.random.key(seed), jnp.zeros((1, side, side, 3)))
    judged = loss == "judged"
    decaying = optax.schedules.cosine_decay_schedule(2e-3, steps, 0.05)
    optimiser = optax.adam(decaying, b1=0.5 if judged else 0.9)
    measured = _loss(loss)

    @jax.jit
    def step(params: Any, state: Any, images: jax.Array) -> tuple[Any, Any]:
        def of(params: Any) -> jax.Array:
            made: Any = model.apply(params, images)
            return measured(made - images)

        updates, state = optimiser.update(jax.grad(of)(params), state)
        return optax.apply_updates(params, updates), state

    state = optimiser.init(params)
    opponent = judge.Opponent(model, measured, optimiser, side, seed) if judged else None
    whole = len(squares[0])
    with Progress(steps, name, unit="step") as progress:
        for number in range(steps):
            drawn = np.empty((batch, side, side, 3), np.float32)
            for one in drawn:
                turn = cv2.getRotationMatrix2D(
                    (whole / 2, whole / 2), rng.uniform(-8, 8), rng.uniform(0.92, 1.08)
                )
                turn[:, 2] += (side - whole) / 2 + side * rng.uniform(-1 / 24, 1 / 24, 2)
                face = squares[int(rng.integers(len(squares)))]
                shown = cv2.warpAffine(face, turn, (side, side), borderMode=cv2.BORDER_REFLECT)
                one[:] = shown[:, :: rng.choice([-1, 1])] / 127.5 * rng.uniform(0.8, 1.15) - 1
            if opponent is None or number < _JUDGED_FROM * steps:
                params, state = step(params, state, drawn)
            else:
                shares = [_COUNTS_FROM, _COUNTS_WHOLLY]
                weight = np.interp(number / steps, shares, [0, _COUNTS])
                params, state = opponent.step(params, state, drawn, float(weight))
            progress.advance(1)
    return params


def _job(argv: Sequence[str]) -> str:
    parser = command_line.Parser(
        prog="python -m data_builders.self_blended.learning",
        description="Teaches the painters of self_blended's family 'painted'.",
    )
    parser.add_argument("--manual_dir", type=Path, required=True, help="folder of faces")
    parser.add_argument("--out", type=Path, required=True, help="folder of the painters' files")
    parser.add_argument("--steps", type=int, default=1200, help="of each painter (default: 1200)")
    parser.add_argument("--batch", type=int, default=16, help="faces of a step (default: 16)")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is drawn (default: 0)")
    args = parser.parse_args(argv)
    for name, least, most in (("steps", 1, 10**6), ("batch", 1, 1024), ("seed", 0, 2**31 - 1)):
        if not least <= (value := getattr(args, name)) <= most:
            raise UserError(f"--{name}: is {value}, must be from {least} to {most}")
    out = expanded(args.out).absolute()
    check_writable(out, "--out")
    largest = max(kind.side for kind in painter.KINDS.values())
    squares = faces_of(expanded(args.manual_dir).absolute(), largest)
    digest = hashlib.sha256()
    for square in squares:
        digest.update(bytes(square))
    faces = digest.hexdigest()
    drawn = {"faces": faces, "steps": args.steps, "batch": args.batch, "seed": args.seed}
    missing = []
    for name, kind in painter.KINDS.items():
        path, notes = out / f"{name}.safetensors", {**kind._asdict(), **drawn}
        if not path.exists():
            missing.append((name, kind, path, notes))
        elif painter_files.notes_of(path) != notes:  # datasets may need it
            raise UserError(
                f"{path}: has learned from other faces, or otherwise; remove it, or give another "
                "folder with --out"
            )
    for name, kind, path, notes in missing:
        smaller = (round(_AROUND * kind.side),) * 2
        params = learn(
            painter.network(kind),
            [cv2.resize(one, smaller, interpolation=cv2.INTER_AREA) for one in squares],
            side=kind.side,
            loss=kind.loss,
            steps=args.steps,
            batch=args.batch,
            seed=args.seed,
            name=name,
        )
        write_whole(path, painter_files.save(params, name, notes))
    return str(out)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns its exit status."""
    return command_line.run(
        _job,
        argv,
        interrupted="interrupted; the same command goes on with the painters that are missing",
    )


if __name__ == "__main__":
    sys.exit(main())
