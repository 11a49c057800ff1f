"""Many models on many datasets: the AUCs of all evaluations in one table and one figure.

python -m qad_jax.matrix runs/nt runs/celeb results --out matrix
python -m qad_jax.matrix runs/nt detector --datasets celeb_df_v2@OUT ffiw10k@OUT --out matrix
"""

from __future__ import annotations

import functools
import io
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from data_builders import command_line
from data_builders.command_line import UsageError
from data_builders.errors import printable
from data_builders.files import check_writable, write_csv, write_json, write_whole
from data_builders.home import expanded
from qad_jax.evaluation import averages
from qad_jax.evaluation.averages import Average
from qad_jax.evaluation.matrix_rows import FIELDS, MatrixRow, collect, names_of
from qad_jax.evaluation.protocol import percent, span
from qad_jax.evaluation.results import LEVELS, Estimate

_PIXELS_PER_INCH = 160
_T = TypeVar("_T", bound=Hashable)


def _unique(values: Iterable[_T]) -> list[_T]:
    return list(dict.fromkeys(values))


def table(rows: Sequence[MatrixRow], means: Sequence[Average] = ()) -> str:
    """Renders the matrix for a terminal, AUCs in percent with their intervals.

    Args:
      rows: Of the matrix. Methods are shown at frame level; the files have both levels.
      means: Of the same rows, see `averages.of_rows`.
    """
    qualities = _unique(row.quality for row in rows)
    lines: list[list[str]] = [["run", "dataset", "level", *qualities]]
    for run in _unique(row.run for row in rows):
        of_run = [row for row in rows if row.run == run]
        for dataset in _unique(row.dataset for row in of_run):
            methods = _unique(row.method for row in of_run if row.dataset == dataset)
            seen = any(row.own for row in of_run if row.dataset == dataset)
            for method in methods:
                entries = {
                    row.quality: row
                    for row in of_run
                    if (row.dataset, row.method) == (dataset, method)
                }
                own = any(row.own for row in entries.values())
                name = f"  {method}" if method else dataset + (" *" if own else "")
                name += " +" if method and seen and not own else ""
                for level in LEVELS[:1] if method else LEVELS:
                    first = [run if not method else "", name] if level == LEVELS[0] else ["", ""]
                    cells = (_cell(entries.get(q), level) for q in qualities)
                    lines.append([*first, level, *cells])
            lines += _mean_lines("", means, run, dataset, qualities)
        lines += _mean_lines(run, means, run, "", qualities)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    splits = ", ".join(_unique(row.split for row in rows))
    text.append(f"AUC in percent and its 95 % interval; split: {splits}")
    if any(row.own for row in rows):
        text.append("* the dataset that the run was trained on")
    if any(line[1].endswith(" +") for line in lines):
        text.append("+ a method that the run was trained without")
    if any(mean.over == "datasets" for mean in means):
        text.append("mean of other datasets: without that of the run; each counts the same")
    return "\n".join(map(printable, text))


def _mean_lines(
    first: str, means: Sequence[Average], run: str, dataset: str, qualities: Sequence[str]
) -> list[list[str]]:
    """The lines of the means over the methods of a dataset, or over datasets where it is empty."""
    of = {mean.quality: mean for mean in means if (mean.run, mean.dataset) == (run, dataset)}
    lines = []
    for names in _unique(mean.names for mean in of.values()):
        kind = "methods" if dataset else "other datasets"
        title = f"{'  ' if dataset else ''}mean of {len(names)} {kind}"
        for level in LEVELS:
            start = [first, title] if level == LEVELS[0] else ["", ""]
            each = (of[q] if q in of and of[q].names == names else None for q in qualities)
            lines.append([*start, level, *(_cell(mean, level) for mean in each)])
    return lines


def _cell(row: MatrixRow | Average | None, level: str) -> str:
    if row is None:
        return "-"
    auc: Estimate = row.auc(level)
    if auc.value is None:
        return "n/a"
    ends = "" if auc.low is None else f" ({span(auc.low, auc.high).replace(' to ', '-')})"
    return percent(auc.value) + ends


