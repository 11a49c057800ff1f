"""How fast is training, against the same step written plainly in PyTorch?

Prints markdown tables of ratios, each measured side by side: in every round each side runs once,
so that whatever else the machine does falls on both. A number is the median over the rounds, with
the smallest and the largest. Ratios are torch's time over ours: above 1, this package is faster.

    python benchmarks/speed.py                                   # everything, torch in this python
    python benchmarks/speed.py --torch_python ../torch/bin/python --rows step --models resnet50

The twin (`torch_twin.py`) gets our weights and must find the same losses before it is timed.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import input_rate
import jax
import jax.numpy as jnp
import measured
import numpy as np
import start_up
from measured import Measured, positive
from twin import Twin, has_torch

from data_builders.command_line import DONE, Parser, run
from qad_jax import configs, cpu, models, transforms
from qad_jax.models import depthwise
from qad_jax.runs import placement
from qad_jax.training import parallel
from qad_jax.training.input_pipeline import TrainBatches
from qad_jax.training.step import (
    Batch,
    Objective,
    TrainState,
    losses,
    make_predict_step,
    make_train_step,
    normalise,
)
from qad_jax.weights import conversion

SIZES = {"resnet50": 224, "efficientnet_b1": 240, "efficientnet_lite0": 224}
QUALITIES = 3
# Losses of the twin against ours, relative or absolute: rounding through fifty layers of each type.
# HSIC of few tuples of noise is near 0, and nearly all of it rounding in bfloat16.
TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-1}
CONFIG = configs.load("common")


class Ours:
    """One model, its batch and its compiled steps."""

    def __init__(self, name: str, dtype: str, tuples: int) -> None:
        self.name = name
        self.model = models.create(name, dtype=jnp.dtype(dtype), axis_name=placement.AXIS)
        rng = np.random.default_rng(0)
        side = SIZES[name]
        shape = (tuples, QUALITIES, side, side, 3)
        self.batch = Batch(
            rng.integers(0, 256, shape, np.uint8), rng.integers(0, 2, tuples).astype(np.int32)
        )
        plain = models.create(name)
        self.variables = jax.jit(
            lambda: plain.init(jax.random.key(0), jnp.zeros((1, side, side, 3)), train=False)
        )()
        self._runs: dict[str, Callable[[], Any]] = {}

    def hand_over(self, file: Path) -> None:
        """Writes weights, batch and settings for the twin."""
        mean, std = self._constants()
        settings = {
            "learning_rate": CONFIG.learning_rate,
            "weight_decay": CONFIG.weight_decay,
            "gamma": CONFIG.awp.gamma,
            "hsic_weight": CONFIG.hsic.weight,
            "sigma": CONFIG.hsic.sigma,
            "layer_weights": list(CONFIG.hsic.layer_weights),
            "mean": mean.tolist(),
            "std": std.tolist(),
            "feature_blocks": list(getattr(self.model, "feature_blocks", ())),
        }
        state = conversion.to_torch(self.variables, self.name)
        np.savez(file, settings=json.dumps(settings), **self.batch._asdict(), **state)

    def _constants(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of `normalise`, found by calling it, in units of white."""
        black, white = (
            np.asarray(normalise(np.full(3, v, np.uint8), self.model.normalisation), np.float64)
            for v in (0, 255)
        )
        std = 1 / (white - black)
        return -black * std, std

    @functools.cached_property
    def placed(self) -> Any:
        """The batch on the devices, where the twin has it, too."""
        return parallel.shard(self.batch)

    def _objective(self, hsic: bool, model: Any = None, axis: str | None = placement.AXIS) -> Any:
        weights = tuple(CONFIG.hsic.layer_weights)
        return Objective(
            model or self.model,
            layer_weights=weights if hsic else (0.0,) * len(weights),
            sigma=CONFIG.hsic.sigma,
            axis_name=axis,
        )

    def losses(self) -> list[float]:
        """Cross-entropy and HSIC without dropout and stochastic depth."""
        model = self.model.clone(axis_name=None)
        if self.name.startswith("efficientnet"):
            model = model.clone(dropout_rate=0.0, drop_connect_rate=0.0)
        objective = self._objective(True, model, None)
        found = jax.jit(lambda v, b: losses(objective, v["params"], v["batch_stats"], b, _key())[0])
        return [float(value) for value in found(self.variables, self.batch)]

    def step_and_state(self, hsic: bool, gamma: float) -> tuple[Any, TrainState]:
        """The training step over all devices, and a state that it may have for its own."""
        tx = transforms.qad(
            CONFIG.learning_rate,
            gamma=gamma,
            hsic_weight=CONFIG.hsic.weight,
            weight_decay=CONFIG.weight_decay,
            axis_name=placement.AXIS,
        )
        step = parallel.pmap_train(make_train_step(self._objective(hsic), tx, CONFIG.seed))
        params, stats = (
            jax.tree.map(jnp.copy, self.variables[part]) for part in ("params", "batch_stats")
        )
        state = TrainState(jnp.zeros((), jnp.int32), params, stats, tx.init(params))
        return step, placement.replicate(state)

    def train(self, hsic: bool, gamma: float) -> Callable[..., Any]:
        """A step on the batch of this object, or on another that is on the devices already."""
        step, state = self.step_and_state(hsic, gamma)

        def run(batch: Any = None) -> Any:
            nonlocal state
            state, metrics = step(state, batch or self.placed)
            return metrics

        return run

    def _forward(self) -> Callable[[], Any]:
        step = parallel.pmap_predict(make_predict_step(self.model.clone(axis_name=None)))
        variables = placement.replicate(self.variables)
        return lambda: step(variables, self.placed.images)

    def seconds(self, what: str, steps: int = 1) -> float:
        """Time of one run of 'forward', 'plain', 'step' or 'awp'; the first compiles.

        Args:
          what: Which of them.
          steps: How many are run one after another; the time is their mean.
        """
        if what not in self._runs:
            self._runs[what] = {
                "forward": self._forward,
                "plain": lambda: self.train(False, 0.0),
                "step": lambda: self.train(True, 0.0),
                "awp": lambda: self.train(True, CONFIG.awp.gamma),
            }[what]()
        begin = time.perf_counter()
        jax.block_until_ready([self._runs[what]() for _ in range(steps)])
        return (time.perf_counter() - begin) / steps


