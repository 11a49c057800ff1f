"""How much memory a training step takes, by XLA's own account, and what batch fits on which card.

The whole step of a configuration (HSIC, AWP, Adam) is compiled for this machine's first device at
two batch sizes and never run; what lies between and beyond is interpolated, because all that grows
with the batch grows in proportion to it. The compiler for another device fuses and keeps other
things: a table made on a CPU is an estimate for a GPU. Prints a markdown table.

    python -m benchmarks.memory
"""

from __future__ import annotations

import argparse
import itertools
import time

import jax
import jax.numpy as jnp
import ml_collections

from configs import hkrawp_effnet, hkrawp_resnet
from qad_jax import models, transforms
from qad_jax.step import Batch, Objective, TrainState, make_train_step

CONFIGS = {"hkrawp_resnet": hkrawp_resnet, "hkrawp_effnet": hkrawp_effnet}
CARDS_GB = (16, 24, 40, 80)
#: Share of a card's memory that is the step's: the rest is the driver's and the allocator's.
USABLE = 0.9
TUPLES = (4, 8)


def step_bytes(config: ml_collections.ConfigDict, tuples: int, dtype: str, remat: bool) -> int:
    """Peak bytes of a step on one device: arguments, results and what lives in between."""
    objective = Objective(
        models.create(config.model.name, dtype=jnp.dtype(dtype), remat=remat),
        tuple(config.hsic.layer_weights),
        sigma=config.hsic.sigma,
        estimator=config.hsic.estimator,
    )
    tx = transforms.qad(
        config.learning_rate,
        gamma=config.awp.gamma,
        hsic_weight=config.hsic.weight,
        weight_decay=config.weight_decay,
    )

    def begin() -> TrainState:
        images = jnp.zeros((1, config.image_size, config.image_size, 3))
        variables = objective.model.init(jax.random.key(0), images, train=False)
        params = variables["params"]
        step = jnp.zeros((), jnp.int32)
        return TrainState(step, params, variables["batch_stats"], tx.init(params))

    shape = (tuples, len(config.qualities), config.image_size, config.image_size, 3)
    batch = Batch(
        jax.ShapeDtypeStruct(shape, jnp.uint8), jax.ShapeDtypeStruct((tuples,), jnp.int32)
    )
    step = jax.jit(make_train_step(objective, tx, 0), donate_argnums=0)
    told = step.lower(jax.eval_shape(begin), batch).compile().memory_analysis()
    return (
        told.argument_size_in_bytes
        + told.output_size_in_bytes
        - told.alias_size_in_bytes
        + told.temp_size_in_bytes
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", choices=CONFIGS, action="append", help="by default both")
    chosen = parser.parse_args().config or list(CONFIGS)
    print(f"Compiled for: {jax.devices()[0].device_kind}, jax {jax.__version__}\n")
    cards = " | ".join(f"{card} GB" for card in CARDS_GB)
    print(f"| config | type | remat | fixed MB | MB a tuple | {cards} | compiled in |")
    print("|---" * (6 + len(CARDS_GB)) + "|")
    few, many = TUPLES
    for name, dtype, remat in itertools.product(chosen, ("float32", "bfloat16"), (False, True)):
        config = CONFIGS[name].get_config()
        start = time.perf_counter()
        low, high = (step_bytes(config, tuples, dtype, remat) for tuples in TUPLES)
        seconds = time.perf_counter() - start
        each = (high - low) / (many - few)
        fixed = low - few * each
        fits = " | ".join(str(int((USABLE * card * 2**30 - fixed) // each)) for card in CARDS_GB)
        numbers = f"{fixed / 2**20:.0f} | {each / 2**20:.0f} | {fits} | {seconds:.0f} s"
        print(f"| {name} | {dtype} | {'yes' if remat else 'no'} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
