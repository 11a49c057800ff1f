"""What does HSIC add to a training step? Its value and gradient alone, beside a step without it.

Turns of both, so that whatever else the machine does falls on both; features have the shapes of a
network's and are noise. Steps with and without HSIC differ by less than steps do among themselves:

    python benchmarks/hsic_cost.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import measured
import speed
from measured import Measured, positive

from data_builders.command_line import DONE, Parser, run
from qad_jax import cpu
from qad_jax.losses import collaborative_hsic


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python benchmarks/hsic_cost.py", description=__doc__)
    parser.add_argument("--tuples", type=positive, default=4, help="in a batch (4)")
    parser.add_argument(
        "--rounds", type=positive, default=7, help="besides a first, not counted (7)"
    )
    measured.add_option(parser)
    options = parser.parse_args(argv)
    results = Measured("hsic_cost")
    cpu.tune()  # as the command does
    print("| model | HSIC, ms | plain step, s | share, % |\n|---|---|---|---|")
    with results.written(options.json):
        for name in speed.SIZES:
            measure(name, options.tuples, options.rounds, results)
    return DONE


def measure(name: str, tuples: int, rounds: int, results: Measured) -> None:
    """Prints the row of a model, and adds it to the results."""
    ours = speed.Ours(name, "float32", tuples)
    features = features_like(ours, tuples)
    gradient = jax.jit(jax.value_and_grad(dependence))
    alone, plain = [], []
    for number in range(rounds + 1):
        begin = time.perf_counter()
        jax.block_until_ready(gradient(features))
        between = time.perf_counter()
        step = ours.seconds("plain")
        if number:
            alone.append(between - begin)
            plain.append(step)
    shares = [100 * a / b for a, b in zip(alone, plain, strict=True)]
    milliseconds = [1000 * a for a in alone]
    title = f"HSIC alone, {tuples} tuples"
    results.add(title, name, "HSIC, ms", milliseconds, unit="ms", digits=0)
    results.add(title, name, "plain step, s", plain, unit="s")
    results.add(title, name, "share, %", shares, unit="%", digits=1)
    cells = speed.cell(milliseconds, 0), speed.cell(plain), speed.cell(shares, 1)
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def features_like(ours: speed.Ours, tuples: int) -> list[jax.Array]:
    """`(tuples, Q, ...)` noise for each layer that has a weight."""
    side = speed.SIZES[ours.name]
    images = jnp.zeros((tuples * speed.QUALITIES, side, side, 3))
    model = ours.model.clone(axis_name=None)
    layers = jax.eval_shape(lambda v: model.apply(v, images, train=False), ours.variables).features
    keys = jax.random.split(jax.random.key(0), len(layers))
    return [
        jax.random.normal(key, (tuples, speed.QUALITIES, *layer.shape[1:]))
        for key, layer, weight in zip(keys, layers, speed.CONFIG.hsic.layer_weights, strict=True)
        if weight
    ]


def dependence(features: list[jax.Array]) -> jax.Array:
    """HSIC as training computes it."""
    hsic = speed.CONFIG.hsic
    weights = [weight for weight in hsic.layer_weights if weight]
    return collaborative_hsic(features, weights, sigma=hsic.sigma, estimator=hsic.estimator)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
