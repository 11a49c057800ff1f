"""The training loop."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from data_builders.errors import UserError
from data_builders.paired import PairedDatasetBuilder
from qad_jax import models
from qad_jax.models import localiser
from qad_jax.runs import configuration, hosts, placement, provenance, resumption
from qad_jax.runs.alone import alone_in
from qad_jax.runs.checkpoints import Checkpoints
from qad_jax.runs.hosts import Progress
from qad_jax.runs.placement import AXIS
from qad_jax.runs.state import TrainState
from qad_jax.runs.writer import MetricsWriter
from qad_jax.training import early_stopping, parallel, preemption, schedule
from qad_jax.training.augmentation import Augmentation
from qad_jax.training.input_pipeline import TrainBatches
from qad_jax.training.mixture import open_training
from qad_jax.training.sampling import Source
from qad_jax.training.step import Batch, Objective, make_train_step
from qad_jax.weights import pretrained

#: From `{'params', 'batch_stats'}` to numbers for the log; 'auc' is the mean AUC over the
#: qualities and datasets, or None where it is not defined.
Validate = Callable[[Any], dict[str, float | None]]


def initial_state(config: ml_collections.ConfigDict, planned: schedule.Plan) -> TrainState:
    """The state of step 0 on all devices: pretrained weights, or random ones of the seed."""
    if config.model.pretrained:
        variables = pretrained.of_config(config).variables
        return placement.replicate(jax.jit(_begin(config, planned))(variables))
    return placement.replicate(jax.jit(_drawn(config, planned))())


def _drawn(config: ml_collections.ConfigDict, planned: schedule.Plan) -> Callable[[], TrainState]:
    model = models.create(config.model.name)
    begin = _begin(config, planned)

    def drawn() -> TrainState:
        images = jnp.zeros((1, config.image_size, config.image_size, 3))
        return begin(model.init(jax.random.key(config.seed), images, train=False))

    return drawn


def _begin(
    config: ml_collections.ConfigDict, planned: schedule.Plan
) -> Callable[[Any], TrainState]:
    tx = schedule.optimiser(config, planned, planned.phases[0])

    def begin(variables: Any) -> TrainState:
        if config.localise.weight:
            model = models.create(config.model.name)
            variables = localiser.extended(model, variables, config.image_size, config.seed)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=tx.init(variables["params"]),
            average=jax.tree.map(jnp.copy, variables["params"]) if config.ema_decay else None,
        )

    return begin


def train_step_of(
    config: ml_collections.ConfigDict, planned: schedule.Plan, phase: schedule.Phase
) -> Callable[..., Any]:
    """Makes the step of a phase over all devices, which its first call compiles."""
    objective = Objective(
        models.create(
            config.model.name,
            dtype=jnp.dtype(config.model.dtype),
            axis_name=AXIS,
            remat=config.remat,
        ),
        layer_weights=(
            tuple(config.hsic.layer_weights)
            if configuration.uses_hsic(config)
            else (0.0,) * len(config.hsic.layer_weights)
        ),
        sigma=config.hsic.sigma,
        estimator=config.hsic.estimator,
        axis_name=AXIS,
        head_only=phase.head_only,
        ema_decay=config.ema_decay,
        localise=config.localise.weight,
        at_once=config.qualities_at_once,
    )
    tx = schedule.optimiser(config, planned, phase)
    return parallel.pmap_train(make_train_step(objective, tx, config.seed, config.accumulate_steps))


@dataclasses.dataclass
class _Run:
    """What the parts of the loop share."""

    config: ml_collections.ConfigDict
    planned: schedule.Plan
    validate_variables: Validate | None
    checkpoints: Checkpoints
    writer: MetricsWriter
    history: list[early_stopping.Validation]
    clock: float = dataclasses.field(default_factory=time.monotonic)
    untimed: int = 0  # steps of the interval from before a resumption, which the clock has not seen

    @functools.cached_property
    def _learning_rate(self) -> Callable[[int], Any]:
        return schedule.learning_rate(self.config, self.planned.steps)

    def fetch(
        self, step: int, interval: list[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """Fetches the interval's metrics and their means: the loop's only wait for the devices."""
        fetched = jax.device_get(interval)
        means = {name: float(np.mean([m[name] for m in fetched])) for name in fetched[0]}
        self._check_finite(step - len(fetched), fetched)
        return fetched, means

    def log(self, step: int, interval: list[dict[str, Any]]) -> dict[str, float]:
        """Logs means of the interval's metrics."""
        _, means = self.fetch(step, interval)
        now = time.monotonic()
        timed = len(interval) - self.untimed
        self.writer.write(
            step,
            "train",
            {
                **means,
                "learning_rate": float(self._learning_rate(step - 1)),
                "tuples_per_second": timed * self.config.batch_size / (now - self.clock),
            },
        )
        self.clock, self.untimed = now, 0
        return means

    def save_between(self, state: TrainState, step: int, interval: list[dict[str, Any]]) -> None:
        """Saves within an interval, with its metrics: the mean is later taken over all of it."""
        fetched = self.fetch(step, interval)[0] if interval else []
        pending = [{name: float(value) for name, value in each.items()} for each in fetched]
        self.checkpoints.save(state, self.config, step=step, pending=pending)

    def _check_finite(self, step: int, fetched: list[dict[str, Any]]) -> None:
        """Raises a `UserError` that names the first step after `step` with a NaN or an Inf."""
        for number, metrics in enumerate(fetched, start=step + 1):
            bad = [f"{name} is {v}" for name, v in metrics.items() if not math.isfinite(v)]
            if bad:
                latest = self.checkpoints.newest_whole()
                begin = "; config.model.pretrained begins with a checkpoint of this one"
                raise UserError(
                    f"training diverged: {', '.join(bad)} at step {number}; last good checkpoint: "
                    f"{'none' if latest is None else f'step {latest}'}; try a lower "
                    f"config.learning_rate in a new --workdir{'' if latest is None else begin}"
                )

    def stops_early(self) -> bool:
        """Whether early stopping ends the training; a line on stderr then says why."""
        reason = early_stopping.reason_to_stop(self.history, self.config.early_stop_patience)
        if reason is not None:
            hosts.say(reason, file=sys.stderr)
        return reason is not None

    def validate(self, state: TrainState) -> float | None:
        """Logs the results of a validation and returns the mean AUC, None where there is none."""
        if self.validate_variables is None:
            return None
        numbers = self.validate_variables(state.variables())
        step = int(state.step)
        self.writer.write(step, "validation", numbers)
        self.history.append(early_stopping.Validation(step, numbers["auc"]))
        return numbers["auc"]