def _key() -> jax.Array:
    return jax.random.key(CONFIG.seed)


def cell(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def compare(
    options: argparse.Namespace, name: str, dtype: str, twin: Twin | None, results: Measured
) -> None:
    """Prints the rows of one model and type, and adds them to the results.

    Raises:
      RuntimeError: If the twin does not find our losses.
    """
    ours = Ours(name, dtype, options.tuples)
    whats = [what for what in ("forward", "plain", "step", "awp") if what in options.whats]
    note = ""
    if twin is not None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "state.npz"
            ours.hand_over(file)
            answer = twin.ask(
                do="open", file=str(file), model=name, dtype=dtype, compile=options.compile
            )
        expected, found = ours.losses(), answer["losses"]
        # On a GPU both sides multiply float32 with the ten bits of TF32.
        near = TOLERANCE[dtype] if jax.default_backend() == "cpu" else max(TOLERANCE[dtype], 1e-2)
        if not np.allclose(found, expected, rtol=near, atol=near):
            raise RuntimeError(f"{name} {dtype}: losses {found} in torch, {expected} here")
        results.versions["torch"] = answer["version"]
        note = f"; losses {expected} here, {found} in torch {answer['version']}"
    title = f"{name}, {dtype}, {options.tuples} x {QUALITIES} images"
    print(f"\n{title}{note}\n")
    mine: dict[str, list[float]] = {what: [] for what in whats}
    theirs: dict[str, list[float]] = {what: [] for what in whats}
    for number in range(options.rounds + 1):
        for what in whats:
            a = ours.seconds(what, options.steps)
            b = twin.seconds(what, options.steps) if twin is not None else float("nan")
            if number:  # the first round compiles, on either side
                mine[what].append(a)
                theirs[what].append(b)
    print("| what | here, s | torch, s | torch / here |\n|---|---|---|---|")
    for what in whats:
        rates = [b / a for a, b in zip(mine[what], theirs[what], strict=True)]
        known = twin is not None
        results.add(title, what, "here, s", mine[what], unit="s")
        if known:
            results.add(title, what, "torch, s", theirs[what], unit="s")
            results.add(title, what, "torch / here", rates, unit="times", better="higher")
        print(
            f"| {what} | {cell(mine[what])} | {cell(theirs[what]) if known else 'not measured'} | "
            f"{cell(rates) if known else 'not measured: no torch'} |"
        )
    for top, bottom in (("step", "plain"), ("awp", "step")):
        if top in mine and bottom in mine:
            rates = [a / b for a, b in zip(mine[top], mine[bottom], strict=True)]
            results.add(f"{title}, ratios", f"{top} / {bottom}", "here", rates, unit="times")
            print(f"\n{top} / {bottom}, here: {cell(rates, 3)}")
    sys.stdout.flush()


def waiting(name: str, dtype: str, tuples: int, rounds: int, results: Measured) -> None:
    """Tells which share of training is spent waiting for the next batch, read beside the steps."""
    ours = Ours(name, dtype, tuples)
    run = ours.train(True, 0.0)
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        source = input_rate.source_of(Path(folder), SIZES[name])
        batches = parallel.prefetch(TrainBatches(source, tuples, seed=0))
        jax.block_until_ready(run(next(batches)))
        for _ in range(rounds):
            begin, waited = time.perf_counter(), 0.0
            for _ in range(5):
                asked = time.perf_counter()
                batch = next(batches)
                waited += time.perf_counter() - asked
                metrics = run(batch)
            jax.block_until_ready(metrics)
            shares.append(100 * waited / (time.perf_counter() - begin))
    row = f"{name}, {dtype}, {tuples} tuples"
    results.add("waiting for data", row, "%", shares, unit="%")
    print(f"\n{name}, {tuples} tuples: % of the time spent waiting for data: {cell(shares)}")


def _job(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="python benchmarks/speed.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rows = ("forward", "plain", "step", "awp", "input", "startup")
    parser.add_argument("--rows", nargs="+", choices=rows, default=rows)
    parser.add_argument("--models", nargs="+", choices=tuple(SIZES), default=tuple(SIZES))
    parser.add_argument("--dtypes", nargs="+", choices=tuple(TOLERANCE), default=tuple(TOLERANCE))
    parser.add_argument("--tuples", type=positive, default=4, help="in a batch (4)")
    parser.add_argument(
        "--rounds", type=positive, default=3, help="besides a first, not counted (3)"
    )
    parser.add_argument("--steps", type=positive, default=1, help="in a round, timed as one (1)")
    parser.add_argument("--torch_python", default=sys.executable, help="an interpreter with torch")
    parser.add_argument("--compile", action="store_true", help="torch.compile the twin")
    parser.add_argument("--shifted", action="store_true", help="no depthwise convolution by cuDNN")
    measured.add_option(parser)
    options = parser.parse_args(argv)
    results = Measured("speed")
    if shutil.which(options.torch_python) is None:
        parser.error(f"--torch_python: there is no interpreter {options.torch_python}")
    options.whats = [row for row in options.rows if row not in ("input", "startup")]
    if options.shifted:
        depthwise._cuda = lambda x, way: {}
    cpu.tune()  # as the command does
    device = jax.devices()[0].device_kind
    print(f"{device}, {os.cpu_count()} cores, {platform.machine()}; jax {jax.__version__}")
    with results.written(options.json):
        measure(options, results)
    return DONE


def measure(options: argparse.Namespace, results: Measured) -> None:
    """Measures the rows that were asked for."""
    if options.whats:
        twin = Twin(options.torch_python) if has_torch(options.torch_python) else None
        for name in options.models:
            for dtype in options.dtypes:
                compare(options, name, dtype, twin, results)
        if twin is not None:
            twin.close()
    if "input" in options.rows:
        input_rate.measure(options.rounds, results)
        for name in options.models:
            waiting(name, options.dtypes[0], options.tuples, options.rounds, results)
    if "startup" in options.rows:
        for name in options.models:
            start_up.step(name, options.tuples, results)
        start_up.quickstart(results)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
