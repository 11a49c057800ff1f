"""The curves of robustness: their classes, their files and the words that tell them.

This module imports neither JAX nor a dataset.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from data_builders.errors import UserError
from data_builders.files import read_json, write_csv, write_json
from qad_jax.evaluation.corruptions import CORRUPTIONS
from qad_jax.evaluation.results import Estimate

#: Name of the curve over the dataset's own qualities, which a codec made of whole videos.
H264 = "h264"
#: What the strength of each curve means.
TITLES = {**{name: one.title for name, one in CORRUPTIONS.items()}, H264: "H.264 CRF"}
#: Curves whose smaller strengths are the severe ones.
FALLING = ("jpeg",)


@dataclasses.dataclass(frozen=True)
class Aucs:
    """The AUC of one column of scores at both levels.

    Attributes:
      frame: Over frames.
      video: Over videos.
    """

    frame: Estimate
    video: Estimate

    def levels(self) -> Iterator[tuple[str, Estimate]]:
        """Each level with its AUC."""
        yield "frame", self.frame
        yield "video", self.video

    def as_dict(self) -> dict[str, Any]:
        """The stored form."""
        return {level: auc.as_dict("auc") for level, auc in self.levels()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Aucs:
        """Reads what `as_dict` gives."""
        return cls(*(Estimate.from_dict(stored[level], "auc") for level in ("frame", "video")))


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of a curve.

    Attributes:
      strength: Strength of the corruption, in the units of `TITLES`.
      auc: The AUC at this strength.
    """

    strength: float
    auc: Aucs

    def as_dict(self) -> dict[str, Any]:
        """The stored form."""
        return {"strength": self.strength, **self.auc.as_dict()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Point:
        """Reads what `as_dict` gives."""
        return cls(stored["strength"], Aucs.from_dict(stored))


#: The points of one corruption, from harmless to severe.
Curve: TypeAlias = tuple[Point, ...]


@dataclasses.dataclass(frozen=True)
class RunCurves:
    """The robustness of one run.

    Attributes:
      name: Name of the run.
      step: Step of its checkpoint.
      clean: The AUC on the images as they are.
      curves: A curve for each corruption, under its name; `H264` is there where the qualities of
        the dataset are named by a CRF.
      weights: Digest of its weights; None in older files.
    """

    name: str
    step: int
    clean: Aucs
    curves: Mapping[str, Curve]
    weights: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The stored form."""
        return {
            "name": self.name,
            "step": self.step,
            "weights": self.weights,
            "clean": self.clean.as_dict(),
            "curves": {
                name: [point.as_dict() for point in curve] for name, curve in self.curves.items()
            },
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> RunCurves:
        """Reads what `as_dict` gives."""
        return cls(
            name=stored["name"],
            step=stored["step"],
            clean=Aucs.from_dict(stored["clean"]),
            curves={
                name: tuple(Point.from_dict(point) for point in points)
                for name, points in stored["curves"].items()
            },
            weights=stored.get("weights"),
        )


@dataclasses.dataclass(frozen=True)
class Robustness:
    """What `robustness.json` holds: the curves of one run, or of several on the same images.

    Attributes:
      dataset: Full name of the dataset.
      split: Name of the split.
      quality: The quality whose images are corrupted.
      runs: The runs; words are about the first.
      digest: That of the records of the split; None where it is not known.
    """

    dataset: str
    split: str
    quality: str
    runs: tuple[RunCurves, ...]
    digest: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The stored form."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "quality": self.quality,
            "digest": self.digest,
            "runs": [run.as_dict() for run in self.runs],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Robustness:
        """Reads what `as_dict` gives."""
        return cls(
            dataset=stored["dataset"],
            split=stored["split"],
            quality=stored["quality"],
            runs=tuple(RunCurves.from_dict(run) for run in stored["runs"]),
            digest=stored.get("digest"),
        )


def headline(measured: Robustness) -> str:
    """A sentence that names the corruption which costs the first run most, if any costs it AUC."""
    run = measured.runs[0]
    clean = run.clean.frame.value
    aucs = [
        (point.auc.frame.value, name, point.strength)
        for name, curve in run.curves.items()
        for point in curve
        if name != H264 and point.auc.frame.value is not None
    ]
    if clean is None or not aucs:
        return f"AUC under corruptions of {measured.quality} is not defined."
    auc, name, strength = min(aucs)
    worst = f"{name} ({TITLES[name]}: {strength:g})"
    if auc >= clean:
        return (
            f"No corruption of {measured.quality} lowers frame AUC, which is {100 * clean:.1f} % "
            f"without one; it is lowest under {worst}: {100 * auc:.1f} %."
        )
    lost = f"{100 * (clean - auc):.1f}"
    return (
        f"Of the corruptions of {measured.quality}, {worst} costs most: it takes frame AUC from "
        f"{100 * clean:.1f} % to {100 * auc:.1f} %, "
        f"{'less than 0.1' if lost == '0.0' else lost} points down."
    )


def write(folder: Path, measured: Robustness) -> None:
    """Writes `robustness.json` and `robustness.csv`."""
    header = ("run", "corruption", "strength", "level", "auc", "low", "high")
    rows = [
        (run.name, name, point.strength, level, auc.value, auc.low, auc.high)
        for run in measured.runs
        for name, curve in run.curves.items()
        for point in curve
        for level, auc in point.auc.levels()
    ]
    write_csv(folder / "robustness.csv", header, rows)
    write_json(folder / "robustness.json", measured.as_dict())


def read(
    folder: Path, *, step: int | None, weights: str | None = None, digest: str | None = None
) -> Robustness | None:
    """Reads what an earlier evaluation measured of a checkpoint on the same records.

    Args:
      folder: Where `robustness.json` lies.
      step: Step of the checkpoint.
      weights: Digest of its weights. An older file does not have it.
      digest: Digest of the records. An older file does not have it.

    Returns:
      The curves; None where nothing was measured, or where it was of another checkpoint or of other
      records.
    """
    path = folder / "robustness.json"
    try:
        measured = Robustness.from_dict(read_json(path))
        first = measured.runs[0]
        digests = (first.weights, weights), (measured.digest, digest)
        same = all(None in pair or pair[0] == pair[1] for pair in digests)
        return measured if same and first.step == step else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path}: is not what an evaluation has measured ({type(error).__name__}: {error}); "
            "remove it, and measure again with --robustness"
        ) from error
