"""How much memory a training step takes, and what batch fits on which card, as a markdown table.

By default what the backward pass keeps of the forward pass, from the shapes alone: seconds, and the
same for every device, but an estimate. A compiler keeps less where it fuses, and more for what
lives for a moment only, such as the inside of the block that is being computed again.

With `--compile`, XLA's own account of the whole step (HSIC, AWP, Adam), compiled for this machine's
first device and never run: minutes a line. That is the number to trust on a GPU; XLA for CPU undoes
rematerialisation and computes bfloat16 in float32, so there it tells of float32 without it only.

Both are taken at two batch sizes; all that grows with the batch grows in proportion to it.

    python -m benchmarks.memory
    python -m benchmarks.memory --compile --config=hkrawp_resnet --dtype=float32
"""

from __future__ import annotations

import argparse
import itertools

import jax
import jax.numpy as jnp
import ml_collections

from configs import hkrawp_effnet, hkrawp_resnet
from qad_jax import models, transforms
from qad_jax.step import Batch, Objective, TrainState, losses, make_train_step

CONFIGS = {"hkrawp_resnet": hkrawp_resnet, "hkrawp_effnet": hkrawp_effnet}
DTYPES = ("float32", "bfloat16")
CARDS_GB = (16, 24, 40, 80)
#: Share of a card's memory that is the step's: the rest is the driver's and the allocator's.
USABLE = 0.9
TUPLES = (4, 8)


def step_bytes(
    config: ml_collections.ConfigDict, tuples: int, dtype: str, remat: bool, compiled: bool
) -> int:
    """Bytes of a step on one device.

    If `compiled`, the peak: arguments, results and what lives in between. Otherwise the state and
    what the backward pass keeps, parameters and pictures included.
    """
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
    if not compiled:
        state = jax.eval_shape(begin)
        kept = jax.eval_shape(
            lambda state, batch: jax.vjp(
                lambda p: losses(objective, p, state.batch_stats, batch, jax.random.key(0)),
                state.params,
                has_aux=True,
            )[1],
            state,
            batch,
        )
        leaves = jax.tree.leaves((state, kept))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
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
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="by default both")
    parser.add_argument("--compile", action="store_true", help="XLA's account, not the shapes'")
    flags = parser.parse_args()
    source = f"compiled for {jax.devices()[0].device_kind}" if flags.compile else "from shapes"
    print(f"{source}, jax {jax.__version__}\n")
    cards = " | ".join(f"{card} GB" for card in CARDS_GB)
    print(f"| config | type | remat | fixed MB | MB a tuple | {cards} |")
    print("|---" * (5 + len(CARDS_GB)) + "|")
    few, many = TUPLES
    for name, dtype, remat in itertools.product(
        flags.config or CONFIGS, flags.dtype or DTYPES, (False, True)
    ):
        config = CONFIGS[name].get_config()
        low, high = (step_bytes(config, n, dtype, remat, flags.compile) for n in TUPLES)
        each = (high - low) / (many - few)
        fixed = low - few * each
        fits = " | ".join(str(int((USABLE * card * 2**30 - fixed) // each)) for card in CARDS_GB)
        numbers = f"{fixed / 2**20:.0f} | {each / 2**20:.0f} | {fits}"
        print(f"| {name} | {dtype} | {'yes' if remat else 'no'} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
