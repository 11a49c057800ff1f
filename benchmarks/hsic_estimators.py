"""Which HSIC estimator tells dependence from independence on a network's features?

Feature maps of a ResNet-50 at random weights, 64 raw crops against their c40 versions: in order
("paired") and shuffled ("unpaired"). Prints a markdown table. Needs `synthetic_faces`, built:

    python -m data_builders.build synthetic_faces
    python benchmarks/hsic_estimators.py
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from data_builders import build
from qad_jax import models
from qad_jax.losses import ESTIMATORS, hsic
from qad_jax.training.input_pipeline import TupleSource
from qad_jax.training.step import normalise

SAMPLES, SIZE = 64, 112


def main() -> None:
    """Computes and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", default="", help="where synthetic_faces is built")
    dataset = build.builder("synthetic_faces", data_dir=parser.parse_args().data_dir)
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


if __name__ == "__main__":
    main()
