"""The protocol: every frame of a split once, at every quality, at frame and at video level."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from data_builders.errors import UserError
from qad_jax import hosts, metrics, parallel
from qad_jax.hosts import Progress
from qad_jax.input_pipeline import Frames, TupleSource, frames
from qad_jax.writer import write_whole


class Scores(NamedTuple):
    """What a model said of a split.

    Attributes:
      qualities: The k qualities.
      label: `(n,)` 0 real, 1 fake.
      method: n manipulation methods.
      video: n videos, unique within a method.
      identity: n identities.
      frame: `(n,)` frame indices.
      score: `(n, k)` float32, probability of fake at each quality.
    """

    qualities: tuple[str, ...]
    label: npt.NDArray[np.int32]
    method: list[str]
    video: list[str]
    identity: list[str]
    frame: npt.NDArray[np.int32]
    score: npt.NDArray[np.float32]


def predict(
    step: Callable[[Any, Any], Any],
    variables: Any,
    source: TupleSource,
    *,
    qualities: Sequence[str],
    batch_size: int,
    label: str,
) -> Scores:
    """Scores every record of a split, on all devices.

    The last batch is filled up so that every batch has one shape, and what was filled in is cut
    off again: no frame is dropped, none is counted twice. Each process reads its own rows of every
    batch, and every process gets all scores.

    Args:
      step: From `parallel.pmap_predict`.
      variables: `{'params', 'batch_stats'}`, replicated.
      source: The split.
      qualities: Their names, as `source` decodes them.
      batch_size: Records at a time, rounded up to what the devices share evenly.
      label: What the progress line is called.

    Returns:
      The scores in the order of the records.
    """
    devices = parallel.device_count()
    batch_size = -(-batch_size // devices) * devices
    batches: list[Frames] = []
    parts: list[npt.NDArray[np.float32]] = []

    def place(batch: Frames) -> tuple[Frames, Any]:
        return batch, parallel.shard(batch.images)

    pending: jax.Array | None = None
    with Progress(len(source), label, unit="frame") as progress:
        read = frames(source, batch_size, rows=parallel.rows(batch_size))
        for batch, images in parallel.prefetch(read, place):
            # Results are fetched one batch late, while the next one is computed.
            newer = step(variables, images)
            if pending is not None:
                parts.append(jax.device_get(pending))
            pending = newer
            batches.append(batch._replace(images=np.empty(0, np.uint8)))
            progress.advance(min(batch_size, len(source) - progress.done))
    parts.append(jax.device_get(pending))
    batches = _of_all_processes(batches)
    columns = len(qualities)
    return Scores(
        tuple(qualities),
        np.concatenate([batch.labels for batch in batches]),
        [name for batch in batches for name in batch.method],
        [name for batch in batches for name in batch.video],
        [name for batch in batches for name in batch.identity],
        np.concatenate([batch.frame for batch in batches]),
        np.concatenate(
            [
                part.reshape(-1, columns)[: len(batch.labels)]
                for batch, part in zip(batches, parts, strict=True)
            ]
        ),
    )


def _of_all_processes(batches: list[Frames]) -> list[Frames]:
    """Puts together what each process knows of its rows of each batch."""
    if jax.process_count() == 1:
        return batches
    told = hosts.gather(
        [(b.labels.tolist(), b.method, b.video, b.identity, b.frame.tolist()) for b in batches]
    )
    joined = []
    for parts in zip(*told, strict=True):
        label, method, video, identity, frame = (
            list(itertools.chain(*lists)) for lists in zip(*parts, strict=True)
        )
        joined.append(
            Frames(
                np.empty(0, np.uint8),
                np.asarray(label, np.int32),
                method,
                video,
                identity,
                np.asarray(frame, np.int32),
            )
        )
    return joined


def summarise(scores: Scores, *, intervals: bool = True) -> dict[str, Any]:
    """Computes the numbers of each quality, and their mean over qualities.

    Args:
      scores: Of one split.
      intervals: Whether to compute 95 % intervals of the AUC, by bootstrap over identities.

    Returns:
      `{"qualities": {name: {"frames": n, "videos": n, "frame": {...}, "video": {...}}},
      "mean": {...}}`, each `{...}` with `metrics.NAMES`; what is not defined is None. "mean" is of
      the frame level, with the interval of the mean AUC.

    Raises:
      UserError: If a score is not a number.
    """
    if not np.isfinite(scores.score).all():
        bad = int(np.sum(~np.isfinite(scores.score).all(axis=1)))
        raise UserError(f"{bad} of {len(scores.label)} frames have a score that is not a number")
    first, means = metrics.by_video(scores.method, scores.video, scores.score)
    identities = [scores.identity[i] for i in first]
    frame, mean = _level(scores.label, scores.score, scores.identity, intervals)
    video, _ = _level(scores.label[first], means, identities, intervals)
    return {
        "qualities": {
            quality: {
                "frames": len(scores.label),
                "videos": len(first),
                "frame": frame[i],
                "video": video[i],
            }
            for i, quality in enumerate(scores.qualities)
        },
        "mean": mean,
    }


Numbers = dict[str, float | None]


def _level(
    labels: npt.NDArray[np.int32],
    scores: npt.NDArray[Any],
    identities: Sequence[str],
    intervals: bool,
) -> tuple[list[Numbers], Numbers]:
    """The numbers of each column of scores, and their mean over the columns."""
    each = [metrics.numbers(labels, column) for column in scores.T]
    mean = {name: _mean([numbers[name] for numbers in each]) for name in each[0]}
    draws = np.empty((0, scores.shape[1]))
    if intervals and len(np.unique(labels)) == 2:
        draws = metrics.bootstrap_auc(labels, scores, identities)
    columns = [*draws.T, draws.mean(axis=1)]
    for numbers, column in zip([*each, mean], columns, strict=True):
        numbers["auc_low"], numbers["auc_high"] = metrics.interval(column)
    ordered = [{name: numbers[name] for name in metrics.NAMES} for numbers in [*each, mean]]
    return ordered[:-1], ordered[-1]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def write(folder: Path, scores: Scores, report: dict[str, Any]) -> None:
    """Writes `metrics.json` and `scores.csv`, each in full or not at all."""
    lines = io.StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(["method", "video", "identity", "frame", "quality", "label", "score"])
    for i, label in enumerate(scores.label):
        rows.writerows(
            (
                scores.method[i],
                scores.video[i],
                scores.identity[i],
                scores.frame[i],
                quality,
                label,
                repr(float(scores.score[i, column])),
            )
            for column, quality in enumerate(scores.qualities)
        )
    write_whole(folder / "scores.csv", lines.getvalue())
    write_whole(folder / "metrics.json", json.dumps(report, indent=2) + "\n")


def table(report: dict[str, Any]) -> str:
    """Renders a report for a terminal; rates in percent."""

    def cell(value: float | None) -> str:
        return f"{'n/a' if value is None else f'{100 * value:.1f}':>7}"

    def row(name: str, level: str, numbers: Numbers, count: str) -> str:
        low, high = numbers["auc_low"], numbers["auc_high"]
        interval = "n/a"
        if low is not None and high is not None:
            interval = f"{100 * low:.1f}-{100 * high:.1f}"
        cells = [cell(numbers[key]) for key in metrics.NAMES if not key.startswith("auc_")]
        return f"{name:<8} {level:<6}{count:>7}{cells[0]} {interval:>11}{''.join(cells[1:])}"

    titles = ["acc", "AP", "EER", "TPR@1%", "FPR"]
    lines = [
        f"{report['dataset']} {report['split']}, step {report['step']}",
        f"{'quality':<8} {'level':<6}{'n':>7}{'AUC':>7} {'95 %':>11}"
        + "".join(f"{title:>7}" for title in titles),
    ]
    for quality, entry in report["qualities"].items():
        lines.append(row(quality, "frame", entry["frame"], str(entry["frames"])))
        lines.append(row("", "video", entry["video"], str(entry["videos"])))
    lines.append(row("mean", "frame", report["mean"], ""))
    return "\n".join(lines)
