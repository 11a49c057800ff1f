"""Reads and checks the JSON that lists crops at several qualities."""

from __future__ import annotations

import collections
import hashlib
import os
import re
import reprlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_builders.errors import UserError, nearest
from data_builders.files import read_json
from data_builders.records import LABELS

_SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
_OPTIONAL = ("video", "method", "identity")
# Methods where a manifest names none; a real video is 'original' in every dataset.
_METHODS = {"real": "original", "fake": "manipulated"}


class Tuple(NamedTuple):
    """One crop at every quality.

    Attributes:
      paths: The image's file at each quality.
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
    """The content of a manifest: its qualities, and the tuples of each split."""

    qualities: tuple[str, ...]
    splits: dict[str, list[Tuple]]

    def digest(self) -> str:
        """Digests the content: it changes with any path, size or date of an image."""
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
    """Reads a manifest, and checks all that can be checked without decoding an image.

    The format is `{"train" | "val" | "test": {QUALITY: [paths], ..., "labels": [...]}}` with lists
    aligned by index and paths relative to the file's folder. Labels are 0 or 'real', 1 or 'fake'.
    Optional parallel lists are `video`, `method` and `identity`. Without `video`, the folder of an
    image is its video, unless the folder also holds images of the other label, or all images of
    this label; then each image counts as a video. Without `identity`, the video is the identity.

    Args:
      path: The JSON file.

    Returns:
      The content.

    Raises:
      UserError: The file is not as above, or an image does not exist. The message names the file
        and the place in it.
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
        own_qualities = _qualities(path, key, lists)
        qualities = qualities or own_qualities
        if set(own_qualities) != set(qualities):
            raise UserError(
                f"{path}: {key} has qualities {', '.join(own_qualities)}, another split has "
                f"{', '.join(qualities)}; all splits must have the same"
            )
        if _SPLITS[key] in splits:
            raise UserError(f"{path}: 'val' and 'validation' are the same split; keep one")
        splits[_SPLITS[key]] = _tuples(path, key, lists, qualities)
    if not any(splits.values()):
        raise UserError(f"{path}: lists no image in any split")
    train_labels = {item.label for item in splits.get("train", [])}
    if len(train_labels) == 1:
        raise UserError(f"{path}: all train.labels are {train_labels.pop()!r}; both are needed")
    _check_exist(path, splits)
    _warn_of_shared_identities(path, content, splits)
    return Listing(qualities, {split: splits[split] for split in splits if splits[split]})


def _load(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except OSError as error:
        raise UserError(f"{path}: cannot read the manifest: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise UserError(f"{path}: must be an object of splits (train, val, test), each an object")
    if not content:
        raise UserError(f"{path}: lists no split (train, val, test)")
    return content


def _qualities(path: Path, split: str, lists: Mapping[str, Any]) -> tuple[str, ...]:
    if not isinstance(lists.get("labels"), list):
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
        raise UserError(f"{path}: {split} lists no images at any quality")
    return qualities


def _label(path: Path, split: str, index: int, value: Any) -> str:
    if isinstance(value, str) and value.lower() in LABELS:
        return value.lower()
    if value in (0, 1) and not isinstance(value, bool):
        return LABELS[int(value)]
    raise UserError(
        f"{path}: {split}.labels[{index}] is {reprlib.repr(value)}; must be 0, 1, 'real' or 'fake'"
    )


def _tuples(
    path: Path, split: str, lists: Mapping[str, Sequence[Any]], qualities: Sequence[str]
) -> list[Tuple]:
    labels = [_label(path, split, i, value) for i, value in enumerate(lists["labels"])]
    for quality in qualities:
        for i, value in enumerate(lists[quality]):
            if not isinstance(value, str):
                raise UserError(
                    f"{path}: {split}.{quality}[{i}] is {reprlib.repr(value)}, not a path"
                )
    for name in _OPTIONAL:
        for i, value in enumerate(lists.get(name, ())):
            if not isinstance(value, str | int | float):
                raise UserError(f"{path}: {split}.{name}[{i}] is {reprlib.repr(value)}, not a name")
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


def _videos(paths: Sequence[Path], labels: Sequence[str]) -> list[str]:
    folders = collections.defaultdict(set)
    for path, label in zip(paths, labels, strict=True):
        folders[label].add(path.parent)
    mixed = folders["real"] & folders["fake"]
    return [
        str(path if path.parent in mixed or len(folders[label]) == 1 else path.parent)
        for path, label in zip(paths, labels, strict=True)
    ]


def _frames(paths: Sequence[Path], videos: Sequence[tuple[str, str]]) -> list[int]:
    """The number that ends a file's name; where it is not unique in a video, the position."""
    numbers = [re.search(r"(\d{1,9})$", path.stem) for path in paths]
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
    images = [p for tuples in splits.values() for item in tuples for p in item.paths.values()]
    missing_files = [image for image in images if not os.path.isfile(image)]
    if missing_files:
        others = f" (and {len(missing_files) - 1} more)" if len(missing_files) > 1 else ""
        raise UserError(f"{path}: image {missing_files[0]} does not exist{others}")


def _warn_of_shared_identities(
    path: Path, content: Mapping[str, Any], splits: Mapping[str, Sequence[Tuple]]
) -> None:
    if not any("identity" in lists or "video" in lists for lists in content.values()):
        return
    splits_of: dict[str, set[str]] = collections.defaultdict(set)
    for split, tuples in splits.items():
        for item in tuples:
            splits_of[item.identity].add(split)
    shared = sorted(identity for identity, where in splits_of.items() if len(where) > 1)
    if shared:
        warnings.warn(
            f"{path}: {len(shared)} identities are in more than one split ({shared[0]!r} is in "
            f"{', '.join(sorted(splits_of[shared[0]]))}); results on them will be too good",
            stacklevel=2,
        )
