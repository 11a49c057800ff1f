"""Many runs on many datasets: the AUCs of all evaluations in one table and one picture.

python -m qad_jax.matrix runs/nt runs/celeb runs/ffiw --out matrix
"""

from __future__ import annotations

import csv
import functools
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_builders import command_line
from data_builders.errors import UserError
from data_builders.files import write_whole
from qad_jax.evaluation.protocol import percent, span

#: Fields of a row: one run, dataset and quality. `own` is whether the run was trained on the
#: dataset, None where nobody knows.
FIELDS = (
    "run",
    "step",
    "dataset",
    "split",
    "own",
    "quality",
    "frames",
    "frame_auc",
    "frame_auc_low",
    "frame_auc_high",
    "videos",
    "video_auc",
    "video_auc_low",
    "video_auc_high",
)
_LEVELS = ("frame", "video")
_PIXELS_PER_INCH = 160

Row = dict[str, Any]


def collect(folders: Sequence[Path], split: str) -> list[Row]:
    """Reads what evaluations have left in folders.

    Args:
      folders: Of runs, whose results lie in `evaluation/<split>` and, on datasets that they were
        not trained on, in `evaluation/<dataset>/<split>`; or of results.
      split: Which split.

    Returns:
      A row for each run, dataset and quality, with `FIELDS`.

    Raises:
      UserError: If a folder holds no results of the split, or they cannot be read.
    """
    rows = []
    for folder, name in zip(folders, _names(folders), strict=True):
        found = _results(folder, split)
        for path, own in found:
            rows += _rows(path, name, own)
    return rows