def train(
    config: ml_collections.ConfigDict,
    workdir: Path,
    datasets: Sequence[PairedDatasetBuilder],
    validate: Validate | None = None,
) -> None:
    """Trains, or continues where `workdir` holds a checkpoint of the same configuration.

    Args:
      config: Checked, see `configuration.check`.
      workdir: The run's folder.
      datasets: Builders whose datasets are built, in the order of the configuration.
      validate: Measures the variables at the end of each epoch, see
        `qad_jax.evaluation.inference.validator`; None: nothing is measured, and no checkpoint is
        the best.

    Raises:
      UserError: Where data and configuration do not fit, the folder is another run's or another
        process trains there, or a loss is not finite.
      Preempted: On SIGTERM, after all steps are saved.
    """
    parallel.check(config)
    source = open_training(config, datasets)
    planned = schedule.plan(config, len(source))
    if planned.phases[-1].head_only:
        hosts.say(
            f"note: all {planned.steps} steps are within config.head_only_epochs: the head learns "
            "alone, without HSIC and AWP",
            file=sys.stderr,
        )
    with contextlib.ExitStack() as held:
        with hosts.first_then_others("claim"):
            configuration.claim_workdir(config, workdir)
            if hosts.is_first():
                held.enter_context(alone_in(workdir))
        _train(config, workdir, datasets, source, planned, validate)


