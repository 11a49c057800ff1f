"""The figures of a report: small, one axes each, legible on a light and on a dark page."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from data_builders.errors import printable
from qad_jax.evaluation import calibration, metrics
from qad_jax.evaluation.robustness_curves import FALLING, TITLES, Robustness
from qad_jax.evaluation.scores import Scores

# This colour stands for the colour of the page's text in an SVG; in a PNG it is nearly black.
_INK = "#010203"
# Middle tones; the dashes that go with them tell the curves apart without colour, too.
_COLOURS = ("#2f7fd1", "#e07b00", "#1a9e6b", "#c2448c", "#8a63d2", "#9a8500", "#00a0b0")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)))
_SIZE = (4.4, 3.3)
_PIXELS_PER_INCH = 160
# The points that are drawn of a curve: more cannot be seen, and make a page of megabytes.
_POINTS = 400
_BINS = 30


class Figure(NamedTuple):
    """A figure in its two forms, with the name of its file and its title on the page."""

    name: str
    title: str
    svg: str
    png: bytes


@contextlib.contextmanager
def _axes(xlabel: str, ylabel: str) -> Iterator[Any]:
    import matplotlib as mpl  # late: its import takes a second
    from matplotlib.figure import Figure as Canvas

    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "qad_jax",
        "text.parse_math": False,  # names of qualities are text
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "font.size": 9.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "figure.autolayout": False,  # whatever the user's own settings say: see `_finished`
        "figure.constrained_layout.use": False,
    }
    with mpl.rc_context(settings):
        canvas = Canvas(figsize=_SIZE, layout="constrained")
        axes = canvas.add_subplot(xlabel=xlabel, ylabel=ylabel)
        axes.grid(color=_INK, alpha=0.12, linewidth=0.6)
        yield axes


def _finished(axes: Any, name: str, title: str) -> Figure:
    svg, png = io.StringIO(), io.BytesIO()
    # The parts are placed once for both files. With an engine, each file would be drawn twice.
    axes.figure.get_layout_engine().execute(axes.figure)
    axes.figure.set_layout_engine(None)
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    axes.figure.savefig(svg, format="svg", transparent=True, metadata=nothing)
    axes.figure.savefig(png, format="png", dpi=_PIXELS_PER_INCH, facecolor="white")
    return Figure(name, title, _inline(svg.getvalue(), name, title), png.getvalue())


def _inline(text: str, name: str, title: str) -> str:
    """An SVG file as a part of a page: no header, ids of its own, the page's ink and width."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' (xmlns(:\w+)?|version|width|height)="[^"]*"', "", text, count=5)
    text = re.sub(r'(\bid=")|(url\(#)|(href="#)', lambda m: f"{m[0]}{name}-", text)
    label = re.sub(r'[<>&"]', " ", title)
    text = text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    return text.replace(_INK, "currentColor").strip()


def _style(i: int) -> dict[str, Any]:
    return {"color": _COLOURS[i % len(_COLOURS)], "linestyle": _DASHES[i % len(_DASHES)]}