def grid(
    rows: Sequence[MatrixRow], level: str
) -> tuple[list[str], list[tuple[str, str]], np.ndarray]:
    """The AUCs of all methods together as a matrix.

    Returns:
      The r runs, the c pairs of dataset and quality, and `(r, c)` AUCs, NaN where there is none.
    """
    rows = [row for row in rows if not row.method]
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

    own = {(row.run, row.dataset, row.quality) for row in rows if row.own and not row.method}
    runs, columns, _ = grid(rows, "frame")
    width = 2.2 + 0.62 * len(columns) + 0.075 * max(map(len, runs))
    size = (width, 2 * (1.9 + 0.42 * len(runs)))
    with mpl.rc_context({"text.parse_math": False, "font.size": 9}):
        figure = Figure(figsize=size, layout="constrained")
        for axes, level in zip(figure.subplots(2, 1), LEVELS, strict=True):
            values = 100 * grid(rows, level)[2]
            shown = axes.imshow(values, vmin=50, vmax=100, cmap="viridis", aspect="auto")
            titles = ["\n".join(map(printable, column)) for column in columns]
            axes.set_xticks(range(len(columns)), titles, rotation=40, ha="right", fontsize=7.5)
            axes.set_yticks(range(len(runs)), list(map(printable, runs)))
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


def write(folder: Path, rows: Sequence[MatrixRow], means: Sequence[Average] = ()) -> None:
    """Writes `matrix.csv`, `averages.csv`, `matrix.json` and `matrix.png`, each whole or not.

    A `leakage.csv` of an earlier matrix is removed.
    """
    (folder / "leakage.csv").unlink(missing_ok=True)
    stored = [row.as_dict() for row in rows]
    averaged = [mean.as_dict() for mean in means]
    write_csv(folder / "matrix.csv", FIELDS, ([row[field] for field in FIELDS] for row in stored))
    write_csv(folder / "averages.csv", averages.FIELDS, (mean.values() for mean in averaged))
    write_json(folder / "matrix.json", {"rows": stored, "averages": averaged}, allow_nan=False)
    write_whole(folder / "matrix.png", heat_map(rows))


def _job(argv: Sequence[str], prog: str) -> str:
    parser = command_line.Parser(
        prog=prog,
        description="Shows the AUCs of many models on many datasets, qualities and methods. "
        "With --datasets, what is not evaluated yet is evaluated first; nothing is trained.",
    )
    parser.add_argument(
        "paths",
        type=expanded,
        nargs="+",
        metavar="MODEL",
        help="the folder of a run or of results; with --datasets also a model file, or 'detector'",
    )
    parser.add_argument(
        "--datasets",
        nargs="+",
        metavar="NAME[:LIST][@DATA_DIR]",
        help="built datasets to evaluate on; LIST is the file of a manifest",
    )
    parser.add_argument("--qualities", help="separated by commas (default: all of each dataset)")
    parser.add_argument(
        "--no_leakage",
        action="store_true",
        help="do not look for test videos in the training data",
    )
    parser.add_argument("--split", default="test", help="of run folders (default: test)")
    parser.add_argument("--out", type=expanded, help="folder for the files; see docs/evaluation.md")
    args = parser.parse_args(argv)
    if args.out:
        check_writable(args.out.absolute(), "--out")
    names = names_of(args.paths)
    if args.datasets is None:
        for flag, given in (("qualities", args.qualities), ("no_leakage", args.no_leakage)):
            if given:
                raise UsageError(f"--{flag}: only with --datasets")
        return _shown(collect(args.paths, args.split, names), args.out)
    from qad_jax.evaluation import cross_dataset  # late: a table alone needs neither JAX nor TFDS

    done = cross_dataset.evaluate(
        args.paths,
        names,
        args.datasets,
        split=args.split,
        qualities=args.qualities and [word.strip() for word in args.qualities.split(",")],
        out=args.out,
        with_leakage=not args.no_leakage,
    )
    rows = [
        row
        for folder, name, wanted in zip(done.folders, names, done.shown, strict=True)
        for row in collect([folder], args.split, [name])
        if wanted is None or row.quality in wanted.get(row.dataset, ())
    ]
    text = _shown(rows, args.out)
    if done.leakage is None:
        return text
    if args.out:
        done.leakage.write(args.out)
    return f"{text}\n{done.leakage.text()}"


def _shown(rows: Sequence[MatrixRow], out: Path | None) -> str:
    means = averages.of_rows(rows)
    if out:
        write(out, rows, means)
    return table(rows, means)


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m qad_jax.matrix") -> int:
    """Entry point of the command; returns its exit status."""
    return command_line.run(
        functools.partial(_job, prog=prog),
        argv,
        interrupted="interrupted; the same command goes on from the evaluations that are done",
    )