def _names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, or all of it where others end in the same."""
    short = [folder.resolve().name for folder in folders]
    count = Counter(short)
    names = [
        str(folder) if count[name] > 1 else name
        for folder, name in zip(folders, short, strict=True)
    ]
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise UserError(f"{twice[0]}: named twice")
    return names


def _results(folder: Path, split: str) -> list[tuple[Path, bool | None]]:
    """Files of results, and whether each is of the dataset that the run was trained on."""
    direct = folder / "metrics.json"
    if direct.is_file():
        return [(direct, None)]
    place = folder / "evaluation"
    own = place / split / "metrics.json"
    found: list[tuple[Path, bool | None]] = [(own, True)] if own.is_file() else []
    found += [(path, False) for path in sorted(place.glob(f"*/{split}/metrics.json"))]
    if not found:
        raise UserError(
            f"{folder}: holds no results of the split {split!r} (evaluation/{split}/metrics.json); "
            "evaluate it first, or name another with --split"
        )
    return found


def _rows(path: Path, run: str, own: bool | None) -> list[Row]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["step"] in (None, 0):  # imported weights: what they were trained on is not known
            own = None
        head = (run, stored["step"], stored["dataset"], stored["split"], own)
        return [
            dict(zip(FIELDS, (*head, quality, *_numbers(entry)), strict=True))
            for quality, entry in stored["qualities"].items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: is not the result of an evaluation ({type(error).__name__}: {error})"
        ) from error


def _numbers(entry: Mapping[str, Any]) -> list[Any]:
    return [
        value
        for level in _LEVELS
        for value in (
            int(entry[f"{level}s"]),
            *(_rate(entry[level][f"auc{end}"]) for end in ("", "_low", "_high")),
        )
    ]


def _rate(value: Any) -> float | None:
    return None if value is None else float(value)


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def table(rows: Sequence[Row]) -> str:
    """Renders the matrix for a terminal, AUCs in percent with their intervals."""
    qualities = _unique(row["quality"] for row in rows)
    lines: list[list[str]] = [["run", "dataset", "level", *qualities]]
    for (run, dataset), entries in _grouped(rows).items():
        own = any(row["own"] for row in entries.values())
        for level in _LEVELS:
            first = [run, dataset + (" *" if own else "")] if level == _LEVELS[0] else ["", ""]
            lines.append([*first, level, *(_cell(entries.get(q), level) for q in qualities)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    splits = ", ".join(_unique(row["split"] for row in rows))
    text.append(f"AUC in percent and its 95 % interval; split: {splits}")
    if any(row["own"] for row in rows):
        text.append("* the dataset that the run was trained on")
    return "\n".join(text)


def _grouped(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, Row]]:
    groups: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        groups.setdefault((row["run"], row["dataset"]), {})[row["quality"]] = row
    return groups


def _cell(row: Row | None, level: str) -> str:
    if row is None:
        return "-"
    if row[f"{level}_auc"] is None:
        return "n/a"
    low, high = row[f"{level}_auc_low"], row[f"{level}_auc_high"]
    ends = "" if low is None else f" ({span(low, high).replace(' to ', '-')})"
    return percent(row[f"{level}_auc"]) + ends


def grid(rows: Sequence[Row], level: str) -> tuple[list[str], list[tuple[str, str]], np.ndarray]:
    """The AUCs as a matrix.

    Returns:
      The r runs, the c pairs of dataset and quality, and `(r, c)` AUCs, NaN where there is none.
    """
    runs = _unique(row["run"] for row in rows)
    datasets = _unique(row["dataset"] for row in rows)
    columns = sorted(
        _unique((row["dataset"], row["quality"]) for row in rows),
        key=lambda column: datasets.index(column[0]),
    )
    values = np.full((len(runs), len(columns)), np.nan)
    for row in rows:
        if row[f"{level}_auc"] is not None:
            at = runs.index(row["run"]), columns.index((row["dataset"], row["quality"]))
            values[at] = row[f"{level}_auc"]
    return runs, columns, values


def picture(rows: Sequence[Row]) -> bytes:
    """A heat map of frame and video AUC, as PNG: a row a run, a column a dataset and quality."""
    import matplotlib as mpl  # late: its import takes a second
    from matplotlib.figure import Figure

    own = {(row["run"], row["dataset"], row["quality"]) for row in rows if row["own"]}
    runs, columns, _ = grid(rows, "frame")
    width = 2.2 + 0.62 * len(columns) + 0.075 * max(map(len, runs))
    size = (width, 2 * (1.9 + 0.42 * len(runs)))
    with mpl.rc_context({"text.parse_math": False, "font.size": 9}):
        figure = Figure(figsize=size, layout="constrained")
        for axes, level in zip(figure.subplots(2, 1), _LEVELS, strict=True):
            values = 100 * grid(rows, level)[2]
            shown = axes.imshow(values, vmin=50, vmax=100, cmap="viridis", aspect="auto")
            titles = [f"{dataset}\n{quality}" for dataset, quality in columns]
            axes.set_xticks(range(len(columns)), titles, rotation=40, ha="right", fontsize=7.5)
            axes.set_yticks(range(len(runs)), runs)
            axes.set_title(f"{level} AUC, %", loc="left")
            for (i, j), value in np.ndenumerate(values):
                if np.isfinite(value):
                    bold = (runs[i], *columns[j]) in own
                    axes.text(
                        j,
                        i,
                        f"{value:.1f}",
                        ha="center",
                        va="center",
                        fontsize=8,
                        color="white" if value < 80 else "black",
                        fontweight="bold" if bold else "normal",
                    )
            figure.colorbar(shown, ax=axes, extend="min")
        if own:
            note = "bold: the dataset that the run was trained on"
            figure.supxlabel(note, fontsize=8, x=0.02, ha="left")
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=_PIXELS_PER_INCH, facecolor="white")
    return content.getvalue()


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Writes `matrix.csv`, `matrix.json` and `matrix.png`, each whole or not at all."""
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows([FIELDS, *(row.values() for row in rows)])
    content = json.dumps({"rows": rows}, indent=2, allow_nan=False) + "\n"
    for name, part in (("csv", lines.getvalue()), ("json", content), ("png", picture(rows))):
        write_whole(folder / f"matrix.{name}", part)


def _job(argv: Sequence[str], prog: str) -> str:
    parser = command_line.Parser(
        prog=prog,
        description="Collects the AUCs of many runs on many datasets and qualities.",
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="of runs or results")
    parser.add_argument("--split", default="test", help="of run folders (default: test)")
    parser.add_argument("--out", type=Path, help="folder for matrix.csv, matrix.json, matrix.png")
    args = parser.parse_args(argv)
    rows = collect(args.folders, args.split)
    if args.out:
        write(args.out, rows)
    return table(rows)


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m qad_jax.matrix") -> int:
    """Entry point of the command; returns its exit status."""
    return command_line.run(functools.partial(_job, prog=prog), argv)
