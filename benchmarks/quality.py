"""Fits and tests `qad_jax.detection.quality` on photographs of faces.

Each photograph is filmed as `self_blended` films it, without its earlier encodings, and encoded in
many ways (`quality_clips.py`). Identities are split as there: training fits the trees and the
weights of quantisers, validation the intervals, test is reported. Killed, it goes on where it was.

    python benchmarks/quality.py --faces DIR --out runs/quality

Leaves in the folder `quality_model.json`, which is copied into `qad_jax/detection`; `table.md`, the
errors on the test split; and `estimates.json` for `quality_cost.py`. Takes some ten minutes on one
CPU core.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import photographs
import quality_clips
from quality_clips import Row
from sklearn.ensemble import GradientBoostingRegressor

from data_builders.clips import VideoFiles
from data_builders.command_line import DONE, Parser, run
from data_builders.errors import UserError
from data_builders.files import write_whole
from data_builders.self_blended.builder import SelfBlended
from qad_jax.detection import quality
from qad_jax.detection.codec_numbers import CodecNumbers
from qad_jax.detection.pixel_features import FEATURES

PHOTOGRAPHS = {"train": 98, "validation": 24, "test": 24}
QUALITIES = ("raw", "c23", "c40")
TREES, RATE = 250, 0.08


def collect(folder: Path, out: Path) -> dict[str, list[Row]]:
    """The rows of each split; those of a photograph are kept in a file.

    Raises:
      UserError: A split has no photograph that shows a face.
    """
    cv2.setNumThreads(1)
    layout = SelfBlended.find(folder).splits
    chosen = {
        # In the order of a digest, and the splits in turn: any part of the run is a sample.
        ((place + 0.5) / PHOTOGRAPHS[split], split): one
        for split, listed in layout.items()
        for place, one in enumerate(
            sorted(listed, key=lambda one: _digest(one.best))[: PHOTOGRAPHS[split]]
        )
    }
    split_of = {one.best: split for (_, split), one in chosen.items()}

    def file_of(one: VideoFiles) -> Path:
        # Two folders may have files of one name.
        return out / f"{split_of[one.best]}-{one.video}.json"

    def encoded(one: VideoFiles) -> list[dict[str, Any]]:
        if (file := file_of(one)).exists():
            return json.loads(file.read_text())
        made = quality_clips.rows(one.best, tested=split_of[one.best] == "test")
        return list(map(_to_json, made))

    rows: dict[str, list[Row]] = {split: [] for split in layout}
    for one, made in photographs.used([chosen[key] for key in sorted(chosen)], encoded, "encoded"):
        if not (file := file_of(one)).exists():
            write_whole(file, json.dumps(made))
        rows[split_of[one.best]] += map(_from_json, made)
    if missing := [split for split, made in rows.items() if not made]:
        raise UserError(f"{folder}: no photograph of the {missing[0]} split shows a face")
    return rows


def _digest(path: Path) -> str:
    return hashlib.sha256(path.name.encode()).hexdigest()


def _to_json(row: Row) -> dict[str, Any]:
    return {**dataclasses.asdict(row), "crf": float(row.crf), "features": row.features.tolist()}


def _from_json(row: dict[str, Any]) -> Row:
    numbers = row["numbers"] and CodecNumbers(**row["numbers"])
    features = np.array(row["features"], np.float64).reshape(-1, FEATURES)
    return Row(row["kind"], row["detail"], row["crf"], features, numbers)


def fit(train: Sequence[Row], validation: Sequence[Row]) -> dict[str, Any]:
    """Fits all that `quality_model.json` holds."""
    features = np.concatenate([row.features for row in train])
    crfs = np.concatenate([np.full(len(row.features), row.crf) for row in train])
    boosted = GradientBoostingRegressor(
        n_estimators=TREES,
        max_depth=3,
        learning_rate=RATE,
        subsample=0.5,
        min_samples_leaf=20,
        max_features=0.3,
        random_state=0,
    ).fit(features, crfs)
    model: dict[str, Any] = {
        "made_by": "benchmarks/quality.py",
        "trees": _as_arrays(boosted),
        "codecs": {
            codec: _weights(codec, kinds, train, validation)
            for codec, kinds in (
                ("h264", ("h264", "resized", "other h264")),
                ("mpeg", ("mpeg4",)),
                ("jpeg", ("jpeg",)),
            )
        },
        "messenger": round(
            float(np.median([row.crf for row in train if row.kind == "messenger"])), 1
        ),
    }
    seen = [row for row in validation if len(row.features)]
    estimates = np.array([quality.by_trees(row.features, model["trees"]).mean() for row in seen])
    errors = np.array([row.crf for row in seen]) - estimates
    knots = (12, 18, 24, 30, 36, 42, 48)
    ends = [np.quantile(errors[np.abs(estimates - at) <= 5], (0.05, 0.95)) for at in knots]
    low, high = np.round(ends, 1).T.tolist()
    model["pixels"] = {"at": knots, "low": low, "high": high}
    return model


def _as_arrays(boosted: GradientBoostingRegressor) -> dict[str, Any]:
    """The trees as complete binary trees, each of them in breadth-first order."""
    feature, threshold, leaves = [], [], []
    for (one,) in boosted.estimators_:
        tree, level = one.tree_, [0]
        for _ in range(3):
            children = []
            for node in level:
                ends = tree.children_left[node] < 0  # a leaf: both ways lead to it
                feature.append(0 if ends else int(tree.feature[node]))
                threshold.append(0.0 if ends else float(f"{tree.threshold[node]:.5g}"))
                left, right = tree.children_left[node], tree.children_right[node]
                children += [node, node] if ends else [left, right]
            level = children
        leaves += [float(f"{RATE * tree.value[node, 0, 0]:.4g}") for node in level]
    constant = round(float(boosted.init_.constant_[0, 0]), 4)
    return {"constant": constant, "feature": feature, "threshold": threshold, "leaves": leaves}


def _weights(
    codec: str, kinds: Sequence[str], train: Sequence[Row], validation: Sequence[Row]
) -> dict[str, Any]:
    """From the quantisers of key frames and of others to a CRF, by least squares."""

    def arrays(rows: Iterable[Row]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        used = [row for row in rows if row.kind in kinds and row.numbers and row.crf > quality.RAW]
        numbers = [row.numbers for row in used if row.numbers]
        quantisers = [
            # Only H.264 has quantisers that differ much between the two.
            [n.key_quantiser if codec == "h264" else 0.0, n.quantiser, 1.0]
            for n in numbers
        ]
        return np.array(quantisers, np.float64), np.array([row.crf for row in used])

    design, crfs = arrays(train)
    weights = np.linalg.lstsq(design, crfs, rcond=None)[0]
    design, crfs = arrays(validation)
    errors = crfs - design @ weights
    return {
        "weights": [round(float(weight), 3) for weight in weights],
        "error": [round(float(end), 1) for end in np.quantile(errors, (0.05, 0.95))],
    }


def table(test: Sequence[Row], model: dict[str, Any]) -> str:
    """Errors on the test split, as a table of Markdown."""
    groups: dict[tuple[str, str], list[Row]] = collections.defaultdict(list)
    for row in test:
        groups[row.kind, row.detail].append(row)
    lines = [
        "| file | files | true CRF | quantiser | pixels | both | in interval | nearest "
        "(pixels, both) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (kind, detail), rows in groups.items():
        truth = np.array([row.crf for row in rows])
        named = [quality.nearest(_exact(row.crf), QUALITIES) for row in rows]
        cells = []
        sources: tuple[Callable[[Row], quality.Quality], ...] = (
            lambda row: quality.from_features(row.features[:0], row.numbers, model),
            lambda row: quality.from_features(row.features, None, model),
            lambda row: quality.from_features(row.features, row.numbers, model),
        )
        right = []
        for source in sources:
            made = [source(row) for row in rows]
            errors = np.array([one.crf for one in made]) - truth
            unknown = made[0].reason.startswith("a guess")
            cells.append("" if unknown else f"{np.abs(errors).mean():.1f} ({errors.mean():+.1f})")
            chosen = [quality.nearest(one, QUALITIES) for one in made]
            right.append(np.mean([a == b for a, b in zip(chosen, named, strict=True)]))
        inside = np.mean([one.low <= crf <= one.high for one, crf in zip(made, truth, strict=True)])
        lines.append(
            f"| {kind} {detail} | {len(rows)} | {truth.mean():.1f} | {' | '.join(cells)} | "
            f"{inside:.0%} | {right[1]:.0%}, {right[2]:.0%} |"
        )
    return "\n".join(lines) + "\n"


def confusion(test: Sequence[Row], model: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """For each tested CRF the estimates of its files, by the pixels and by both sources."""
    found: dict[str, dict[str, list[float]]] = {"pixels": {}, "both": {}}
    for row in test:
        if row.kind in ("raw", "h264"):
            name = "raw" if row.kind == "raw" else f"c{row.detail}"
            for source, numbers in (("pixels", None), ("both", row.numbers)):
                made = quality.from_features(row.features, numbers, model)
                found[source].setdefault(name, []).append(round(made.crf, 2))
    return found


def _exact(crf: float) -> quality.Quality:
    return quality.Quality(crf, crf, crf, "")


def _job(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="python benchmarks/quality.py",
        description="Fits and tests the estimate of a crop's quality.",
    )
    parser.add_argument("--faces", type=Path, required=True, help="a folder of photographs")
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    options = parser.parse_args(argv)
    rows = collect(options.faces, options.out / "clips")
    model = fit(rows["train"], rows["validation"])
    write_whole(options.out / "quality_model.json", json.dumps(model, separators=(",", ":")) + "\n")
    write_whole(options.out / "estimates.json", json.dumps(confusion(rows["test"], model)) + "\n")
    results = table(rows["test"], model)
    write_whole(options.out / "table.md", results)
    print(results)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
