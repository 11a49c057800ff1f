"""The protocol: what is computed from the scores of a split, and how it is said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_builders.files import write_whole
from qad_jax.evaluation import calibration, metrics
from qad_jax.evaluation.bootstrap import bootstrap, interval
from qad_jax.evaluation.calibration import Calibration
from qad_jax.evaluation.metrics import Array
from qad_jax.evaluation.scores import Scores, to_csv

Numbers = dict[str, Any]

#: Fields of the numbers of one quality and level, in their order.
FIELDS = (
    *(field for name in metrics.NAMES for field in (name, f"{name}_low", f"{name}_high")),
    "threshold",
    "undefined",
)


def summarise(
    scores: Scores, *, intervals: bool = True, chosen: Calibration | None = None
) -> dict[str, Any]:
    """Computes the numbers of each quality, their mean over qualities, and of each method.

    Args:
      scores: Of one split.
      intervals: Whether to compute 95 % intervals, by bootstrap over identities.
      chosen: Thresholds and temperatures from a validation split.

    Returns:
      A dictionary of this form.
      `{"qualities": {name: {"frames": n, "videos": n, "frame": {...}, "video": {...},
      "calibration": {...}}}, "mean": {...}, "methods": {method: {name: ...}}, "drop": {...},
      "identities": n, "bootstrap": n}`, each `{...}` with `FIELDS`; what is not defined is None,
      and "undefined" says why. "mean" is of the frame level, with the interval of the mean.
      "methods" holds each fake method against all reals, where there are several. "drop" is of
      the frame and video AUC from the first quality to the weakest.
    """
    videos = scores.videos()
    frame = _Level(scores, intervals, _thresholds(scores, chosen, "threshold"))
    video = _Level(videos, intervals, _thresholds(scores, chosen, "video_threshold"))
    report: dict[str, Any] = {
        "qualities": _qualities(scores, videos, frame, video),
        "mean": frame.mean(),
        "methods": _methods(scores, videos, intervals, chosen),
        "drop": _drop(scores.qualities, frame, video),
        "identities": len(set(scores.identity)),
        "bootstrap": len(frame.draws["auc"]),
    }
    for i, quality in enumerate(scores.qualities):
        known = chosen.qualities.get(quality) if chosen else None
        report["qualities"][quality]["calibration"] = _calibration(
            scores.label, scores.score[:, i], known.temperature if known else None
        )
    return report


def _thresholds(scores: Scores, chosen: Calibration | None, field: str) -> list[float | None]:
    known = chosen.qualities if chosen else {}
    return [getattr(known.get(quality), field, None) for quality in scores.qualities]


class _Level:
    """The numbers of each quality at one level, and the draws of all of them."""

    def __init__(
        self, scores: Scores, with_intervals: bool, thresholds: Sequence[float | None]
    ) -> None:
        self._people = len(set(scores.identity))
        columns = scores.score.T
        self.draws: dict[str, Array] = {name: np.empty((0, len(columns))) for name in metrics.NAMES}
        if with_intervals and self._people > 1:
            self.draws = bootstrap(
                scores.label, scores.score, scores.identity, thresholds=thresholds
            )
        self.each: list[Numbers] = []
        for i, (column, threshold) in enumerate(zip(columns, thresholds, strict=True)):
            draws = {name: drawn[:, i] for name, drawn in self.draws.items()}
            found: Numbers = dict(metrics.numbers(scores.label, column, threshold))
            found["threshold"] = metrics.THRESHOLD if threshold is None else threshold
            found["undefined"] = metrics.why_undefined(scores.label, column)
            self.each.append(self._with_intervals(found, draws))

    def _with_intervals(self, found: Numbers, draws: Mapping[str, Array]) -> Numbers:
        for name in metrics.NAMES:
            low, high = None, None
            if found[name] is not None:
                low, high = interval(draws[name])
            found[f"{name}_low"], found[f"{name}_high"] = low, high
        if self._people == 1 and metrics.ALL not in found["undefined"]:
            found["undefined"] = {**found["undefined"], "intervals": "one identity only"}
        return {field: found[field] for field in FIELDS}

    def mean(self) -> Numbers:
        found: Numbers = {
            name: _mean([numbers[name] for numbers in self.each]) for name in metrics.NAMES
        }
        found["threshold"] = None  # each quality has its own
        missing = [n["undefined"] for n in self.each if n["auc"] is None]
        found["undefined"] = missing[0] if len(missing) == len(self.each) else {}
        left_out = "of the qualities for which it is defined"
        if 0 < len(missing) < len(self.each):
            found["undefined"] = {"mean": left_out}
        defined = [i for i, numbers in enumerate(self.each) if numbers["auc"] is not None]
        columns = defined or list(range(len(self.each)))
        draws = {name: drawn[:, columns].mean(axis=1) for name, drawn in self.draws.items()}
        return self._with_intervals(found, draws)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _qualities(scores: Scores, videos: Scores, frame: _Level, video: _Level) -> dict[str, Any]:
    return {
        quality: {
            "frames": len(scores.label),
            "videos": len(videos.label),
            "frame": frame.each[i],
            "video": video.each[i],
        }
        for i, quality in enumerate(scores.qualities)
    }


def _methods(
    scores: Scores, videos: Scores, with_intervals: bool, chosen: Calibration | None
) -> dict[str, Any]:
    """Each fake method against all reals, where there are reals and several methods."""
    fake = {m for m, label in zip(scores.method, scores.label, strict=True) if label == 1}
    if len(fake) < 2 or (scores.label == 1).all():
        return {}
    found = {}
    for method in sorted(fake):
        part, part_videos = (
            level.take(np.flatnonzero((np.array(level.method) == method) | (level.label == 0)))
            for level in (scores, videos)
        )
        frame, video = (
            _Level(level, with_intervals, _thresholds(scores, chosen, field))
            for level, field in ((part, "threshold"), (part_videos, "video_threshold"))
        )
        found[method] = _qualities(part, part_videos, frame, video)
    return found


def _drop(qualities: Sequence[str], frame: _Level, video: _Level) -> dict[str, Any] | None:
    """How much AUC the weakest quality loses against the first; None where that is not defined."""
    aucs = [numbers["auc"] for numbers in frame.each]
    known = [i for i, auc in enumerate(aucs) if auc is not None]
    if len(known) < 2:
        return None
    first = known[0]
    weakest = min(known, key=lambda i: aucs[i])
    found: dict[str, Any] = {"from": qualities[first], "to": qualities[weakest]}
    for name, level in (("frame", frame), ("video", video)):
        draws = level.draws["auc"]
        low, high = interval(draws[:, first] - draws[:, weakest])
        difference = level.each[first]["auc"] - level.each[weakest]["auc"]
        found[name] = {"difference": difference, "low": low, "high": high}
    return found


def _calibration(labels: Any, probabilities: Any, temperature: float | None) -> dict[str, Any]:
    """ECE as it is and after the temperature; None where scores are not probabilities."""
    p = np.asarray(probabilities, np.float64)
    before = after = None
    if len(p) and np.isfinite(p).all() and p.min() >= 0 and p.max() <= 1:
        before = calibration.expected_calibration_error(labels, p)
        if temperature is not None:
            scaled = calibration.scaled(p, temperature)
            after = calibration.expected_calibration_error(labels, scaled)
    return {"temperature": temperature, "ece_before": before, "ece_after": after}


def percent(value: float | None, digits: int = 1) -> str:
    """A rate in percent, without the sign."""
    return "n/a" if value is None else f"{100 * value:.{digits}f}"


def span(low: float | None, high: float | None) -> str:
    """An interval of rates, in percent."""
    return "n/a" if low is None or high is None else f"{percent(low)} to {percent(high)}"


def headline(report: Mapping[str, Any]) -> str:
    """Which quality is weakest and by how much, in a sentence."""
    qualities = report["qualities"]
    drop = report["drop"]
    if drop is None:
        defined = [q for q, entry in qualities.items() if entry["frame"]["auc"] is not None]
        if defined:
            numbers = qualities[defined[0]]["frame"]
            return (
                f"Frame AUC at {defined[0]} is {percent(numbers['auc'])} % (95 % interval "
                f"{span(numbers['auc_low'], numbers['auc_high'])}); there is no other quality to "
                "compare it with."
            )
        reasons = sorted({r for e in qualities.values() for r in e["frame"]["undefined"].values()})
        return f"AUC is not defined: {'; '.join(reasons)}."
    first, weakest, found = drop["from"], drop["to"], drop["frame"]
    weak = qualities[weakest]["frame"]
    if first == weakest:
        return f"No quality is weaker than {first}, with a frame AUC of {percent(weak['auc'])} %."
    text = (
        f"The weakest quality is {weakest}: frame AUC {percent(weak['auc'])} %, "
        f"{percent(found['difference'])} points below {first}"
    )
    if found["low"] is None:
        return f"{text} (no interval: {_no_interval(report)})."
    sure = found["low"] > 0
    return (
        f"{text} (95 % interval {span(found['low'], found['high'])})"
        f"{'' if sure else ', which may be chance'}."
    )


def _no_interval(report: Mapping[str, Any]) -> str:
    return "one identity only" if report["identities"] < 2 else "none was computed"


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


def table(report: Mapping[str, Any]) -> str:
    """Renders a report for a terminal; rates in percent."""
    heads = {name: max(7, len(title) + 1) for name, title in TITLES.items() if name != "auc"}
    wide = max(8, *(len(name) + 1 for name in (*report["qualities"], *report["methods"])))

    def row(name: str, level: str, numbers: Numbers, count: str) -> str:
        ends = span(numbers["auc_low"], numbers["auc_high"]).replace(" to ", "-")
        cells = [f"{percent(numbers[key]):>{width}}" for key, width in heads.items()]
        return (
            f"{name:<{wide}} {level:<6}{count:>7}{percent(numbers['auc']):>7} {ends:>11}"
            + "".join(cells)
        )

    step = "" if report["step"] is None else f", step {report['step']}"
    lines = [
        f"{report['dataset']} {report['split']}{step}",
        f"{'quality':<{wide}} {'level':<6}{'n':>7}{'AUC':>7} {'95 %':>11}"
        + "".join(f"{TITLES[name]:>{width}}" for name, width in heads.items()),
    ]
    for quality, entry in report["qualities"].items():
        lines.append(row(quality, "frame", entry["frame"], str(entry["frames"])))
        lines.append(row("", "video", entry["video"], str(entry["videos"])))
    lines.append(row("mean", "frame", report["mean"], ""))
    for method, entries in report["methods"].items():
        lines.append(f"{method} against the reals")
        for quality, entry in entries.items():
            lines.append(row(quality, "frame", entry["frame"], str(entry["frames"])))
    reasons = {
        f"not defined at {quality}: {reason}"
        for quality, entry in report["qualities"].items()
        for reason in entry["frame"]["undefined"].values()
    }
    return "\n".join([*lines, *sorted(reasons)])


def write(folder: Path, scores: Scores, report: Mapping[str, Any]) -> None:
    """Writes `scores.csv` and `metrics.json`, each in full or not at all."""
    write_whole(folder / "scores.csv", to_csv(scores))
    write_whole(folder / "metrics.json", json.dumps(report, indent=2) + "\n")
