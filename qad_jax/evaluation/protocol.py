"""The protocol: what is computed from the scores of a split, and the words that tell it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_builders.errors import printable
from data_builders.files import read_json, write_json, write_whole
from qad_jax.evaluation import calibration, metrics
from qad_jax.evaluation.bootstrap import bootstrap, interval, why_no_interval
from qad_jax.evaluation.calibration import Calibration
from qad_jax.evaluation.metrics import Array
from qad_jax.evaluation.results import (
    CalibrationResult,
    Difference,
    Drop,
    Estimate,
    Numbers,
    QualityResult,
    Report,
    Summary,
)
from qad_jax.evaluation.scores import Scores, to_csv

# Where `Numbers.undefined` says why there are no intervals.
_INTERVALS = "intervals"


def summarise(
    scores: Scores, *, intervals: bool = True, chosen: Calibration | None = None
) -> Summary:
    """Computes the numbers of each quality, their mean over qualities, and of each method.

    Args:
      scores: Of one split.
      intervals: Whether to compute 95 % intervals, by bootstrap over identities.
      chosen: Thresholds and temperatures from a validation split.

    Returns:
      The numbers; a number that is not defined is None, and `undefined` says why.
    """
    videos = scores.videos()
    frame = _Level(scores, intervals, _thresholds(scores, chosen, "threshold"))
    video = _Level(videos, intervals, _thresholds(scores, chosen, "video_threshold"))
    qualities = _qualities(scores, videos, frame, video)
    for i, quality in enumerate(scores.qualities):
        known = chosen.qualities.get(quality) if chosen else None
        calibrated = _calibration(
            scores.label, scores.score[:, i], known.temperature if known else None
        )
        qualities[quality] = dataclasses.replace(qualities[quality], calibration=calibrated)
    return Summary(
        qualities=qualities,
        mean=frame.mean(),
        methods=_methods(scores, videos, intervals, chosen),
        drop=_drop(scores.qualities, frame, video),
        identities=len(set(scores.identity)),
        bootstrap=len(frame.draws["auc"]),
    )


def _thresholds(scores: Scores, chosen: Calibration | None, field: str) -> list[float | None]:
    known = chosen.qualities if chosen else {}
    return [getattr(known.get(quality), field, None) for quality in scores.qualities]


class _Level:
    """The numbers of each quality at one level, and the draws of all of them."""

    def __init__(
        self, scores: Scores, with_intervals: bool, thresholds: Sequence[float | None]
    ) -> None:
        self._without_interval = why_no_interval(scores.label, scores.identity)
        columns = scores.score.T
        self.draws: dict[str, Array] = {name: np.empty((0, len(columns))) for name in metrics.NAMES}
        if with_intervals and not self._without_interval:
            self.draws = bootstrap(
                scores.label, scores.score, scores.identity, thresholds=thresholds
            )
        self.each = [
            self._numbers(
                metrics.numbers(scores.label, column, threshold),
                {name: drawn[:, i] for name, drawn in self.draws.items()},
                threshold=metrics.THRESHOLD if threshold is None else threshold,
                undefined=metrics.why_undefined(scores.label, column),
            )
            for i, (column, threshold) in enumerate(zip(columns, thresholds, strict=True))
        ]

    def _numbers(
        self,
        values: Mapping[str, float | None],
        draws: Mapping[str, Array],
        *,
        threshold: float | None,
        undefined: Mapping[str, str],
    ) -> Numbers:
        if self._without_interval and metrics.ALL not in undefined:
            undefined = {**undefined, _INTERVALS: self._without_interval}
        estimates = {
            name: Estimate(None) if value is None else Estimate(value, *interval(draws[name]))
            for name, value in values.items()
        }
        return Numbers(**estimates, threshold=threshold, undefined=undefined)

    def mean(self) -> Numbers:
        values = {
            name: _mean([getattr(numbers, name).value for numbers in self.each])
            for name in metrics.NAMES
        }
        without_auc = [n.undefined for n in self.each if n.auc.value is None]
        undefined: Mapping[str, str] = {}
        if len(without_auc) == len(self.each):
            undefined = without_auc[0]
        elif without_auc:
            undefined = {"mean": "of the qualities for which it is defined"}
        defined = [i for i, numbers in enumerate(self.each) if numbers.auc.value is not None]
        columns = defined or list(range(len(self.each)))
        draws = {name: drawn[:, columns].mean(axis=1) for name, drawn in self.draws.items()}
        # Each quality has a threshold of its own.
        return self._numbers(values, draws, threshold=None, undefined=undefined)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _qualities(
    scores: Scores, videos: Scores, frame: _Level, video: _Level
) -> dict[str, QualityResult]:
    return {
        quality: QualityResult(
            frames=len(scores.label),
            videos=len(videos.label),
            frame=frame.each[i],
            video=video.each[i],
        )
        for i, quality in enumerate(scores.qualities)
    }


def _methods(
    scores: Scores, videos: Scores, with_intervals: bool, chosen: Calibration | None
) -> dict[str, dict[str, QualityResult]]:
    """Each fake method against all reals, where there are reals and several methods."""
    fake = {m for m, label in zip(scores.method, scores.label, strict=True) if label == 1}
    if len(fake) < 2 or (scores.label == 1).all():
        return {}
    results = {}
    for method in sorted(fake):
        part, part_videos = (
            level.take(np.flatnonzero((np.array(level.method) == method) | (level.label == 0)))
            for level in (scores, videos)
        )
        frame, video = (
            _Level(level, with_intervals, _thresholds(scores, chosen, field))
            for level, field in ((part, "threshold"), (part_videos, "video_threshold"))
        )
        results[method] = _qualities(part, part_videos, frame, video)
    return results


def _drop(qualities: Sequence[str], frame: _Level, video: _Level) -> Drop | None:
    """How much AUC the weakest quality loses against the first; None where that is not defined."""
    aucs = {i: n.auc.value for i, n in enumerate(frame.each) if n.auc.value is not None}
    if len(aucs) < 2:
        return None
    first = min(aucs)
    weakest = min(aucs, key=lambda i: aucs[i])

    def difference(level: _Level) -> Difference:
        draws = level.draws["auc"]
        low, high = interval(draws[:, first] - draws[:, weakest])
        before, after = level.each[first].auc.value, level.each[weakest].auc.value
        lost = None if before is None or after is None else before - after
        return Difference(lost, low, high)

    return Drop(qualities[first], qualities[weakest], difference(frame), difference(video))


def _calibration(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, temperature: float | None
) -> CalibrationResult:
    """ECE as it is and after the temperature; None where scores are not probabilities."""
    p = np.asarray(probabilities, np.float64)
    before = after = None
    if len(p) and np.isfinite(p).all() and p.min() >= 0 and p.max() <= 1:
        before = calibration.expected_calibration_error(labels, p)
        if temperature is not None:
            scaled = calibration.scaled(p, temperature)
            after = calibration.expected_calibration_error(labels, scaled)
    return CalibrationResult(temperature, before, after)


def percent(value: float | None, digits: int = 1) -> str:
    """A rate in percent, without the sign."""
    return "n/a" if value is None else f"{100 * value:.{digits}f}"


def span(low: float | None, high: float | None) -> str:
    """An interval of rates, in percent."""
    return "n/a" if low is None or high is None else f"{percent(low)} to {percent(high)}"


def _in_brackets(of: Estimate | Difference, numbers: Numbers) -> str:
    """The interval of a number, or why there is none."""
    if of.low is None:
        return f"(no interval: {numbers.undefined.get(_INTERVALS, 'none was computed')})"
    return f"(95 % interval {span(of.low, of.high)})"


def headline(report: Report) -> str:
    """A sentence that names the weakest quality and what it loses, for a terminal and a page."""
    return printable(_headline(report))


def _headline(report: Report) -> str:
    summary = report.summary
    drop = summary.drop
    if drop is None:
        known = {
            quality: result.frame
            for quality, result in summary.qualities.items()
            if result.frame.auc.value is not None
        }
        if known:
            quality, numbers = next(iter(known.items()))
            auc = numbers.auc
            others = (
                "each quality is of other files, so that none is compared with another"
                if len(known) > 1
                else "there is no other quality to compare it with"
            )
            at = "" if quality == "all" else f" at {quality}"  # what `scores.read` calls it
            return (
                f"Frame AUC{at} is {percent(auc.value)} % {_in_brackets(auc, numbers)}; {others}."
            )
        return f"AUC is not defined: {'; '.join(sorted(summary.undefined()))}."
    weakest = percent(summary.qualities[drop.weakest].frame.auc.value)
    if drop.first == drop.weakest:
        return f"No quality is weaker than {drop.first}, which has a frame AUC of {weakest} %."
    lost = drop.frame
    text = (
        f"The weakest quality is {drop.weakest}: frame AUC {weakest} %, "
        f"{percent(lost.difference)} points below {drop.first}"
    )
    ends = _in_brackets(lost, summary.qualities[drop.weakest].frame)
    chance = "" if lost.low is None or lost.low > 0 else "; the difference may be chance"
    return f"{text} {ends}{chance}."


#: Titles of the numbers in tables.
TITLES = {
    "auc": "AUC",
    "average_precision": "AP",
    "eer": "EER",
    "tpr_at_fpr_1": "TPR@1%",
    "tpr_at_fpr_01": "TPR@0.1%",
    "accuracy_at_threshold": "acc",
    "fpr_at_threshold": "FPR",
}


def table(report: Report) -> str:
    """Renders a report for a terminal; rates in percent."""
    summary = report.summary
    heads = {name: max(7, len(title) + 1) for name, title in TITLES.items() if name != "auc"}
    wide = max(8, *(len(name) + 1 for name in (*summary.qualities, *summary.methods)))

    def row(name: str, level: str, numbers: Numbers, count: str) -> str:
        estimates = numbers.estimates()
        ends = span(numbers.auc.low, numbers.auc.high).replace(" to ", "-")
        cells = [f"{percent(estimates[key].value):>{width}}" for key, width in heads.items()]
        return (
            f"{name:<{wide}} {level:<6}{count:>7}{percent(numbers.auc.value):>7} {ends:>11}"
            + "".join(cells)
        )

    step = "" if report.step is None else f", step {report.step}"
    lines = [
        f"{report.dataset} {report.split}{step}",
        f"{'quality':<{wide}} {'level':<6}{'n':>7}{'AUC':>7} {'95 %':>11}"
        + "".join(f"{TITLES[name]:>{width}}" for name, width in heads.items()),
    ]
    for quality, result in summary.qualities.items():
        lines.append(row(quality, "frame", result.frame, str(result.frames)))
        lines.append(row("", "video", result.video, str(result.videos)))
    lines.append(row("mean", "frame", summary.mean, ""))
    for method, results in summary.methods.items():
        lines.append(f"{method} against the reals")
        for quality, result in results.items():
            lines.append(row(quality, "frame", result.frame, str(result.frames)))
    if summary.bootstrap:
        lines.append(f"95 %: intervals over {summary.identities} identities")
    reasons = [
        f"not defined at {quality}: {reason}"
        for reason, qualities in summary.undefined().items()
        for quality in qualities
    ]
    return "\n".join(map(printable, [*lines, *sorted(reasons)]))


def files(folder: Path) -> list[Path]:
    """The files that `write` writes into a folder."""
    return [folder / name for name in ("scores.csv", "metrics.json")]


def write(folder: Path, scores: Scores, report: Report) -> None:
    """Writes `scores.csv` and `metrics.json`, each in full or not at all.

    Numbers of an earlier evaluation are removed first: a stop in between would leave them beside
    scores that they are not of.
    """
    of_scores, of_numbers = files(folder)
    of_numbers.unlink(missing_ok=True)
    write_whole(of_scores, to_csv(scores))
    write_json(of_numbers, report.as_dict())


def read(folder: Path) -> Report:
    """Reads the `metrics.json` that `write` has left in a folder."""
    return Report.from_dict(read_json(folder / "metrics.json"))
