"""How far the answers of a detector can be believed: on clips of people that nothing was chosen on.

python benchmarks/verdict_calibration.py qad_jax/weights/detector.safetensors runs/d/evaluation/test

For each quality: the expected calibration error (15 bins) of the calibrated probability, the share
of real clips that are called fake with its interval and the share that was promised, and how often
the answer is inconclusive.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import thresholds

from data_builders.command_line import DONE, Parser, run
from qad_jax.evaluation import calibration, compare, scores
from qad_jax.evaluation.protocol import percent, span
from qad_jax.evaluation.rates import measure
from qad_jax.weights import model_file


def _job(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="python benchmarks/verdict_calibration.py", description=__doc__.splitlines()[0]
    )
    parser.add_argument("model", type=Path, help="a model file")
    parser.add_argument("results", type=Path, help="scores.csv, or its folder, of the test split")
    args = parser.parse_args(argv)
    clips = scores.read(compare.find(args.results, "test")).videos()
    chosen = thresholds.of(model_file.describe(args.model), clips.qualities)
    rates = measure(clips, chosen)
    print("| quality | calibration error | real called fake, % | promised | unsure: real | fake |")
    print("|---|---|---|---|---|---|")
    for i, quality in enumerate(clips.qualities):
        bounds, of = chosen[quality], rates[quality]
        scaling = bounds.temperature, bounds.shift
        probability = calibration.scaled(clips.score[:, i], *scaling)
        error = calibration.expected_calibration_error(clips.label, probability)
        wrong = of.false_positive_rate
        print(
            f"| {quality} | {error:.3f} | {percent(wrong.value)} ({span(wrong.low, wrong.high)}) "
            f"| {percent(bounds.real_error)} | "
            f"{percent(of.inconclusive_real.value)} | {percent(of.inconclusive_fake.value)} |"
        )
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
