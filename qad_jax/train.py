"""The training loop."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from data_builders.errors import UserError
from data_builders.paired import PairedDatasetBuilder
from data_builders.progress import Progress
from qad_jax import configuration, evaluate, models, parallel, provenance, schedule, stopping
from qad_jax.checkpoints import Checkpoints
from qad_jax.input_pipeline import TrainBatches, TupleSource
from qad_jax.models import pretrained
from qad_jax.step import Batch, Objective, TrainState, make_predict_step, make_train_step
from qad_jax.writer import MetricsWriter


def initial_state(config: ml_collections.ConfigDict, planned: schedule.Plan) -> TrainState:
    """The state of step 0, on all devices: weights of `config.model.pretrained`, or of the seed."""
    if config.model.pretrained:
        variables = pretrained.of_config(config).variables
        return parallel.replicate(jax.jit(_begin(config, planned))(variables))
    return parallel.replicate(jax.jit(_drawn(config, planned))())


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
    """Compiles, on its first call, the step of a phase over all devices."""
    objective = Objective(
        models.create(
            config.model.name, dtype=jnp.dtype(config.model.dtype), axis_name=parallel.AXIS
        ),
        layer_weights=(
            tuple(config.hsic.layer_weights)
            if configuration.uses_hsic(config)
            else (0.0,) * len(config.hsic.layer_weights)
        ),
        sigma=config.hsic.sigma,
        estimator=config.hsic.estimator,
        axis_name=parallel.AXIS,
        head_only=phase.head_only,
        ema_decay=config.ema_decay,
    )
    tx = schedule.optimiser(config, planned, phase)
    return parallel.pmap_train(make_train_step(objective, tx, config.seed))


def predict_step_of(config: ml_collections.ConfigDict) -> Callable[..., Any]:
    """Compiles, on its first call, prediction over all devices."""
    model = models.create(config.model.name, dtype=jnp.dtype(config.model.dtype))
    return parallel.pmap_predict(make_predict_step(model))


@dataclasses.dataclass
class _Run:
    """What the parts of the loop share."""

    config: ml_collections.ConfigDict
    planned: schedule.Plan
    validation: TupleSource | None
    checkpoints: Checkpoints
    writer: MetricsWriter
    history: list[stopping.Validation]
    clock: float = dataclasses.field(default_factory=time.monotonic)

    @functools.cached_property
    def _predict(self) -> Callable[..., Any]:
        return predict_step_of(self.config)

    @functools.cached_property
    def _learning_rate(self) -> Callable[[int], Any]:
        return schedule.learning_rate(self.config, self.planned.steps)

    def log(self, step: int, interval: list[dict[str, jax.Array]]) -> dict[str, float]:
        """Fetches the interval's metrics, the loop's only wait for the devices, and logs means."""
        fetched = jax.device_get(interval)
        means = {name: float(np.mean([m[name] for m in fetched])) for name in fetched[0]}
        self._check_finite(step - len(fetched), fetched)
        now = time.monotonic()
        self.writer.write(
            step,
            "train",
            {
                **means,
                "learning_rate": float(self._learning_rate(step - 1)),
                "tuples_per_second": len(interval) * self.config.batch_size / (now - self.clock),
            },
        )
        self.clock = now
        return means

    def _check_finite(self, step: int, fetched: list[dict[str, Any]]) -> None:
        """Raises a `UserError` that names the first step after `step` with a NaN or an Inf."""
        for number, metrics in enumerate(fetched, start=step + 1):
            bad = [f"{name} is {v}" for name, v in metrics.items() if not math.isfinite(v)]
            if bad:
                good = self.checkpoints.latest
                raise UserError(
                    f"training diverged: {', '.join(bad)} at step {number}; last good checkpoint: "
                    f"{'none' if good is None else f'step {good}'}; try a lower "
                    "config.learning_rate"
                )

    def stops_early(self) -> bool:
        """Whether patience is at its end, which it says in a line."""
        reason = stopping.reason_to_stop(self.history, self.config.early_stop_patience)
        if reason is not None:
            print(reason, file=sys.stderr)
        return reason is not None

    def validate(self, state: TrainState) -> float | None:
        """Mean frame AUC over the qualities of the validation split, where there is one."""
        if self.validation is None:
            return None
        scores = evaluate.predict(
            self._predict,
            state.variables(),
            self.validation,
            qualities=self.config.qualities,
            batch_size=self.config.batch_size,
            label="validation",
        )
        report = evaluate.summarise(scores, intervals=False)
        numbers = {f"{q}/auc": entry["frame"]["auc"] for q, entry in report["qualities"].items()}
        mean: float | None = report["mean"]["auc"]
        step = int(state.step)
        self.writer.write(step, "validation", {**numbers, "auc": mean})
        self.history.append(stopping.Validation(step, mean))
        return mean


def train(config: ml_collections.ConfigDict, workdir: Path, dataset: PairedDatasetBuilder) -> None:
    """Trains, or goes on training where `workdir` holds a checkpoint of the same configuration.

    Args:
      config: Checked, see `configuration.check`.
      workdir: The run's folder.
      dataset: A builder whose dataset is built.

    Raises:
      UserError: If data and configuration do not fit, the folder is another run's, or the loss
        is no longer a number.
    """
    parallel.check_divides(config.batch_size)
    source = TupleSource(dataset, "train", config.qualities, config.image_size)
    validation = None
    if "validation" in dataset.info.splits:
        validation = TupleSource(dataset, "validation", config.qualities, config.image_size)
    planned = schedule.plan(config, len(source))
    configuration.claim_workdir(config, workdir)

    checkpoints = Checkpoints(workdir, dataset.info.full_name)
    if checkpoints.latest is None:
        state = initial_state(config, planned)
    else:  # only the shapes are needed, and no file of pretrained weights
        state = checkpoints.restore(jax.eval_shape(_drawn(config, planned)))
    start = int(state.step)
    provenance.record_start(workdir, dataset, start)
    writer = MetricsWriter(workdir, start)
    history = stopping.validations(workdir, start)
    run = _Run(config, planned, validation, checkpoints, writer, history)
    batches: Iterator[Batch] = TrainBatches(
        source, config.batch_size, seed=config.seed, sampling=config.sampling, start=start
    )
    try:
        if not start:
            first = next(batches)
            writer.write_tuples(0, np.asarray(first.images))
            batches = itertools.chain([first], batches)
        with Progress(planned.steps, "training", unit="step", initial=start) as progress:
            _loop(run, state, parallel.prefetch(batches), progress)
    finally:
        checkpoints.close()
        writer.close()


def _loop(run: _Run, state: TrainState, batches: Any, progress: Progress) -> None:
    config, planned = run.config, run.planned
    step = int(state.step)
    interval: list[dict[str, jax.Array]] = []
    if step < planned.steps and run.stops_early():  # and was started again
        return
    for phase in planned.phases:
        if step >= phase.stop:
            continue
        train_step = train_step_of(config, planned, phase)
        while step < phase.stop:
            with jax.transfer_guard_device_to_host("disallow"):
                state, metrics = train_step(state, next(batches))
            step += 1
            interval.append(metrics)
            progress.advance()
            last = step == planned.steps
            epoch_ends = step % planned.epoch_steps == 0 or last
            saves = config.checkpoint_every_steps and step % config.checkpoint_every_steps == 0
            if step % config.log_every_steps == 0 or epoch_ends or saves:
                means = run.log(step, interval)
                progress.show(loss=means["cross_entropy"], hsic=means["hsic"])
                interval = []
            if epoch_ends or saves:
                auc = run.validate(state) if epoch_ends else None
                run.checkpoints.save(state, config, step=step, auc=auc)
                run.clock = time.monotonic()
                if epoch_ends and not last and run.stops_early():
                    return
