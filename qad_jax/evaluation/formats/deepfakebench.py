"""The scores that a training in DeepfakeBench leaves: two pickles in a folder for each dataset.

`metric_dict_best.pickle` has the scores and labels, `data_dict_test.pickle` the frames, in the same
order. They are read without running what they name.
"""

from __future__ import annotations

import collections
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_builders import lists
from data_builders.errors import UserError
from data_builders.files import kind_of_no_file
from qad_jax.evaluation import metrics, score_dialect, scores
from qad_jax.evaluation.scores import Scores
from qad_jax.weights import array_pickle
from qad_jax.weights.pickle_machine import MOST_STEPS, RefusedError, TooLongError

_METRICS, _DATA = "metric_dict_best.pickle", "data_dict_test.pickle"
_COMPRESSION = re.compile(r"c[0-9]{1,2}|raw")
_NUMBER = re.compile(r"[0-9]{1,18}$")
_LONGEST_PATH, _MOST_CHARACTERS = 4096, 256 * 2**20
_METHODS = "original", "fake"  # of frames whose path has no folder for it
_DATASET = "qad-jax"  # the first folder of the paths that are written


def metrics_file(path: Path) -> Path | None:
    """The file with the scores, if a path is it, the file beside it, or their folder."""
    if path.is_dir():
        return path / _METRICS if (path / _METRICS).is_file() else None
    if path.name == _DATA:
        return path.with_name(_METRICS)
    return path if path.name == _METRICS or _begins_as_pickle(path) else None


def _begins_as_pickle(path: Path) -> bool:
    """Whether a file begins as pickles do since protocol 2, and no text in UTF-8 can."""
    try:
        if kind_of_no_file(path):
            return False
        with path.open("rb") as file:
            return file.read(1) == pickle.PROTO
    except OSError:
        return False  # whoever reads it says why


def both_files(path: Path) -> tuple[Path, Path]:
    """The file with the scores, and that with the frames."""
    return path, path.with_name(_DATA)


def read(path: Path) -> Scores:
    """Reads the scores of one dataset.

    Args:
      path: The file with the scores; that with the frames is beside it.

    Raises:
      UserError: A file is not there, damaged, refused, or does not fit to the other.
    """
    _, beside = both_files(path)
    if not beside.is_file():
        raise UserError(
            f"{beside}: is not there: the names of the frames are in it; DeepfakeBench writes it "
            "into the same folder"
        )
    stored, frames = _dictionary(path, ("pred", "label")), _dictionary(beside, ("image", "label"))
    images = frames["image"]
    if not isinstance(images, list | tuple):
        raise UserError(f"{beside}: 'image' must be a list of paths")
    paths, room = [], _MOST_CHARACTERS
    for image in images:
        paths.append(_path(beside, image))
        # A pickle may hold one text a million times, which is written out only here.
        room -= len(paths[-1])
        if room < 0:
            raise UserError(f"{beside}: its paths are too long; test on fewer frames")
    made = _numbers(path, stored["pred"], "pred", paths)
    labels = _numbers(path, stored["label"], "label", paths)
    others = _numbers(beside, frames["label"], "label", paths)
    # 1 and more say which method: all are fakes.
    differs = np.flatnonzero((labels != 0) != (others != 0))
    if differs.size:
        raise UserError(
            f"{path}: label {differs[0]} is not that of {beside.name}; the two files are of "
            "different tests, or in different orders"
        )
    if not np.isin(labels, range(256)).all():
        raise UserError(f"{path}: labels must be whole numbers, 0 for real")
    if (beyond := np.abs(made) > score_dialect.LARGEST_SCORE).any():
        row = int(beyond.argmax())
        raise UserError(f"{path}: pred {row} is {made[row]:.4g}; {score_dialect.SCORE_RANGE}")
    return scores.collect(
        path, _rows(path, paths, (labels != 0).astype(int).tolist(), made.tolist())
    )


def _dictionary(path: Path, names: Sequence[str]) -> dict[str, Any]:
    data = lists.read_bytes(path, "file of scores")
    try:
        content = array_pickle.load(data)
    except RefusedError as error:
        raise UserError(
            f"{path}: refused: its pickle names {error}, which reading it would import and run; "
            "only arrays of NumPy and plain containers are read"
        ) from error
    except TooLongError as error:
        raise UserError(
            f"{path}: its pickle takes more than {MOST_STEPS:,} steps to read; test on fewer frames"
        ) from error
    except Exception as error:  # bytes that are no pickle can raise anything
        raise UserError(
            f"{path}: is damaged, cut off, or no pickle of DeepfakeBench; get the file again"
        ) from error
    for name in names:
        if not isinstance(content, dict) or name not in content:
            raise UserError(f"{path}: has no {name!r}; must be what DeepfakeBench's trainer writes")
    return content


