"""How much memory a training step takes, and what batch fits on which card, as a markdown table.

By default what the backward pass keeps of the forward pass, from the shapes alone: seconds, and the
same for every device, but an estimate. A compiler keeps less where it fuses, and more for what
lives for a moment only, such as the inside of the block that is being computed again.

With `--compile`, XLA's own account of the whole step (HSIC, AWP, Adam), compiled for this machine's
first device and never run: minutes a line. That is the number to trust on a GPU; XLA for CPU
computes bfloat16 in float32, so there it tells of float32 only.

Both are taken at two batch sizes; all that grows with the batch grows in proportion to it.

With `--target`, the same account for a GPU that is not there, only described: needs the `cuda`
extra, but neither GPU nor driver. One compilation a line, at the configuration's own batch size;
all but the state is taken to grow with the batch, so that what fits is rather too low. Nothing is
tuned without a device, so cuDNN's workspaces, which tuning chooses, are not in it. Triton's
products are off: they too are chosen by tuning, and without it some of EfficientNet's do not
compile.

    python -m benchmarks.memory
    python -m benchmarks.memory --compile --config=hkrawp_resnet --dtype=float32
    XLA_FLAGS=--xla_gpu_enable_triton_gemm=false python -m benchmarks.memory --target=h100
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from jax.experimental import topologies

from data_builders.command_line import DONE, Parser, run
from data_builders.errors import UserError, describe
from qad_jax import configs, cpu, models, transforms
from qad_jax.training.step import Batch, Objective, TrainState, losses, make_train_step

CONFIGS = ("hkrawp_resnet", "hkrawp_effnet")
DTYPES = ("float32", "bfloat16")
CARDS_GB = (16, 24, 40, 80)
#: Share of a card's memory that is the step's: the rest is the driver's and the allocator's.
USABLE = 0.9
TUPLES = (4, 8)


def described_gpu(target: str) -> jax.sharding.Sharding:
    """Where the arrays of a GPU are that exists as a description only.

    Args:
      target: Name of a description beside this file, or path of one, such as XLA's own in
        `xla/backends/gpu/target_config/specs`.

    Raises:
      UserError: There is no such description, it is none, or JAX has no plugin for such a GPU.
    """
    # Otherwise the plugin looks for the driver, and does not load without.
    jax.config.update("jax_platforms", "cpu")
    beside = Path(__file__).parent / f"{target}.txtpb"
    try:
        text = (beside if beside.exists() else Path(target)).read_text()
        about = {"platform": "cuda", "topology": "1x1x1", "target_config": text}
        topology = topologies.get_topology_desc(**about)
    except OSError as error:
        raise UserError(f"--target: {describe(error)}") from error
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"--target: {target}: {describe(error)}; is the cuda extra there?"
        ) from error
    return jax.sharding.SingleDeviceSharding(topology.devices[0])


def step_and_shapes(
    config: ml_collections.ConfigDict, tuples: int, dtype: str, remat: bool
) -> tuple[Any, TrainState, Batch]:
    """The objective and the whole step, not yet compiled, with the shapes that it takes."""
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
    return (objective, make_train_step(objective, tx, 0)), jax.eval_shape(begin), batch


def kept_bytes(config: ml_collections.ConfigDict, tuples: int, dtype: str, remat: bool) -> int:
    """Bytes of the state and of what the backward pass keeps, parameters and images included."""
    (objective, _), state, batch = step_and_shapes(config, tuples, dtype, remat)
    kept = jax.eval_shape(
        lambda state, batch: jax.vjp(
            lambda p: losses(objective, p, state.batch_stats, batch, jax.random.key(0)),
            state.params,
            has_aux=True,
        )[1],
        state,
        batch,
    )
    return _size((state, kept))


def compiled_step(
    config: ml_collections.ConfigDict,
    tuples: int,
    dtype: str,
    remat: bool = False,
    on: jax.sharding.Sharding | None = None,
) -> jax.stages.Compiled:
    """The whole step, compiled for this machine's first device, or for a described GPU."""
    (_, step), *shapes = step_and_shapes(config, tuples, dtype, remat)
    if on is None:
        return jax.jit(step, donate_argnums=0).lower(*shapes).compile()
    placed = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=on), shapes
    )
    traced = jax.jit(step, donate_argnums=0, out_shardings=on).trace(*placed)
    return traced.lower(lowering_platforms=("cuda",)).compile()


def peak_bytes(compiled: jax.stages.Compiled) -> int:
    """Arguments, results and what lives in between."""
    told: Any = compiled.memory_analysis()
    return (
        told.argument_size_in_bytes
        + told.output_size_in_bytes
        - told.alias_size_in_bytes
        + told.temp_size_in_bytes
    )


def _size(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--config", choices=CONFIGS, action="append", help="by default both")
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="by default both")
    parser.add_argument("--compile", action="store_true", help="XLA's account, not the shapes'")
    parser.add_argument("--target", help="the same for a described GPU: h100, or a file")
    parser.add_argument("--remat", choices=("no", "yes"), action="append", help="by default both")
    flags = parser.parse_args(argv)
    cpu.tune()  # without, rematerialisation is undone there
    on = described_gpu(flags.target) if flags.target else None
    source = "from shapes"
    if on or flags.compile:
        device = next(iter(on.device_set)) if on else jax.devices()[0]
        source = f"compiled for {device.device_kind}{' as described' if on else ''}"
    print(f"{source}, jax {jax.__version__}\n")
    cards = " | ".join(f"{card} GB" for card in CARDS_GB)
    print(f"| config | type | remat | fixed MB | MB a tuple | {cards} |")
    print("|---" * (5 + len(CARDS_GB)) + "|")
    few, many = TUPLES
    for name, dtype, choice in itertools.product(
        flags.config or CONFIGS, flags.dtype or DTYPES, flags.remat or ("no", "yes")
    ):
        config, remat = configs.load(name), choice == "yes"
        if on:
            tuples = config.batch_size
            fixed = _size(step_and_shapes(config, tuples, dtype, remat)[1])
            each = (peak_bytes(compiled_step(config, tuples, dtype, remat, on)) - fixed) / tuples
        else:
            low, high = (
                peak_bytes(compiled_step(config, n, dtype, remat))
                if flags.compile
                else kept_bytes(config, n, dtype, remat)
                for n in (few, many)
            )
            each = (high - low) / (many - few)
            fixed = low - few * each
        fits = " | ".join(str(int((USABLE * card * 2**30 - fixed) // each)) for card in CARDS_GB)
        numbers = f"{fixed / 2**20:.0f} | {each / 2**20:.0f} | {fits}"
        print(f"| {name} | {dtype} | {choice} | {numbers} |", flush=True)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
