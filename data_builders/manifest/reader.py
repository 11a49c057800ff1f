"""Reads and checks the JSON that lists crops at several qualities."""

from __future__ import annotations

import collections
import hashlib
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_builders.errors import UserError, nearest
from data_builders.records import LABELS

_SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
_OPTIONAL = ("video", "method", "identity")
# What the fakes of a manifest are called that names no methods; reals are 'original' everywhere.
_METHODS = {"real": "original", "fake": "manipulated"}


class Tuple(NamedTuple):
    """One crop at every quality.

    Attributes:
      paths: For each quality the picture's file.
      label: 'real' or 'fake'.
      method: Manipulation method, 'original' where real.
      video: Name of the video.
      identity: Who is seen.
      frame: Index of the frame in the video.
    """

    paths: dict[str, Path]
    label: str
    method: str
    video: str
    identity: str
    frame: int


class Listing(NamedTuple):
    """A whole manifest: its qualities, and the tuples of each split."""

    qualities: tuple[str, ...]
    splits: dict[str, list[Tuple]]

    def digest(self) -> str:
        """A name for this content: changes with any path, size or date of a picture."""
        sha = hashlib.sha256()
        for split, tuples in self.splits.items():
            for item in tuples:
                files = [
                    (quality, str(path), path.stat().st_size, path.stat().st_mtime_ns)
                    for quality, path in item.paths.items()
                ]
                sha.update(repr((split, files, *item[1:])).encode())
        return sha.hexdigest()[:12]


def read(path: str | Path) -> Listing:
    """Reads a manifest and checks everything that can be checked without decoding a picture.

    The format is `{"train" | "val" | "test": {QUALITY: [paths], ..., "labels": [...]}}` with lists
    aligned by index and paths relative to the file's folder. Labels are 0 or 'real', 1 or 'fake'.
    Optional parallel lists are `video`, `method` and `identity`. Without `video`, the folder of a
    picture is its video, unless that folder also holds pictures of the other label or all pictures
    of its own; then each picture counts as a video. Without `identity`, the video is the identity.

    Args:
      path: The JSON file.

    Returns:
      What it lists.

    Raises:
      UserError: Naming the file and the place in it, for anything that is not as above, and for
        pictures that do not exist.
    """
    if not str(path):
        raise UserError("no manifest is named: give the path of a data.json")
    path = Path(path).expanduser().absolute()
    content = _load(path)
    splits: dict[str, list[Tuple]] = {}
    qualities: tuple[str, ...] = ()
    for key, lists in content.items():
        if key not in _SPLITS:
            raise UserError(f"{path}: unknown split {key!r}: {nearest(key, _SPLITS)}")
        found = _qualities(path, key, lists)
        qualities = qualities or found
        if set(found) != set(qualities):
            raise UserError(
                f"{path}: {key} has qualities {', '.join(found)}, another split has "
                f"{', '.join(qualities)}; all splits must have the same"
            )
        if _SPLITS[key] in splits:
            raise UserError(f"{path}: 'val' and 'validation' are the same split; keep one")
        splits[_SPLITS[key]] = _tuples(path, key, lists, qualities)
    if not any(splits.values()):
        raise UserError(f"{path}: lists no picture in any split")
    found_labels = {item.label for item in splits.get("train", [])}
    if len(found_labels) == 1:
        raise UserError(f"{path}: all train.labels are {found_labels.pop()!r}; both are needed")
    _check_exist(path, splits)
    _warn_of_shared_identities(path, content, splits)
    return Listing(qualities, {split: splits[split] for split in splits if splits[split]})


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot read the manifest: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise UserError(f"{path}: must be an object of splits (train, val, test), each an object")
    if not content:
        raise UserError(f"{path}: lists no split (train, val, test)")
    return content