def _path(file: Path, image: Any) -> str:
    # Detectors of clips have a list of paths for each score; the first says where the clip begins.
    first = image[0] if isinstance(image, list | tuple) and image else image
    if not isinstance(first, str) or not 0 < len(first) <= _LONGEST_PATH:
        raise UserError(f"{file}: 'image' must be a list of paths, or of lists of them")
    try:
        first.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{file}: the path {first!r} has half of a character") from None
    return first.replace("\\", "/")


def _numbers(file: Path, value: Any, name: str, paths: Sequence[str]) -> Any:
    try:
        return array_pickle.numbers(value, len(paths))
    except Exception as error:
        raise UserError(
            f"{file}: {name!r} must be {len(paths)} numbers, one for each frame of {_DATA}"
        ) from error


def _rows(
    path: Path, paths: Sequence[str], labels: Sequence[int], made: Sequence[float]
) -> list[scores.Row]:
    twice = [name for name, count in collections.Counter(paths).items() if count > 1]
    if twice:
        raise UserError(f"{path}: {lists.first_of(twice)} occurs twice; keep one score of each")
    places = [_place(name, label) for name, label in zip(paths, labels, strict=True)]
    if not all(place[1] for place in places):  # all such frames would be one video
        raise UserError(f"{path}: a frame has a path without the folder of its video")
    compressions = {place[2] for place in places}
    quality = compressions.pop() if len(compressions) == 1 else "all"
    quality = {"c0": "raw"}.get(quality, quality)
    files = (name.rpartition("/")[2] for name in paths)
    numbers = [_NUMBER.search(name.rpartition(".")[0] or name) for name in files]
    videos = [place[:2] for place in places]
    frames = [int(number[0]) if number else 0 for number in numbers]
    if not all(numbers) or len(set(zip(videos, frames, strict=True))) < len(frames):
        # Names that are no numbers of frames: frames are counted in the order of the file.
        counts: collections.Counter[tuple[str, str]] = collections.Counter()
        for i, video in enumerate(videos):
            frames[i] = counts[video]
            counts[video] += 1
    return [
        # TARGET_SOURCE, idA_idB_NNNN, idA_NNNN: the person who is seen comes first.
        scores.Row(
            f"{path}: score {i}",
            *video,
            video[1].partition("_")[0] or video[1],
            frames[i],
            quality,
            label,
            score,
        )
        for i, (video, label, score) in enumerate(zip(videos, labels, made, strict=True))
    ]


def _place(name: str, label: int) -> tuple[str, str, str]:
    """Method, video and compression of a frame, from the folders it lies in."""
    *folders, video, _ = ["", *name.split("/")]
    if folders and folders[-1] == "frames":
        folders.pop()
    compression = "all"
    if folders and _COMPRESSION.fullmatch(folders[-1]):
        compression = folders.pop()
    return (folders[-1] if folders else "") or _METHODS[label], video, compression


def files(made: Scores) -> dict[str, str | bytes]:
    """The two files, by name, that a test in DeepfakeBench would leave of one quality.

    Args:
      made: One quality.

    Raises:
      UserError: A frame has a number that no file can be called by.
    """
    (quality,) = made.qualities
    compression = [quality] if _COMPRESSION.fullmatch(quality) else []
    if (made.frame < 0).any():
        raise UserError("--export deepfakebench: a frame has a number below 0; count them from 0")
    images = []
    for method, video, frame in zip(made.method, made.video, made.frame.tolist(), strict=True):
        folders = [_DATASET, _folder(method), *compression, "frames", _folder(video)]
        images.append("/".join([*folders, f"{frame:03d}.png"]))
    score, label = made.score[:, 0].astype(np.float64), made.label.astype(np.int64)
    videos = made.videos()
    stored = {
        **_numbers_of(label, score),
        "pred": score,
        "video_auc": _numbers_of(videos.label, videos.score[:, 0])["auc"],
        "label": label,
    }
    listed = {"image": images, "label": label.tolist()}
    return {_METRICS: array_pickle.dump(stored), _DATA: array_pickle.dump(listed)}


def _folder(name: str) -> str:
    """A name that can be one folder of a path, and that no other name becomes."""
    for mark in "%/\\":
        name = name.replace(mark, f"%{ord(mark):02X}")
    return {"": "%", ".": "%2E", "..": "%2E%2E"}.get(name, name)


def _numbers_of(label: Any, score: Any) -> dict[str, float]:
    names = {"acc": "accuracy", "auc": "auc", "eer": "eer", "ap": "average_precision"}
    if not np.isfinite(score).all():
        return dict.fromkeys(names, float("nan"))
    numbers = metrics.Ranking(label, score).numbers(np.ones((1, 1)))
    return {theirs: float(numbers[ours][0]) for theirs, ours in names.items()}
