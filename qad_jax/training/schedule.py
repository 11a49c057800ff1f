"""The plan of a training: how many steps, in which phases, with which optimiser."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from data_builders.errors import UserError
from qad_jax import transforms
from qad_jax.models.layers import HEAD
from qad_jax.runs import configuration, placement
from qad_jax.training.sampling import batches_in
from qad_jax.training.step import GRADIENT_NORM

# Steps are counted with 32 bits.
_MOST_STEPS = 2**31 - 1


class Phase(NamedTuple):
    """Steps that the same compiled function makes.

    Attributes:
      start: First step.
      stop: The step after the last.
      head_only: Whether only the head learns and the backbone stays as it is.
      gamma: Size of the weight perturbation; 0: no second pass.
    """

    start: int
    stop: int
    head_only: bool
    gamma: float


class Plan(NamedTuple):
    """The plan of a training.

    Attributes:
      steps: Steps in all.
      epoch_steps: Steps of one epoch.
      phases: The phases in order.
    """

    steps: int
    epoch_steps: int
    phases: list[Phase]


def plan(config: ml_collections.ConfigDict, tuples: int) -> Plan:
    """Lays out a training.

    Args:
      config: The configuration.
      tuples: Size of the train split. Each epoch drops its incomplete last batch.

    Returns:
      The plan. Perturbation begins after its warm-up, but not before the backbone learns.

    Raises:
      UserError: Where the split is smaller than a batch, or a field asks for more steps than can be
        counted.
    """
    epoch = batches_in(tuples, config.batch_size)
    _check_countable(config, epoch)
    steps = config.num_steps or config.num_epochs * epoch
    head = config.head_only_epochs * epoch
    awp = max(head, round(config.awp.warmup_epochs * epoch))
    bounds = [0, *(min(bound, steps) for bound in (head, awp)), steps]
    return Plan(
        steps,
        epoch,
        [
            Phase(start, stop, stop <= head, config.awp.gamma if start >= awp else 0.0)
            for start, stop in itertools.pairwise(bounds)
            if start < stop
        ],
    )


def _check_countable(config: ml_collections.ConfigDict, epoch: int) -> None:
    """Refuses numbers of steps that the compiled step could not compare with its own."""
    epochs = {
        "head_only_epochs": config.head_only_epochs,
        "awp.warmup_epochs": config.awp.warmup_epochs,
        "hsic.warmup_epochs": config.hsic.warmup_epochs,
    }
    if config.num_steps > _MOST_STEPS:
        raise UserError(f"config.num_steps: is {config.num_steps}, must be at most {_MOST_STEPS}")
    if not config.num_steps:
        epochs["num_epochs"] = config.num_epochs
    for name, count in epochs.items():
        if count * epoch > _MOST_STEPS:
            raise UserError(
                f"config.{name}: {count} epochs of {epoch} steps are more than {_MOST_STEPS} steps "
                f"in all; set it to at most {_MOST_STEPS // epoch}"
            )


def learning_rate(config: ml_collections.ConfigDict, steps: int) -> optax.Schedule:
    r"""One cosine cycle, as torch's ``OneCycleLR``: up to the peak, then down to below the start.

    The peak is at step :math:`r = \mathrm{pct\_start} \cdot \mathrm{steps} - 1`. The rate rises
    from peak / div_factor at step 0 to the peak at step r, and falls to
    peak / div_factor / final_div_factor at the last step, steps - 1, each along half a cosine.
    A rise shorter than a step is left out: the run then begins at the peak or just after it.

    Args:
      config: The configuration.
      steps: Length of the run.

    Returns:
      The rate as a function of the number of steps taken: float32 for a `jax.Array`, float64 for a
      number, which needs no device.
    """
    peak, cycle = config.learning_rate, config.one_cycle
    initial = peak / cycle.div_factor
    final = initial / cycle.final_div_factor
    top = cycle.pct_start * steps - 1

    def schedule(step: Any) -> Any:
        xp = jnp if isinstance(step, jax.Array) else np

        def anneal(start: float, stop: float, left: Any) -> Any:
            # (1 - cos x) / 2 is computed as a square: near the end, the difference has no digits.
            return stop + (start - stop) * xp.sin(0.5 * np.pi * left) ** 2

        falling = anneal(peak, final, xp.maximum(steps - 1 - step, 0) / (steps - 1 - top))
        if top <= 0:
            return falling
        return xp.where(step <= top, anneal(initial, peak, (top - step) / top), falling)

    return schedule


def optimiser(
    config: ml_collections.ConfigDict, planned: Plan, phase: Phase
) -> optax.GradientTransformationExtraArgs:
    """Makes the optimiser of a phase; its state has the same form in all phases.

    Args:
      config: The configuration.
      planned: The whole training, for the schedule and the end of the head-only epochs.
      phase: The phase; it decides about the second pass while compiling, not while running.

    Returns:
      `qad_jax.transforms.qad`, whose state also holds the norm of the gradient that Adam gets.
      Where training begins with head-only epochs, Adam starts anew for the backbone when the
      backbone begins to learn.
    """
    head_steps = config.head_only_epochs * planned.epoch_steps
    adam = direction = transforms.coupled_adam(config.weight_decay)
    if config.head_only_epochs:
        direction = optax.partition(
            {
                "head": adam,
                "backbone": optax.conditionally_mask(adam, lambda step: step >= head_steps),
            },
            _parts,
        )
    return optax.chain(
        transforms.qad_gradient(
            gamma=phase.gamma,
            hsic_weight=hsic_weight(config, planned),
            axis_name=placement.AXIS,
        ),
        optax.snapshot(GRADIENT_NORM, optax.tree.norm),
        direction,
        optax.scale_by_learning_rate(learning_rate(config, planned.steps)),
    )


def hsic_weight(config: ml_collections.ConfigDict, planned: Plan) -> optax.ScalarOrSchedule:
    """The weight of HSIC: a number, or with a warm-up a function of the number of steps taken.

    The weight rises linearly from 0 over `hsic.warmup_epochs`, which begin when the backbone
    begins to learn: before that, no weight of the backbone can follow HSIC.
    """
    weight: float = config.hsic.weight if configuration.uses_hsic(config) else 0.0
    if not weight or not config.hsic.warmup_epochs:
        return weight
    return optax.linear_schedule(
        0.0,
        weight,
        transition_steps=config.hsic.warmup_epochs * planned.epoch_steps,
        transition_begin=config.head_only_epochs * planned.epoch_steps,
    )


def _parts(params: Any) -> dict[str, Any]:
    def same(name: str) -> Callable[[Any], str]:
        return lambda _: name

    return {
        module: jax.tree.map(same("head" if module == HEAD else "backbone"), tree)
        for module, tree in params.items()
    }