def _qualities(path: Path, split: str, lists: Mapping[str, Any]) -> tuple[str, ...]:
    if "labels" not in lists:
        raise UserError(f"{path}: {split} has no list 'labels'")
    for name, values in lists.items():
        if not isinstance(values, list):
            raise UserError(f"{path}: {split}.{name} is not a list")
        if len(values) != len(lists["labels"]):
            raise UserError(
                f"{path}: {split}.{name} has {len(values)} entries, {split}.labels has "
                f"{len(lists['labels'])}; the lists must be aligned"
            )
    qualities = tuple(name for name in lists if name != "labels" and name not in _OPTIONAL)
    if not qualities:
        raise UserError(f"{path}: {split} lists no pictures at any quality")
    return qualities


def _label(path: Path, split: str, index: int, value: Any) -> str:
    if isinstance(value, str) and value.lower() in LABELS:
        return value.lower()
    if value in (0, 1) and not isinstance(value, bool):
        return LABELS[int(value)]
    raise UserError(f"{path}: {split}.labels[{index}] is {value!r}; must be 0, 1, 'real' or 'fake'")


def _tuples(
    path: Path, split: str, lists: Mapping[str, Sequence[Any]], qualities: Sequence[str]
) -> list[Tuple]:
    labels = [_label(path, split, i, value) for i, value in enumerate(lists["labels"])]
    for quality in qualities:
        for i, value in enumerate(lists[quality]):
            if not isinstance(value, str):
                raise UserError(f"{path}: {split}.{quality}[{i}] is {value!r}, not a path")
    best = [Path(name) for name in lists[qualities[0]]]
    methods = [str(m) for m in lists.get("method", [_METHODS[label] for label in labels])]
    videos = [str(v) for v in lists.get("video", _videos(best, labels))]
    identities = [str(i) for i in lists.get("identity", videos)]
    frames = _frames(best, list(zip(methods, videos, strict=True)))
    return [
        Tuple(
            {quality: path.parent / lists[quality][i] for quality in qualities},
            labels[i],
            methods[i],
            videos[i],
            identities[i],
            frames[i],
        )
        for i in range(len(labels))
    ]


def _videos(pictures: Sequence[Path], labels: Sequence[str]) -> list[str]:
    folders = collections.defaultdict(set)
    for picture, label in zip(pictures, labels, strict=True):
        folders[label].add(picture.parent)
    mixed = folders["real"] & folders["fake"]
    return [
        str(picture if picture.parent in mixed or len(folders[label]) == 1 else picture.parent)
        for picture, label in zip(pictures, labels, strict=True)
    ]


def _frames(pictures: Sequence[Path], videos: Sequence[tuple[str, str]]) -> list[int]:
    """The number that ends a file's name; where that is not unique in a video, the position."""
    numbers = [re.search(r"(\d{1,9})$", picture.stem) for picture in pictures]
    named = [int(number[1]) if number else -1 for number in numbers]
    seen = collections.Counter(zip(videos, named, strict=True))
    ambiguous = {video for (video, frame), count in seen.items() if count > 1 or frame < 0}
    position: collections.Counter[tuple[str, str]] = collections.Counter()
    frames = []
    for video, frame in zip(videos, named, strict=True):
        frames.append(position[video] if video in ambiguous else frame)
        position[video] += 1
    return frames


def _check_exist(path: Path, splits: Mapping[str, Sequence[Tuple]]) -> None:
    pictures = [p for tuples in splits.values() for item in tuples for p in item.paths.values()]
    missing = [picture for picture in pictures if not picture.is_file()]
    if missing:
        others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(f"{path}: picture {missing[0]} does not exist{others}")


def _warn_of_shared_identities(
    path: Path, content: Mapping[str, Any], splits: Mapping[str, Sequence[Tuple]]
) -> None:
    if not any("identity" in lists or "video" in lists for lists in content.values()):
        return
    who: dict[str, set[str]] = collections.defaultdict(set)
    for split, tuples in splits.items():
        for item in tuples:
            who[item.identity].add(split)
    shared = sorted(identity for identity, where in who.items() if len(where) > 1)
    if shared:
        warnings.warn(
            f"{path}: {len(shared)} identities are in more than one split ({shared[0]!r} is in "
            f"{', '.join(sorted(who[shared[0]]))}); numbers on them will be too good",
            stacklevel=2,
        )
