"""How well a detector marks what was changed, as the `localisation` of its model file.

python benchmarks/localisation.py runs/detector self_blended/DIGEST --data_dir DATA

Looks at every pair of a fake and its original in the test split. A place of a fake was changed
where its mean difference from the original, at the best quality, is at least 3.5 grey values of
255. Prints a table and, on the last line, JSON for the file that `python -m qad_jax.release` takes
as --about.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import held_out
import jax
import numpy as np
from measured import positive

from data_builders.command_line import DONE, Parser, run
from data_builders.errors import UserError
from data_builders.progress import Progress
from qad_jax import models
from qad_jax.detection.marks import MARKED, Marks
from qad_jax.evaluation import metrics
from qad_jax.evaluation.protocol import percent
from qad_jax.models.localiser import LOCALISER
from qad_jax.runs import checkpoints
from qad_jax.training import localisation
from qad_jax.training.input_pipeline import TupleSource
from qad_jax.training.sampling import ordered
from qad_jax.training.step import make_locate_step

# Pairs at a time.
_PAIRS = 8


def pairs_of(order: Sequence[int], fakes: int) -> int:
    """How many pairs there are: a fake without an original is in none.

    Args:
      order: See `sampling.ordered` of 'twins': every fake of a pair comes once before any repeats.
      fakes: How many fakes the split has.
    """
    return len({order[2 * place] for place in range(fakes)})


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python benchmarks/localisation.py", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("dataset", help="its name, as for qad-jax build")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--pairs", type=positive, help="look at so many at most (default: all)")
    args = parser.parse_args(argv)
    variables, config = checkpoints.restore_for_evaluation(args.run)
    if LOCALISER not in variables:
        raise UserError(f"{args.run}: has no localiser; train with config.localise.weight above 0")
    locate = jax.jit(make_locate_step(models.create(config.model.name)))
    dataset = held_out.opened(args.dataset, args.data_dir)
    source = TupleSource(dataset, "test", dataset.qualities, config.image_size)
    order = ordered(source, "twins", 0, of=source.title)
    most = pairs_of(order, int(np.sum(source.facts.labels)))
    pairs = min(args.pairs or most, most)
    given: dict[str, list[np.ndarray]] = {quality: [] for quality in dataset.qualities}
    changed = []
    with Progress(pairs, "pairs", unit="pair") as progress:
        for first in range(0, pairs, _PAIRS):
            # All batches have one shape; what is read twice at the end is left out.
            places = [2 * first + i for i in range(2 * _PAIRS)]
            images = np.stack([source[order[place]]["image"] for place in places])
            count = min(_PAIRS, pairs - first)
            for number, quality in enumerate(dataset.qualities):
                shares = np.asarray(locate(variables, images[:, number]))
                given[quality].append(shares[: 2 * count])
            height, width = shares.shape[1:]
            wanted = localisation.targets(localisation.differences(images), height, width)
            changed.append(np.asarray(wanted)[: 2 * count] >= MARKED)
            progress.advance(count)
    truth = np.concatenate(changed)
    stored = {}
    print(f"{pairs} pairs, {truth.mean():.1%} of the places were changed")
    print(
        "| quality | marked places that were changed | changed places that are marked | "
        "real images with a mark | AUC |"
    )
    print("|---|---|---|---|---|")
    for quality, parts in given.items():
        shares = np.concatenate(parts)
        marked = shares >= MARKED
        right = float(truth[marked].mean()) if marked.any() else 0.0
        found = float(marked[truth].mean())
        area = metrics.numbers(truth.ravel().astype(int), shares.ravel())["auc"]
        false = float(marked[1::2].any(axis=(1, 2)).mean())  # every second is real
        shares_of = (right, found, false)
        stored[quality] = dataclasses.asdict(Marks(*(round(share, 4) for share in shares_of)))
        cells = " | ".join(f"{share:.1%}" for share in shares_of)
        print(f"| {quality} | {cells} | {percent(area)} |")
    print(json.dumps(stored, allow_nan=False))
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
