"""Reads and checks the JSON that lists crops at several qualities."""

from __future__ import annotations

import collections
import os
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_builders.errors import UserError, nearest
from data_builders.home import expanded
from data_builders.lists import as_text, check_count, first_of, located, one_form, read_json
from data_builders.manifest.listing import (
    Labels,
    Listing,
    Tuple,
    checked,
    in_two_splits,
    shared_identities,
)
from data_builders.qualities import check_names
from data_builders.records import LABELS

_SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
_OPTIONAL = ("video", "method", "identity")
# A file that two splits list stays in the first of these.
_KEPT_IN = ("test", "validation", "train")
# Methods where a manifest names none; a real video is 'original' in every dataset.
_METHODS = {"real": "original", "fake": "manipulated"}


class _Row(NamedTuple):
    """One entry of the lists of a split: its place in them, its files, and what is listed."""

    place: int
    paths: dict[str, Path]
    name: str
    label: str


def read(path: str | Path) -> Listing:
    """Reads a manifest, and checks all that can be checked without decoding an image.

    The format is `{"train" | "val" | "test": {QUALITY: [paths], ..., "labels": [...]}}` with lists
    aligned by index and paths relative to the file's folder. Labels are 0 or 'real', 1 or 'fake'.
    Optional parallel lists are `video`, `method` and `identity`. Without `video`, the folder of an
    image is its video, unless the folder also holds images of the other label, or all images of
    this label; then each image counts as a video. Without `identity`, the video is the identity.
    A value of these lists that is blank or null counts as absent.

    A file that is listed twice is kept once. What is left out or doubtful is warned of.

    Args:
      path: The JSON file.

    Returns:
      The content.

    Raises:
      UserError: The file is not as above, an image does not exist or has two labels. The message
        names the file and the place in it.
    """
    if not str(path):
        raise UserError("no manifest is named: give the path of a data.json")
    path = expanded(path).absolute()
    content = _load(path)
    keys: dict[str, str] = {}
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
        if _SPLITS[key] in keys:
            raise UserError(f"{path}: 'val' and 'validation' are the same split; keep one")
        keys[_SPLITS[key]] = key
    check_count(path, sum(len(lists["labels"]) for lists in content.values()) * len(qualities))
    rows = _rows(path, content, keys, qualities)
    if not any(rows.values()):
        raise UserError(f"{path}: lists no image in any split")
    rows, notes = _once(path, rows)
    splits = {split: _tuples(path, key, content[key], rows[split]) for split, key in keys.items()}
    notes += _shared_folders(rows, splits)
    if any("identity" in lists or "video" in lists for lists in content.values()):
        notes += shared_identities(splits)
    return checked(path, qualities, splits, notes)


def _load(path: Path) -> dict[str, Any]:
    content = read_json(path, "manifest")
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise UserError(f"{path}: must be an object of splits (train, val, test), each an object")
    if not content:
        raise UserError(f"{path}: lists no split (train, val, test)")
    return dict(content)


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
    check_names(path, qualities)
    return qualities


def _label(path: Path, split: str, index: int, value: Any) -> str:
    if isinstance(value, str) and value.lower() in LABELS:
        return value.lower()
    if value in (0, 1) and not isinstance(value, bool):
        return LABELS[int(value)]
    raise UserError(
        f"{path}: {split}.labels[{index}] is {reprlib.repr(value)}; must be 0, 1, 'real' or 'fake'"
    )


def _rows(
    path: Path, content: Mapping[str, Any], keys: Mapping[str, str], qualities: Sequence[str]
) -> dict[str, list[_Row]]:
    """Finds the files of each split.

    Raises:
      UserError: A label or a path is none, or files do not exist.
    """
    rows: dict[str, list[_Row]] = {}
    missing = []
    for split, key in keys.items():
        lists, rows[split] = content[key], []
        for index, value in enumerate(lists["labels"]):
            label, paths = _label(path, key, index, value), {}
            for quality in qualities:
                name = lists[quality][index]
                if not isinstance(name, str):
                    raise UserError(
                        f"{path}: {key}.{quality}[{index}] is {reprlib.repr(name)}, not a path"
                    )
                file = located(path.parent, name)
                paths[quality] = file or path.parent / name
                if file is None:
                    missing.append(paths[quality])
            best = qualities[0]
            # A name that no file can have cannot be shown, either.
            shown = "" if missing else _shown(path, lists[best][index], paths[best])
            rows[split].append(_Row(index, paths, shown, label))
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        count = sum(map(len, rows.values())) * len(qualities)
        raise UserError(
            f"{path}: image {missing[0]} does not exist{more}; {count} images are listed"
        )
    return rows


