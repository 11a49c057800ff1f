"""The rows of the matrix, read from the results that evaluations have left in folders."""

from __future__ import annotations

import dataclasses
import glob
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_builders.errors import UserError
from data_builders.files import read_json
from data_builders.lists import no_folder
from qad_jax.evaluation.results import Estimate

#: Fields of a row as it is stored.
FIELDS = (
    "run",
    "step",
    "dataset",
    "split",
    "own",
    "quality",
    "method",
    "frames",
    "frame_auc",
    "frame_auc_low",
    "frame_auc_high",
    "videos",
    "video_auc",
    "video_auc_low",
    "video_auc_high",
)


@dataclasses.dataclass(frozen=True)
class MatrixRow:
    """The AUCs of one run on one dataset at one quality.

    Attributes:
      run: Name of the run.
      step: Step of its checkpoint; None for the scores of another tool.
      dataset: Full name of the dataset.
      split: Name of the split.
      own: Whether the run was trained on this dataset, of a method on its fakes; None where nobody
        knows.
      quality: Name of the quality.
      frames: Number of frames.
      frame: AUC over frames.
      videos: Number of videos.
      video: AUC over videos.
      method: The method whose fakes are set against all reals; empty: all methods together.
      scores: The file of scores that the numbers are of.
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
    method: str = ""
    scores: Path | None = None

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
            "method": self.method,
            "frames": self.frames,
            **self.frame.as_dict("frame_auc"),
            "videos": self.videos,
            **self.video.as_dict("video_auc"),
        }


def collect(
    folders: Sequence[Path], split: str, names: Sequence[str] | None = None
) -> list[MatrixRow]:
    """Reads the results that evaluations have left in folders.

    Args:
      folders: Folders of runs, or of results. The results of a run lie in `evaluation/<split>`
        and, on datasets that it was not trained on, in `evaluation/<dataset>/<split>`. Those of a
        run on several datasets are all in the latter; `run.json` names its datasets.
      split: Name of the split.
      names: What to call each; by default see `names_of`.

    Returns:
      A row for each run, dataset and quality, and behind those of a dataset the same for each of
      its methods where there are several.

    Raises:
      UserError: If a folder holds no results of the split, or they cannot be read.
    """
    return [
        row
        for folder, name in zip(folders, names or names_of(folders), strict=True)
        for path, own in _results(folder, split)
        for row in _rows(path, name, own, mixture(folder), _excluded(folder))
    ]


def names_of(folders: Sequence[Path]) -> list[str]:
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
    if not folder.is_dir():
        raise UserError(f"{folder}: {no_folder(folder)}; name the folder of a run or of results")
    direct = folder / "metrics.json"
    if direct.is_file():
        return [(direct, None)]
    place = folder / "evaluation"
    own = place / split / "metrics.json"
    files: list[tuple[Path, bool | None]] = [(own, True)] if own.is_file() else []
    files += [(path, False) for path in sorted(place.glob(f"*/{glob.escape(split)}/metrics.json"))]
    if not files:
        raise UserError(
            f"{folder}: holds no results of the split {split!r} (evaluation/{split}/metrics.json); "
            "evaluate it first, or name another split with --split"
        )
    return files


def mixture(folder: Path) -> list[str]:
    """Full names of the datasets of a run that was trained on several."""
    try:
        names = read_json(folder / "run.json")["dataset"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return names if isinstance(names, list) else []


def _excluded(folder: Path) -> dict[str, list[str]]:
    """The methods that a run was trained without, by the dataset that it was trained on."""
    try:
        named = read_json(folder / "run.json")["dataset"]
        stored = read_json(folder / "config.json")["dataset"]
        fields = stored if isinstance(stored, list) else [stored]
        names = named if isinstance(named, list) else [named]
        return {
            str(name): list(map(str, of.get("exclude_methods") or ()))
            for name, of in zip(names, fields, strict=False)
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _rows(
    path: Path,
    run: str,
    own: bool | None,
    mixture: Sequence[str],
    excluded: Mapping[str, Sequence[str]],
) -> list[MatrixRow]:
    try:
        stored = read_json(path)
        dataset = str(stored["dataset"])
        if own is False:
            own = dataset in mixture
        if type(stored["step"]) not in (int, type(None)):
            raise ValueError(f"step is {stored['step']!r}, no whole number")
        if not stored["qualities"]:
            raise ValueError("it has no quality")
        if stored["step"] in (None, 0):  # the training data of imported weights are not known
            own = None
        parts = [("", stored["qualities"]), *stored.get("methods", {}).items()]
        return [
            MatrixRow(
                run=run,
                step=stored["step"],
                dataset=dataset,
                split=str(stored["split"]),
                own=own and method not in excluded.get(dataset, ()),
                quality=quality,
                frames=int(result["frames"]),
                frame=Estimate.from_dict(result["frame"], "auc"),
                videos=int(result["videos"]),
                video=Estimate.from_dict(result["video"], "auc"),
                method=str(method),
                scores=path.with_name("scores.csv"),
            )
            for method, qualities in parts
            for quality, result in qualities.items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{path}: is not the result of an evaluation ({type(error).__name__}: {error})"
        ) from error
