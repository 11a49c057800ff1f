"""What are HSIC and AWP worth, on data that anybody can make?

Trains a small network on rendered faces (`synthetic_faces/sweep`), many times over: cross-entropy
on raw images only; on all three qualities; with HSIC, each estimator at the best of three
weights; with AWP; with both. Tests on people that training never saw, at the three qualities and
at two that nobody trained on (CRF 30 and 45). Every choice (an estimator's weight, the estimator
of "both") is made by the mean AUC on validation; the test split decides nothing, and every run is
tested as it ends, at its last step.

    python benchmarks/ablation.py --out runs/ablation

Under an hour on two CPU cores. Killed, it goes on where it was. Leaves in the folder `runs.json`
(every run), `table.md` and `ablation.png`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import numpy as np
import pictures
from absl import logging

from data_builders import build
from data_builders.command_line import DONE, Parser, run
from data_builders.files import write_whole
from data_builders.records import DEFAULT_QUALITIES
from qad_jax import configs, cpu
from qad_jax.evaluation import inference, protocol
from qad_jax.runs import checkpoints, configuration
from qad_jax.training import loop
from qad_jax.training.input_pipeline import TupleSource

TESTED = ("raw", "c23", "c30", "c40", "c45")
SEEDS = (0, 1, 2)
# Three weights each, of the size that the estimator's own size asks for: the cosines are at most
# 1, nhsic at most m - 1, and the raw estimates are below 1e-3 on maps.
WEIGHTS = {
    "debiased_cka": (0.02, 0.1, 0.4),
    "cka": (0.02, 0.1, 0.4),
    "nhsic": (0.001, 0.005, 0.025),
    "biased": (10.0, 100.0, 1000.0),
    "unbiased": (10.0, 100.0, 1000.0),
}
GAMMA = 0.002
EPOCHS, WARMUP = 4, 1


class Variant(NamedTuple):
    """What is trained: attributes as the configuration's fields; weight or gamma 0 is 'off'."""

    qualities: tuple[str, ...] = DEFAULT_QUALITIES
    estimator: str = "debiased_cka"
    weight: float = 0.0
    gamma: float = 0.0

    @property
    def name(self) -> str:
        """A folder name and the key of a run."""
        parts = ["-".join(self.qualities)]
        parts += [f"{self.estimator}_{self.weight:g}"] if self.weight else []
        parts += [f"awp_{self.gamma:g}"] if self.gamma else []
        return "+".join(parts)

    def config(self, seed: int, data_dir: str) -> ml_collections.ConfigDict:
        """The run's configuration: the quickstart's, smaller and shorter."""
        config = configs.load("quickstart")
        config.dataset.name = "synthetic_faces/sweep"
        config.dataset.data_dir = data_dir
        config.dataset.in_memory = True
        config.qualities = self.qualities
        config.image_size = 48
        config.num_epochs = EPOCHS
        config.hsic.estimator = self.estimator
        config.hsic.weight = self.weight
        config.awp.gamma = self.gamma
        config.awp.warmup_epochs = WARMUP
        config.seed = seed
        config.log_every_steps = 50
        return configuration.check(config)