def slug(name: str) -> str:
    """A name as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower() or "_"


def roc(scores: Scores, level: str) -> Figure | None:
    """ROC curves, one for each quality; None where none is defined."""
    with _axes("false positive rate", "true positive rate") as axes:
        drawn = 0
        for i, (quality, column) in enumerate(zip(scores.qualities, scores.score.T, strict=True)):
            if metrics.why_undefined(scores.label, column):
                continue
            false_rate, true_rate, _ = metrics.roc(scores.label, column)
            steps = np.hypot(np.diff(false_rate, prepend=0), np.diff(true_rate, prepend=0))
            keep = _spread(steps)
            axes.plot(false_rate[keep], true_rate[keep], label=printable(quality), **_style(i))
            drawn += 1
        if not drawn:
            return None
        axes.plot([0, 1], [0, 1], color=_INK, alpha=0.3, linewidth=0.8)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.legend(loc="lower right")
        return _finished(axes, f"roc_{level}", f"ROC curves, {level} level")


def _spread(steps: np.ndarray) -> np.ndarray:
    """Indices of points of a curve, evenly along its length; all where they are few."""
    if len(steps) <= _POINTS:
        return np.arange(len(steps))
    length = np.cumsum(steps)
    wanted = np.searchsorted(length, np.linspace(0, length[-1], _POINTS))
    return np.unique(np.r_[0, np.minimum(wanted, len(steps) - 1), len(steps) - 1])


def histograms(scores: Scores, thresholds: Mapping[str, float | None]) -> list[Figure]:
    """Histograms of the scores of reals and of fakes, a figure for each quality."""
    figures = []
    for i, (quality, column) in enumerate(zip(scores.qualities, scores.score.T, strict=True)):
        finite = np.isfinite(column)
        if not finite.any():
            continue
        low, high = min(0.0, column[finite].min()), max(1.0, column[finite].max())
        with _axes("score", "share of frames") as axes:
            for label, name in enumerate(("real", "fake")):
                values = column[finite & (scores.label == label)]
                if len(values):
                    heights, edges = np.histogram(values, _BINS, (low, high))
                    heights = heights / len(values)
                    axes.stairs(heights, edges, label=name, linewidth=1.4, **_style(label))
                    axes.stairs(heights, edges, fill=True, alpha=0.18, color=_COLOURS[label])
            axes.axvline(thresholds[quality], color=_INK, linewidth=1, label="threshold")
            axes.legend(loc="best")
            name = f"scores_{i}_{slug(quality)}"
            figures.append(_finished(axes, name, f"Scores of frames at {quality}"))
    return figures


def reliability(scores: Scores, temperatures: Mapping[str, float | None]) -> list[Figure]:
    """The share of fakes against the predicted probability, before and after calibration."""
    figures = []
    for when, title in (("before", "as scored"), ("after", "after temperature scaling")):
        with _axes("mean probability of fake", "share of fakes") as axes:
            axes.plot([0, 1], [0, 1], color=_INK, alpha=0.3, linewidth=0.8)
            drawn = 0
            for i, (quality, p) in enumerate(zip(scores.qualities, scores.score.T, strict=True)):
                temperature = temperatures.get(quality)
                known = np.isfinite(p).all() and p.min() >= 0 and p.max() <= 1
                if not known or (when == "after" and temperature is None):
                    continue
                shown = calibration.scaled(p, temperature if when == "after" else None)
                bars = calibration.reliability(scores.label, shown)
                style = {**_style(i), "marker": "os^Dvx*"[i % 7], "markersize": 3.5}
                axes.plot(bars.confidence, bars.frequency, label=printable(quality), **style)
                drawn += 1
            if drawn:
                axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
                axes.legend(loc="upper left")
                figures.append(_finished(axes, f"reliability_{when}", f"Reliability, {title}"))
    return figures


def robustness(measured: Robustness) -> list[Figure]:
    """Frame AUC over the strength of each corruption, a curve for each run."""
    figures = []
    shown = [
        value
        for run in measured.runs
        for aucs in (run.clean, *(point.auc for curve in run.curves.values() for point in curve))
        for value in (aucs.frame.value, aucs.frame.low, aucs.frame.high)
        if value is not None
    ]
    for name, title in TITLES.items():
        with _axes(title, "frame AUC") as axes:
            for i, run in enumerate(measured.runs):
                curve = run.curves.get(name)
                if not curve:
                    continue
                points = [point for point in curve if point.auc.frame.value is not None]
                style = {**_style(i), "marker": "os^Dvx*"[i % 7], "markersize": 3.5}
                axes.plot(
                    [point.strength for point in points],
                    [point.auc.frame.value for point in points],
                    label=f"{run.name}, step {run.step}",
                    **style,
                )
                bounded = [point for point in points if point.auc.frame.low is not None]
                axes.fill_between(
                    [point.strength for point in bounded],
                    [point.auc.frame.low for point in bounded],
                    [point.auc.frame.high for point in bounded],
                    color=_COLOURS[i % 7],
                    alpha=0.15,
                    linewidth=0,
                )
                clean = run.clean.frame.value
                if clean is not None:
                    axes.axhline(clean, color=_COLOURS[i % 7], alpha=0.6, linewidth=0.7)
            if not axes.lines:
                continue
            if name in FALLING:
                axes.invert_xaxis()
            # All figures share one scale, so that what costs more looks so.
            axes.set_ylim(min(shown) - 0.01, max(shown) + 0.01)
            axes.legend(loc="lower left")
            corruption = title.partition(",")[0]
            figures.append(_finished(axes, f"robustness_{name}", f"AUC under {corruption}"))
    return figures
