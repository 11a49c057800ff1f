"""What helps a detector of real faces? One change at a time, from one detector of raw images.

Trains EfficientNet-Lite0 on `self_blended` without three families of fakes, and tests it on people
whom training never saw: on fakes of the families that it saw and of the three others, at the
qualities that it saw and at three others, and on rendered faces (`synthetic_faces`) as a stranger.
Every run begins with the same weights: those of ImageNet after a training on raw images alone.
Short runs from ImageNet's weights end where none has learned much, and cannot tell what helps.
Every row differs from the second one in what its name says; all see the same number of images.

    python benchmarks/detector_ablation.py --faces FACES --out runs/detector_ablation

FACES is a folder as `self_blended` takes it. Killed, the script goes on where it was. Started more
than once, as with a part of the processor for each, the processes share the runs. Leaves in the
folder `runs.json` (every run, with its seconds), what the runs gave on each test (`ranks.py`),
`table.md` and `ablation.png`, which are of the runs so far. `--report` makes the last two of the
others, without data and without a run:

    python benchmarks/detector_ablation.py --report --out runs/detector_ablation
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import pictures
import ranks
from absl import logging
from detector_rows import (
    BASE,
    LEFT_OUT,
    PARTS,
    ROWS,
    SEEDS,
    SEEN,
    START,
    STRANGER,
    TESTED,
    TESTS,
    TUPLES,
    VARIANTS,
    config_of,
)
from ranks import Cell

from data_builders import build
from data_builders.command_line import DONE, Parser, run
from data_builders.errors import UserError
from data_builders.files import alone, csv_text, write_whole
from data_builders.paired import PairedDatasetBuilder
from data_builders.self_blended.builder import SelfBlended
from qad_jax import cpu
from qad_jax.evaluation import inference
from qad_jax.evaluation.bootstrap import interval
from qad_jax.evaluation.scores import Scores
from qad_jax.runs import checkpoints
from qad_jax.training import loop
from qad_jax.training.input_pipeline import TupleSource
from qad_jax.weights import pretrained

#: Its row, its seed, and its seconds of training: None where a process went on with what another
#: one had begun, whose time nobody knows.
Run = dict[str, Any]


class Ablation:
    """All runs so far, and what they gave, in files that are whole after each run.

    Args:
      out: The folder of the files.
      faces: The photographs; not needed for runs that have been made.
    """

    def __init__(self, out: Path, faces: Path | None) -> None:
        self.out, self._faces, self._data = out, faces, out / "data"
        self._path = out / "runs.json"
        self._locks = out / "locks"

    @property
    def runs(self) -> list[Run]:
        """All runs so far, by all processes."""
        return json.loads(self._path.read_text()) if self._path.exists() else []

    def run(self, row: str, seed: int) -> None:
        """Trains and tests, unless that has been done or another process does it."""
        folder = self.out / "runs" / f"{list(ROWS).index(row):02d}-{seed}"
        with alone(self._locks / folder.name, wait=False) as held:
            if held and not any((run["row"], run["seed"]) == (row, seed) for run in self.runs):
                self._run(row, seed, folder)
            if held:  # checkpoints of all runs take gigabytes; a process may have ended before this
                shutil.rmtree(folder, ignore_errors=True)

    def _run(self, row: str, seed: int, folder: Path) -> None:
        start = self._start()
        resumed = checkpoints.latest_step(folder) is not None
        began = time.monotonic()
        config = self._config(row, seed, start)
        loop.train(config, folder, [self._trained_on(plain=row == "- degradations")])
        seconds = None if resumed else round(time.monotonic() - began)
        found = self._test(config, folder)
        done: Run = {"row": row, "seed": seed, "seconds": seconds}
        with alone(self._locks / "results"):
            for name, scores in found.items():
                ranks.add(self._file(name), _name(row, seed), scores)
            write_whole(self._path, json.dumps([*self.runs, done], indent=1) + "\n")
        print(json.dumps(done), flush=True)

    def kept(self, name: str) -> ranks.Kept:
        """What the runs gave on a dataset."""
        return ranks.read(self._file(name))

    def _trained_on(self, plain: bool) -> PairedDatasetBuilder:
        given: dict[str, Any] = {"degraded": 0.0} if plain else {}
        return self._built("self_blended", manual_dir=self._faces, variants=VARIANTS, **given)

    def _tested_on(self, name: str) -> PairedDatasetBuilder:
        if name == STRANGER:
            return self._built(name)
        held_out = _of_test(self._faces, self.out / "faces of the test split")
        given: dict[str, Any] = {"variants": VARIANTS, "qualities": TESTED, "max_skipped": 0.2}
        return self._built(name, manual_dir=held_out, **given)

    def _built(self, name: str, **options: Any) -> PairedDatasetBuilder:
        with alone(self._locks / "data"):
            dataset = build.builder(name, data_dir=self._data, **options)  # reads what is built
            if not dataset.is_prepared():
                build.prepare(dataset)
        return dataset

    def _config(self, row: str, seed: int, start: Path | None) -> ml_collections.ConfigDict:
        tuples = self._trained_on(plain=False).info.splits["train"].num_examples
        return config_of(row, seed, self._data, tuples // TUPLES, start)

    def _start(self) -> Path:
        """Trains what all runs begin with, unless that has been done."""
        weights = self.out / "start.safetensors"
        with alone(self._locks / "start"):
            if not weights.exists():
                folder = self.out / "start"
                loop.train(self._config(START, 0, None), folder, [self._trained_on(plain=False)])
                pretrained.export(folder, weights)
        return weights

    def _test(self, config: ml_collections.ConfigDict, folder: Path) -> dict[str, Scores]:
        variables, _ = checkpoints.restore_for_evaluation(folder)
        step = inference.predict_step_of(config)
        return {
            name: inference.predict(
                step,
                variables,
                TupleSource(self._tested_on(name), "test", qualities, config.image_size),
                qualities=qualities,
                batch_size=32,
                label=f"test on {name}",
            )
            for name, qualities in TESTS.items()
        }

    def _file(self, name: str) -> Path:
        return self.out / f"{name.partition('/')[0]}.npz"


def _name(row: str, seed: int) -> str:
    return f"{row}, seed {seed}"


def _of_test(faces: Path, folder: Path) -> Path:
    """A folder with the files of the test split alone: only they are made at all qualities."""
    layout = SelfBlended.find(faces)
    rows = []
    folder.mkdir(parents=True, exist_ok=True)
    for files in layout.splits["test"]:
        link = folder / f"{files.video}{files.best.suffix}"
        with contextlib.suppress(FileExistsError):  # by this process or by another one
            link.symlink_to(files.best)
        rows.append((link.name, files.identity))
    write_whole(folder / "identities.csv", csv_text(("file", "identity"), rows, exact=True))
    return folder


def cells_of(runs: list[Run], test: ranks.Kept, part: str, quality: str) -> dict[str, Cell]:
    """The cell of each row that has a run, at one quality of one part of its test."""
    fake = test.label == 1
    left_out = np.isin(test.method, LEFT_OUT)
    keep = ~fake | {PARTS[0]: ~left_out, PARTS[1]: left_out, PARTS[2]: fake}[part]
    place = test.qualities.index(quality)
    found = {
        (row, run["seed"]): test.runs[_name(row, run["seed"])][keep, place]
        for row in ROWS
        for run in runs
        if run["row"] == row
    }
    return ranks.cells(test.label[keep], test.identity[keep], found, BASE)


def results(ablation: Ablation, runs: list[Run]) -> dict[tuple[str, str], dict[str, Cell]]:
    """`cells_of` for every part of the test and its qualities.

    Raises:
      UserError: There is no run yet with which the others are compared.
    """
    if not any(run["row"] == BASE for run in runs):
        raise UserError(f"{ablation.out}: has no run of {BASE!r}, with which all are compared")
    tests = {name: ablation.kept(name) for name in TESTS}
    of_part = {part: STRANGER if part == PARTS[2] else "self_blended" for part in PARTS}
    return {
        (part, quality): cells_of(runs, tests[name], part, quality)
        for part, name in of_part.items()
        for quality in TESTS[name]
    }


def table(runs: list[Run], found: Mapping[tuple[str, str], Mapping[str, Cell]]) -> str:
    """AUC in percent and its difference to the second row, as Markdown; bold where it is clear."""
    lines = []
    for part in PARTS:
        qualities = [quality for p, quality in found if p == part]
        lines += [f"*{part.capitalize()}*", ""]
        heads = [q if q in SEEN else f"*{q}*" for q in qualities]
        lines += [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
        for row in found[part, "raw"]:
            cells = [_text(row, found[part, quality][row]) for quality in qualities]
            lines.append(f"| {row} | {' | '.join(cells)} |")
        lines.append("")
    seeds = f"{len({run['seed'] for run in runs})} of {len(SEEDS)} seeds"
    timed = [run["seconds"] for run in runs if run["seconds"] is not None]
    hours = f"{sum(timed) / 3600:.1f} hours of training"
    if len(timed) < len(runs):
        hours += f" in the {len(timed)} that were not interrupted"
    lines.append(f"{len(runs)} runs with {seeds}, {hours}.")
    return "\n".join(lines) + "\n"


def _text(row: str, cell: Cell) -> str:
    if row == BASE:
        return f"{100 * cell.auc:.1f} ({ranks.interval_of(cell.drawn)})"
    text = f"{100 * cell.difference:+.1f}"
    return f"**{text}**" if cell.clear else text


def draw(found: Mapping[tuple[str, str], Mapping[str, Cell]], path: Path) -> None:
    """For each part and quality the difference to the second row: interval, mean, and seeds."""
    from matplotlib.figure import Figure

    rows = [row for row in found[PARTS[0], "raw"] if row != BASE]
    figure = Figure(figsize=(14, 0.34 * len(rows) * len(PARTS) + 2), layout="constrained")
    panels = figure.subplots(len(PARTS), len(TESTED), sharex="col", sharey=True, squeeze=False)
    for part, line in zip(PARTS, panels, strict=True):
        for quality, panel in zip(TESTED, line, strict=True):
            if (part, quality) not in found:
                panel.axis("off")
                continue
            of = found[part, quality]
            for place, row in enumerate(rows):
                cell = of[row]
                ends = [100 * end for end in interval(cell.differences) if end is not None]
                colour = "tab:blue" if cell.clear else "grey"
                panel.plot(ends, [place] * len(ends), color=colour)
                seeds = [100 * seed for seed in cell.seeds]
                panel.plot(seeds, [place] * len(seeds), ".", color="grey", markersize=4)
                panel.plot(100 * cell.difference, place, "o", color="black", markersize=4)
            panel.axvline(0, color="black", linewidth=0.6)
            unseen = "" if quality in SEEN else " (unseen)"
            panel.set_title(f"{part}:\n{quality}{unseen}", size=9)
            panel.grid(axis="x", alpha=0.3)
    panels[0][0].set_yticks(range(len(rows)), rows)
    panels[0][0].invert_yaxis()
    figure.supxlabel(f"difference of the AUC from '{BASE}', percentage points")
    pictures.write(figure, path, dpi=90)


def _job(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="python benchmarks/detector_ablation.py",
        description="Ablation of the detector on self_blended.",
    )
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--faces", type=Path, help="folder of real faces")
    given.add_argument("--report", action="store_true", help="no runs: of those that are there")
    parser.add_argument("--out", default="runs/detector_ablation", help="where all is kept")
    options = parser.parse_args(argv)
    cpu.tune()  # as the command does
    logging.set_verbosity(logging.ERROR)
    out = Path(options.out).absolute()
    ablation = Ablation(out, None if options.report else options.faces.absolute())
    for seed in SEEDS if not options.report else ():
        for row in ROWS:
            ablation.run(row, seed)
    runs = ablation.runs  # before their tests are read: another process may add one meanwhile
    found = results(ablation, runs)
    write_whole(out / "table.md", table(runs, found))
    draw(found, out / "ablation.png")
    print((out / "table.md").read_text())
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
