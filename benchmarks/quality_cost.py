"""What a wrongly estimated quality costs: calibration error and false-positive rate.

A detector's temperature and threshold are chosen for each quality. The file of a stranger gets
those of the quality that is nearest to its estimated CRF. This compares them with those of its true
quality, on the scores of an evaluated run (`scores.csv` and `calibration.json` in its folder) and
on the estimates that `benchmarks/quality.py` leaves, which are of other people's clips:

    python benchmarks/quality_cost.py RUN --estimates runs/quality/estimates.json

Each video draws an estimate among those of the clips at its CRF, or at the nearest one there is;
what is printed are means over many draws. 'none' is no estimate: every file is taken for c23. A
quality that was evaluated but not calibrated, such as c30, has the nearest as its true one. Prints
a table of Markdown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from data_builders.command_line import DONE, Parser, run
from data_builders.errors import MISREAD, UserError
from data_builders.files import read_json
from data_builders.qualities import crf_of
from qad_jax.detection.quality import RAW, USUAL, Quality, nearest
from qad_jax.evaluation import calibration
from qad_jax.evaluation.calibration import Calibration
from qad_jax.evaluation.scores import Scores
from qad_jax.evaluation.scores import read as read_scores

DRAWS = 200
SOURCES = ("pixels", "both")
#: From a quality, a number of videos and random numbers to the estimated CRF of each video.
Estimator = Callable[[str, int, np.random.Generator], np.ndarray]


def costs(
    scores: Scores, chosen: Calibration, estimator: Estimator, draws: int = DRAWS
) -> dict[str, dict[str, float]]:
    """Computes what the estimate costs.

    Args:
      scores: The scores of a test split.
      chosen: Temperatures and thresholds of each quality.
      estimator: Draws estimates.
      draws: How often.

    Returns:
      For each quality of the scores whose name is a CRF: the share of videos that get another
      quality, and at video level the expected calibration error and the false-positive rate, with
      the true quality ('_true') and with the estimated one.
    """
    videos = scores.videos()
    labels = videos.label
    reals = labels == 0
    member = _member(scores, videos)
    measured = list(chosen.qualities)
    table = {}
    for column, name in enumerate(scores.qualities):
        if (crf := crf_of(name)) is None:
            continue
        # Video probabilities and decisions under each measured quality's numbers.
        scaled = {
            each: _means(calibration.scaled(scores.score[:, column], numbers.temperature), member)
            for each, numbers in chosen.qualities.items()
        }
        fakes = {
            each: videos.score[:, column] >= (numbers.video_threshold or 0.5)
            for each, numbers in chosen.qualities.items()
        }
        true = nearest(Quality(max(RAW, crf), RAW, RAW, ""), measured)
        rng = np.random.default_rng(0)
        sums = np.zeros(3)
        for _ in range(draws):
            made = [
                nearest(Quality(estimate, RAW, RAW, ""), measured)
                for estimate in estimator(name, len(labels), rng)
            ]
            error, rate = _measured(labels, reals, scaled, fakes, made)
            sums += np.mean([each != true for each in made]), error, rate
        error, rate = _measured(labels, reals, scaled, fakes, [true] * len(labels))
        values = [*(sums / draws), error, rate]
        keys = ("other", "error", "fpr", "error_true", "fpr_true")
        table[name] = dict(zip(keys, map(float, values), strict=True))
    return table


def _member(scores: Scores, videos: Scores) -> np.ndarray:
    place = {key: i for i, key in enumerate(zip(videos.method, videos.video, strict=True))}
    return np.array([place[key] for key in zip(scores.method, scores.video, strict=True)])


def _means(values: np.ndarray, member: np.ndarray) -> np.ndarray:
    return np.bincount(member, values) / np.bincount(member)


def _measured(
    labels: np.ndarray,
    reals: np.ndarray,
    scaled: dict[str, np.ndarray],
    fakes: dict[str, np.ndarray],
    chosen: list[str],
) -> tuple[float, float]:
    """Calibration error and false-positive rate where each video has a chosen quality."""
    probabilities = np.array([scaled[name][i] for i, name in enumerate(chosen)])
    called = np.array([fakes[name][i] for i, name in enumerate(chosen)])
    error = calibration.expected_calibration_error(labels, probabilities)
    return error, float(called[reals].mean())


def from_estimates(path: Path, source: str) -> Estimator:
    """Draws from the estimates of clips whose CRF is known.

    Raises:
      UserError: The file has none.
    """
    try:
        known = {crf_of(name) or 0: values for name, values in read_json(path)[source].items()}
    except MISREAD as error:
        raise UserError(f"{path}: has no estimates by {source}; quality.py writes them") from error

    def draw(quality: str, count: int, rng: np.random.Generator) -> np.ndarray:
        crf = crf_of(quality) or 0
        return rng.choice(known[min(known, key=lambda other: abs(other - crf))], count)

    return draw


def _job(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="python benchmarks/quality_cost.py",
        description="What a wrongly estimated quality costs.",
    )
    parser.add_argument("run", type=Path, help="the folder of an evaluated run")
    parser.add_argument("--split", default="test", help="folder below evaluation/ with scores.csv")
    parser.add_argument("--estimates", type=Path, default=Path("runs/quality/estimates.json"))
    options = parser.parse_args(argv)
    scores = read_scores(options.run / "evaluation" / options.split / "scores.csv")
    path = options.run / "calibration.json"
    chosen = calibration.read(path, step=read_json(path)["step"])
    if chosen is None:
        raise UserError(f"{path}: holds no calibration; evaluate the run again")
    estimators = {source: from_estimates(options.estimates, source) for source in SOURCES}
    estimators["none"] = lambda _, count, __: np.full(count, USUAL)
    print("| quality | estimated by | other quality | calibration error | false positives |")
    print("|---|---|---|---|---|")
    for source, estimator in estimators.items():
        for name, each in costs(scores, chosen, estimator).items():
            print(
                f"| {name} | {source} | {each['other']:.1%} | "
                f"{each['error']:.3f} (true: {each['error_true']:.3f}) | "
                f"{each['fpr']:.1%} (true: {each['fpr_true']:.1%}) |"
            )
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
