"""Which HSIC estimator tells dependence from independence on a network's features?

Feature maps of a ResNet-50 at random weights, 64 raw crops against their c40 versions: in order
("paired") and shuffled ("unpaired"). Prints a markdown table. Needs `synthetic_faces`, built:

    python -m data_builders.build synthetic_faces
    python benchmarks/hsic_estimators.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from data_builders import build
from data_builders.command_line import DONE, Parser, run
from qad_jax import models
from qad_jax.losses import ESTIMATORS, hsic
from qad_jax.training.input_pipeline import TupleSource
from qad_jax.training.step import normalise

SAMPLES, SIZE = 64, 112


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python benchmarks/hsic_estimators.py", description=__doc__)
    parser.add_argument("--data_dir", default="", help="where synthetic_faces is built")
    dataset = build.builder("synthetic_faces", data_dir=parser.parse_args(argv).data_dir)
    build.prepare(dataset)
    source = TupleSource(dataset, "test", ("raw", "c40"), SIZE)
    chosen = np.random.default_rng(0).choice(len(source), SAMPLES, replace=False)
    images = np.stack([source[int(i)]["image"] for i in chosen])

    model = models.create("resnet50")
    variables = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(
        jnp.zeros((1, SIZE, SIZE, 3))
    )

    @jax.jit
    def features(images: jax.Array) -> tuple[jax.Array, ...]:
        output, _ = model.apply(variables, normalise(images), train=True, mutable=["batch_stats"])
        return output.features

    raw, compressed = (features(images[:, quality]) for quality in (0, 1))
    shuffled = np.random.default_rng(1).permutation(SAMPLES)
    names = list(ESTIMATORS)
    print("| stage | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for stage in range(4):
        cells = []
        for estimator in names:
            paired, unpaired = (
                float(hsic(raw[stage], other, estimator=estimator))
                for other in (compressed[stage], compressed[stage][shuffled])
            )
            cells.append(f"{paired:.3g} / {unpaired:.3g}")
        print(f"| {stage + 1} | " + " | ".join(cells) + " |")
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