def _shown(path: Path, name: str, file: Path) -> str:
    """A path as people and all systems write it, which names of videos are made from."""
    plain = os.path.normpath(file)
    shown = plain.removeprefix(f"{path.parent}{os.sep}")
    if shown == plain and not os.path.isabs(name):
        shown = os.path.relpath(file, path.parent)
    return one_form(as_text(shown))


def _once(
    path: Path, rows: Mapping[str, Sequence[_Row]]
) -> tuple[dict[str, list[_Row]], list[str]]:
    """Keeps each image once, and says which ones were listed again.

    Raises:
      UserError: A file has two labels.
    """
    labels = Labels(path)
    kept: dict[str, list[_Row]] = {split: [] for split in rows}
    again = []
    for split in sorted(rows, key=_KEPT_IN.index):
        for row in rows[split]:
            best, *others = row.paths.values()
            if labels.add(best, row.label):
                kept[split].append(row)
            else:
                again.append(f"{best} in {split}")
            for file in others:
                labels.add(file, row.label)
    return kept, [f"listed again, and left out there: {first_of(again)}"] if again else []


def _tuples(
    path: Path, key: str, lists: Mapping[str, Sequence[Any]], rows: Sequence[_Row]
) -> list[Tuple]:
    def named(name: str, absent: Sequence[str]) -> list[str]:
        values = lists.get(name)
        return [
            _text(path, f"{key}.{name}[{row.place}]", values[row.place] if values else None)
            or other
            for row, other in zip(rows, absent, strict=True)
        ]

    methods = named("method", [_METHODS[row.label] for row in rows])
    videos = named("video", _videos(rows))
    identities = named("identity", videos)
    frames = _frames([row.name for row in rows], list(zip(methods, videos, strict=True)))
    about = zip(methods, videos, identities, frames, strict=True)
    return [Tuple(row.paths, row.label, *each) for row, each in zip(rows, about, strict=True)]


def _text(path: Path, where: str, value: Any) -> str:
    """A value of an optional list as text; '' for null, NaN, which tables write, and blanks."""
    if value is None or value != value:
        return ""
    text = str(value).strip()
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{path}: {where} is {text[:40]}; must be text or a number")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UserError(f"{path}: {where} is {text!r}, which is not valid Unicode")
    return one_form(text)


def _videos(rows: Sequence[_Row]) -> list[str]:
    folders = collections.defaultdict(set)
    for row in rows:
        folders[row.label].add(_folder(row))
    mixed = folders["real"] & folders["fake"]
    return [
        row.name if _folder(row) in mixed or len(folders[row.label]) == 1 else _folder(row)
        for row in rows
    ]


def _folder(row: _Row) -> str:
    return os.path.dirname(row.name)


def _frames(names: Sequence[str], videos: Sequence[tuple[str, str]]) -> list[int]:
    """The number that ends a file's name; where it is not unique in a video, the position."""
    numbers = [re.search(r"([0-9]{1,9})$", Path(name).stem) for name in names]
    named = [int(number[1]) if number else -1 for number in numbers]
    seen = collections.Counter(zip(videos, named, strict=True))
    ambiguous = {video for (video, frame), count in seen.items() if count > 1 or frame < 0}
    position: collections.Counter[tuple[str, str]] = collections.Counter()
    frames = []
    for video, frame in zip(videos, named, strict=True):
        frames.append(position[video] if video in ambiguous else frame)
        position[video] += 1
    return frames


def _shared_folders(
    rows: Mapping[str, Sequence[_Row]], splits: Mapping[str, Sequence[Tuple]]
) -> list[str]:
    """Notes folders in two splits, where nothing says which images are of one video."""
    pairs = (
        (_folder(row) or ".", split)
        for split in rows
        for row, item in zip(rows[split], splits[split], strict=True)
        if item.identity == item.video and item.video in (row.name, _folder(row))
    )
    return [
        f"{shared}, and there is no list 'video': if such a folder holds one video, results on it "
        "will be too good"
        for shared in in_two_splits("folders", pairs)
    ]