class Ablation:
    """All runs so far, in a file that is whole after each."""

    def __init__(self, out: Path, data_dir: str) -> None:
        self.out, self._data_dir = out, data_dir
        self._path = out / "runs.json"
        self.runs: list[dict[str, Any]] = (
            json.loads(self._path.read_text()) if self._path.exists() else []
        )
        self._dataset = build.builder("synthetic_faces/sweep", data_dir=data_dir)
        build.prepare(self._dataset)
        self._test = TupleSource(self._dataset, "test", TESTED, 48, in_memory=True)

    def run(self, variant: Variant, seed: int) -> dict[str, Any]:
        """Trains and tests, unless that has been done."""
        for done in self.runs:
            if (done["variant"], done["seed"]) == (variant.name, seed):
                return done
        folder = self.out / "runs" / f"{variant.name}-{seed}"
        resumed = checkpoints.latest_step(folder) is not None  # nobody knows the time until then
        began = time.monotonic()
        config = variant.config(seed, self._data_dir)
        loop.train(config, folder, [self._dataset], inference.validator(config, [self._dataset]))
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        last = [line for line in lines if line["split"] == "validation"][-1]
        entry = {
            "variant": variant.name,
            "seed": seed,
            "validation": last["auc"],
            "test": self._test_auc(config, folder, last["step"]),
            "seconds": None if resumed else round(time.monotonic() - began, 1),
        }
        self.runs.append(entry)
        write_whole(self._path, json.dumps(self.runs, indent=1) + "\n")
        print(json.dumps(entry), flush=True)
        return entry

    def _test_auc(
        self, config: ml_collections.ConfigDict, folder: Path, step: int
    ) -> dict[str, float]:
        variables, _ = checkpoints.restore_for_evaluation(folder, step)
        scores = inference.predict(
            inference.predict_step_of(config),
            variables,
            self._test,
            qualities=TESTED,
            batch_size=32,
            label="test",
        )
        summary = protocol.summarise(scores, intervals=False)
        return {q: summary.qualities[q].frame.auc.value for q in TESTED}

    def validation(self, variant: Variant, seeds: Sequence[int] = SEEDS) -> float:
        """Mean AUC on validation."""
        return float(np.mean([self.run(variant, seed)["validation"] for seed in seeds]))

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Makes all runs; for each row of the table its runs, one a seed."""
        plain = Variant()
        rows = {
            "cross-entropy, raw only": Variant(qualities=("raw",)),
            "cross-entropy, all qualities": plain,
            f"+ AWP {GAMMA:g}": plain._replace(gamma=GAMMA),
        }
        for seed in SEEDS:
            for variant in rows.values():
                self.run(variant, seed)
        best = {}
        for estimator, weights in WEIGHTS.items():
            candidates = [plain._replace(estimator=estimator, weight=w) for w in weights]
            best[estimator] = max(candidates, key=lambda v: self.validation(v, SEEDS[:1]))
        for variant in best.values():
            rows[f"+ HSIC {variant.estimator} {variant.weight:g}"] = variant
        chosen = max(best.values(), key=self.validation)
        both = chosen._replace(gamma=GAMMA)
        rows[f"+ HSIC {chosen.estimator} {chosen.weight:g} + AWP {GAMMA:g}"] = both
        return {name: [self.run(v, seed) for seed in SEEDS] for name, v in rows.items()}


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Frame AUC in percent, mean and standard deviation over seeds, as markdown."""

    def cell(values: Sequence[float]) -> str:
        return f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}"

    unseen = [q for q in TESTED if q not in DEFAULT_QUALITIES]
    heads = [f"*{q}*" if q in unseen else q for q in TESTED]
    lines = [
        "| | " + " | ".join([*heads, "mean", "validation"]) + " |",
        "|---" * (len(TESTED) + 3) + "|",
    ]
    for name, runs in rows.items():
        columns = [[run["test"][q] for run in runs] for q in TESTED]
        columns += [list(np.mean(columns, axis=0)), [run["validation"] for run in runs]]
        lines.append(f"| {name} | " + " | ".join(map(cell, columns)) + " |")
    return "\n".join(lines) + "\n"


def draw(rows: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Every run as a point, the mean of a row as a bar, a panel for each quality."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 0.42 * len(rows) + 1.2), layout="constrained")
    panels = figure.subplots(1, len(TESTED), sharey=True)
    for panel, quality in zip(panels, TESTED, strict=True):
        for row, runs in enumerate(rows.values()):
            values = [100 * run["test"][quality] for run in runs]
            panel.plot(values, [row] * len(values), "o", color="tab:blue", alpha=0.6)
            panel.plot(np.mean(values), row, "|", color="black", markersize=16)
        seen = "" if quality in DEFAULT_QUALITIES else " (unseen)"
        panel.set_title(f"{quality}{seen}")
        panel.set_xlabel("frame AUC, %")
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(rows)), list(rows))
    panels[0].invert_yaxis()
    pictures.write(figure, path, dpi=100)


def _job(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="python benchmarks/ablation.py",
        description="Ablation of HSIC and AWP on rendered faces.",
    )
    parser.add_argument("--out", default="runs/ablation", help="where runs and results are kept")
    parser.add_argument("--data_dir", default="runs/data", help="where the dataset is built")
    options = parser.parse_args(argv)
    cpu.tune()  # as the command does
    logging.set_verbosity(logging.ERROR)
    out = Path(options.out).absolute()
    rows = Ablation(out, options.data_dir).rows()
    write_whole(out / "table.md", table(rows))
    draw(rows, out / "ablation.png")
    print((out / "table.md").read_text())
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