def _train(
    config: ml_collections.ConfigDict,
    workdir: Path,
    datasets: Sequence[PairedDatasetBuilder],
    source: Source,
    planned: schedule.Plan,
    validate: Validate | None,
) -> None:
    checkpoints = Checkpoints(workdir, resumption.circumstances(datasets))
    pending: list[dict[str, float]] = []
    if checkpoints.latest is None:
        state = initial_state(config, planned)
    else:  # restoring needs only the shapes, and no file of pretrained weights
        state, pending = checkpoints.restore(jax.eval_shape(_drawn(config, planned)))
        if hosts.is_first():  # not before: the data may be others, which `restore` refuses
            configuration.renew_workdir(config, workdir)
    start = int(state.step)
    provenance.record_start(workdir, datasets, start)
    writer = hosts.metrics_writer(workdir, start)
    history = early_stopping.validations(workdir, start)
    run = _Run(config, planned, validate, checkpoints, writer, history, untimed=len(pending))
    batches: Iterator[Batch] = TrainBatches(
        source,
        config.batch_size,
        seed=config.seed,
        sampling=config.sampling,
        augmentation=Augmentation(**config.augment),
        start=start,
        rows=parallel.rows(config.batch_size),
    )
    with preemption.Watch() as sigterm:  # around the saving, too: a second SIGTERM must not end it
        try:
            if not start:
                first = next(batches)
                writer.write_tuples(0, np.asarray(first.images))
                batches = itertools.chain([first], batches)
            with Progress(planned.steps, "training", unit="step", initial=start) as progress:
                step = _loop(run, state, parallel.prefetch(batches), progress, sigterm, pending)
        except BaseException as error:
            # A save in progress waits for all processes: without one of them it never ends.
            if not hosts.lost_another(error):
                checkpoints.close()
            raise
        else:
            checkpoints.close()
        finally:
            writer.close()
        if hosts.any_of_all(sigterm.asked):
            raise preemption.Preempted(step)


def _loop(
    run: _Run,
    state: TrainState,
    batches: Any,
    progress: Progress,
    sigterm: preemption.Watch,
    pending: list[dict[str, float]],
) -> int:
    """Trains to the last step, or until SIGTERM; returns the step, which is being saved."""
    config, planned = run.config, run.planned
    step = int(state.step)
    # JSON stores doubles; the mean over the interval is of float32 numbers, as without a stop.
    interval: list[dict[str, Any]] = [
        {name: np.float32(value) for name, value in each.items()} for each in pending
    ]
    if step < planned.steps and run.stops_early():  # the run had already stopped early
        return step
    waits = jax.default_backend() == "cpu"
    for phase in planned.phases:
        if step >= phase.stop:
            continue
        train_step = train_step_of(config, planned, phase)
        while step < phase.stop:
            if waits and interval:
                # A processor sets memory aside for each step when it is asked for: steps that only
                # wait for others would take as much again.
                jax.block_until_ready(interval[-1])
            with jax.transfer_guard_device_to_host("disallow"):
                state, metrics = train_step(state, next(batches))
            step += 1
            interval.append(metrics)
            progress.advance()
            last = step == planned.steps
            epoch_ends = step % planned.epoch_steps == 0 or last
            saves = config.checkpoint_every_steps and step % config.checkpoint_every_steps == 0
            logs = step % config.log_every_steps == 0 or epoch_ends or saves
            if logs:
                means = run.log(step, interval)
                progress.show(loss=means["cross_entropy"], hsic=means["hsic"])
                interval = []
            if epoch_ends or saves:
                auc = run.validate(state) if epoch_ends else None
                run.checkpoints.save(state, config, step=step, auc=auc)
                run.clock = time.monotonic()
            if epoch_ends and not last and run.stops_early():
                return step
            # Several processes have to agree; in every step, that would be a wait.
            if (logs or hosts.alone()) and hosts.any_of_all(sigterm.asked):
                if not (epoch_ends or saves):
                    run.save_between(state, step, interval)
                return step
    return step
