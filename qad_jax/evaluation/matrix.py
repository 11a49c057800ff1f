"""Many runs on many datasets: the AUCs of all evaluations in one table and one figure.

python -m qad_jax.matrix runs/nt runs/celeb runs/ffiw --out matrix
"""

from __future__ import annotations

import dataclasses
import functools
import io
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from data_builders import command_line
from data_builders.errors import UserError
from data_builders.files import read_json, write_csv, write_json, write_whole
from qad_jax.evaluation.protocol import percent, span
from qad_jax.evaluation.results import LEVELS, Estimate

#: Fields of a row as it is stored.
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
_PIXELS_PER_INCH = 160
_T = TypeVar("_T", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class MatrixRow:
    """The AUCs of one run on one dataset at one quality.

    Attributes:
      run: Name of the run.
      step: Step of its checkpoint; None for the scores of another tool.
      dataset: Full name of the dataset.
      split: Name of the split.
      own: Whether the run was trained on this dataset; None where nobody knows.
      quality: Name of the quality.
      frames: Number of frames.
      frame: AUC over frames.
      videos: Number of videos.
      video: AUC over videos.
    """

    run: str
    step: int | None
    dataset: str
    split: str
    own: bool | None
    quality: str
    frames: int
    frame: Estimate
    videos: int
    video: Estimate

    def auc(self, level: str) -> Estimate:
        """The AUC at one of `LEVELS`."""
        return {"frame": self.frame, "video": self.video}[level]

    def as_dict(self) -> dict[str, Any]:
        """The stored form, which is flat: `FIELDS`."""
        return {
            "run": self.run,
            "step": self.step,
            "dataset": self.dataset,
            "split": self.split,
            "own": self.own,
            "quality": self.quality,
            "frames": self.frames,
            **self.frame.as_dict("frame_auc"),
            "videos": self.videos,
            **self.video.as_dict("video_auc"),
        }


def collect(folders: Sequence[Path], split: str) -> list[MatrixRow]:
    """Reads the results that evaluations have left in folders.

    Args:
      folders: Folders of runs, or of results. The results of a run lie in `evaluation/<split>`
        and, on datasets that it was not trained on, in `evaluation/<dataset>/<split>`. Those of a
        run on several datasets are all in the latter; `run.json` names its datasets.
      split: Name of the split.

    Returns:
      A row for each run, dataset and quality.

    Raises:
      UserError: If a folder holds no results of the split, or they cannot be read.
    """
    return [
        row
        for folder, name in zip(folders, _names(folders), strict=True)
        for path, own in _results(folder, split)
        for row in _rows(path, name, own, _mixture(folder))
    ]


def _names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, or the whole path where two end in the same name."""
    short = [folder.resolve().name for folder in folders]
    count = Counter(short)
    names = [
        str(folder) if count[name] > 1 else name
        for folder, name in zip(folders, short, strict=True)
    ]
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise UserError(f"{twice[0]}: is named twice; name each folder once")
    return names


def _results(folder: Path, split: str) -> list[tuple[Path, bool | None]]:
    """The files of results, each with whether the run was trained on the dataset."""
    direct = folder / "metrics.json"
    if direct.is_file():
        return [(direct, None)]
    place = folder / "evaluation"
    own = place / split / "metrics.json"
    files: list[tuple[Path, bool | None]] = [(own, True)] if own.is_file() else []
    files += [(path, False) for path in sorted(place.glob(f"*/{split}/metrics.json"))]
    if not files:
        raise UserError(
            f"{folder}: holds no results of the split {split!r} (evaluation/{split}/metrics.json); "
            "evaluate it first, or name another split with --split"
        )
    return files


def _mixture(folder: Path) -> list[str]:
    """Full names of the datasets of a run that was trained on several."""
    try:
        names = read_json(folder / "run.json")["dataset"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return names if isinstance(names, list) else []


def _rows(path: Path, run: str, own: bool | None, mixture: Sequence[str]) -> list[MatrixRow]:
    try:
        stored = read_json(path)
        if own is False:
            own = stored["dataset"] in mixture
        if stored["step"] in (None, 0):  # the training data of imported weights are not known
            own = None
        return [
            MatrixRow(
                run=run,
                step=stored["step"],
                dataset=str(stored["dataset"]),
                split=str(stored["split"]),
                own=own,
                quality=quality,
                frames=int(result["frames"]),
                frame=Estimate.from_dict(result["frame"], "auc"),
                videos=int(result["videos"]),
                video=Estimate.from_dict(result["video"], "auc"),
            )
            for quality, result in stored["qualities"].items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{path}: is not the result of an evaluation ({type(error).__name__}: {error})"
        ) from error


def _unique(values: Iterable[_T]) -> list[_T]:
    return list(dict.fromkeys(values))


def table(rows: Sequence[MatrixRow]) -> str:
    """Renders the matrix for a terminal, AUCs in percent with their intervals."""
    qualities = _unique(row.quality for row in rows)
    lines: list[list[str]] = [["run", "dataset", "level", *qualities]]
    for (run, dataset), entries in _grouped(rows).items():
        own = any(row.own for row in entries.values())
        for level in LEVELS:
            first = [run, dataset + (" *" if own else "")] if level == LEVELS[0] else ["", ""]
            lines.append([*first, level, *(_cell(entries.get(q), level) for q in qualities)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    splits = ", ".join(_unique(row.split for row in rows))
    text.append(f"AUC in percent and its 95 % interval; split: {splits}")
    if any(row.own for row in rows):
        text.append("* the dataset that the run was trained on")
    return "\n".join(text)


def _grouped(rows: Sequence[MatrixRow]) -> dict[tuple[str, str], dict[str, MatrixRow]]:
    groups: dict[tuple[str, str], dict[str, MatrixRow]] = {}
    for row in rows:
        groups.setdefault((row.run, row.dataset), {})[row.quality] = row
    return groups


def _cell(row: MatrixRow | None, level: str) -> str:
    if row is None:
        return "-"
    auc = row.auc(level)
    if auc.value is None:
        return "n/a"
    ends = "" if auc.low is None else f" ({span(auc.low, auc.high).replace(' to ', '-')})"
    return percent(auc.value) + ends


def grid(
    rows: Sequence[MatrixRow], level: str
) -> tuple[list[str], list[tuple[str, str]], np.ndarray]:
    """The AUCs as a matrix.

    Returns:
      The r runs, the c pairs of dataset and quality, and `(r, c)` AUCs, NaN where there is none.
    """
    runs = _unique(row.run for row in rows)
    datasets = _unique(row.dataset for row in rows)
    columns = sorted(
        _unique((row.dataset, row.quality) for row in rows),
        key=lambda column: datasets.index(column[0]),
    )
    values = np.full((len(runs), len(columns)), np.nan)
    for row in rows:
        auc = row.auc(level).value
        if auc is not None:
            values[runs.index(row.run), columns.index((row.dataset, row.quality))] = auc
    return runs, columns, values


def heat_map(rows: Sequence[MatrixRow]) -> bytes:
    """Draws frame and video AUC as PNG: a row for each run, a column for each test data."""
    import matplotlib as mpl  # late: its import takes a second
    from matplotlib.figure import Figure

    own = {(row.run, row.dataset, row.quality) for row in rows if row.own}
    runs, columns, _ = grid(rows, "frame")
    width = 2.2 + 0.62 * len(columns) + 0.075 * max(map(len, runs))
    size = (width, 2 * (1.9 + 0.42 * len(runs)))
    with mpl.rc_context({"text.parse_math": False, "font.size": 9}):
        figure = Figure(figsize=size, layout="constrained")
        for axes, level in zip(figure.subplots(2, 1), LEVELS, strict=True):
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


def write(folder: Path, rows: Sequence[MatrixRow]) -> None:
    """Writes `matrix.csv`, `matrix.json` and `matrix.png`, each whole or not at all."""
    stored = [row.as_dict() for row in rows]
    write_csv(folder / "matrix.csv", FIELDS, ([row[field] for field in FIELDS] for row in stored))
    write_json(folder / "matrix.json", {"rows": stored}, allow_nan=False)
    write_whole(folder / "matrix.png", heat_map(rows))


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
