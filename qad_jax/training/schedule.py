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

from qad_jax import transforms
from qad_jax.models.layers import HEAD
from qad_jax.runs import configuration, placement
from qad_jax.training.input_pipeline import batches_in
from qad_jax.training.step import GRADIENT_NORM


class Phase(NamedTuple):
    """Steps `start` to `stop` - 1, all made by the same compiled function.

    Attributes:
      start: First step.
      stop: The step behind the last.
      head_only: Only the head learns; the backbone stands still.
      gamma: Size of the weight perturbation; 0: no second pass.
    """

    start: int
    stop: int
    head_only: bool
    gamma: float


class Plan(NamedTuple):
    """Attributes: `steps` in all, `epoch_steps` of one epoch, and the `phases` in order."""

    steps: int
    epoch_steps: int
    phases: list[Phase]


def plan(config: ml_collections.ConfigDict, tuples: int) -> Plan:
    """Lays out a training.

    Args:
      config: The configuration.
      tuples: Size of the train split. Each epoch drops its own incomplete batch.

    Returns:
      The plan. Perturbation begins with its own epoch, but not before the backbone moves.

    Raises:
      UserError: Where the split is smaller than a batch.
    """
    epoch = batches_in(tuples, config.batch_size)
    steps = config.num_steps or config.num_epochs * epoch
    head = config.head_only_epochs * epoch
    awp = max(head, config.awp.warmup_epochs * epoch)
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


def learning_rate(config: ml_collections.ConfigDict, steps: int) -> optax.Schedule:
    r"""One cosine cycle, as torch's ``OneCycleLR``: up to the peak, down to below the start.

    With :math:`r = \mathrm{pct\_start} \cdot \mathrm{steps} - 1`, the step of the peak, the rate
    goes from peak / div_factor at step 0 to the peak at step r, and on to
    peak / div_factor / final_div_factor at step steps - 1, the last, each way along half a cosine.
    A rise shorter than a step is left out: the run begins at, or just behind, the peak.

    Args:
      config: The configuration.
      steps: Length of the run.

    Returns:
      The rate as a function of the number of steps taken: in float32 of an array, for the device;
      in float64 of a number, without one.
    """
    peak, cycle = config.learning_rate, config.one_cycle
    initial = peak / cycle.div_factor
    final = initial / cycle.final_div_factor
    top = cycle.pct_start * steps - 1

    def schedule(step: Any) -> Any:
        xp = jnp if isinstance(step, jax.Array) else np

        def anneal(start: float, stop: float, left: Any) -> Any:
            # (1 - cos x) / 2 of what is left, as a square: the sum has no digits near its end.
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
      phase: The phase it is for: decides about the second pass while compiling, not while running.

    Returns:
      `qad_jax.transforms.qad`, which notes the norm of the gradient that Adam is given; where
      training begins with head-only epochs, the backbone's Adam starts when the backbone does, as
      if it had not been there before.
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
    """The weight of HSIC: a number, or where it warms up a function of the number of steps taken.

    It rises linearly over `hsic.warmup_epochs` from 0, once the backbone moves: until then HSIC
    says nothing that a weight could follow.
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
