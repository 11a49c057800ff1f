"""Reads the JSON of DeepfakeBench: dataset, label, split, (compression,) video, frames."""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from data_builders.errors import UserError
from data_builders.home import expanded
from data_builders.lists import check_count, first_of, located, read_json
from data_builders.manifest.listing import Labels, Listing, Tuple, checked, shared_identities
from data_builders.qualities import check_names

# A video stays in the first of these splits that lists it.
_SPLITS = {"test": "test", "val": "validation", "train": "train"}


class _Video(NamedTuple):
    """One video at one compression, as it is listed."""

    split: str
    quality: str
    label: str
    video: str
    frames: list[str]
    method: str = ""

    @property
    def kind(self) -> str:
        return "real" if self.label.lower().endswith("real") else "fake"

    @property
    def key(self) -> tuple[str, str, str]:
        method = self.method or self.label
        return self.kind, "original" if self.kind == "real" else method, self.video


#: A split, and the kind, method and name of a video in it.
_Where: TypeAlias = tuple[str, tuple[str, str, str]]


def read(
    json_path: str | Path,
    root: str | Path,
    *,
    under: str = "",
    method: Callable[[str], str] = lambda _: "",
) -> Listing:
    """Reads a listing of crops. It takes a frame if its files exist at every compression.

    The number in a file's name is the index of its frame. Videos of the test split are often listed
    for training or validation too: they are left out there. All that is left out is counted in a
    warning.

    Args:
      json_path: The JSON file.
      root: The folder to which the paths in it are relative.
      under: What the paths have before the part that is relative, at any place in them.
      method: Gives the method of a fake by the path of its first frame; '' for its label.

    Raises:
      UserError: The file has another format, contradicts itself, or lists nothing that is under
        `root`, or in one split nothing of one class.
    """
    path, root = expanded(json_path), expanded(root).absolute()
    listed = [
        video._replace(
            frames=[
                name.replace("\\", "/").rpartition(under)[2] if under else name
                for name in video.frames
            ],
            method=method(video.frames[0]) if video.frames else "",
        )
        for video in _videos(path)
    ]
    check_count(path, sum(len(video.frames) for video in listed))
    qualities = sorted({video.quality for video in listed}, key=_crf)
    check_names(path, qualities)
    images, notes = _find(path, root, listed)
    complete = {
        where: [(n, files) for n, files in sorted(frames.items()) if len(files) == len(qualities)]
        for where, frames in images.items()
    }
    _check_classes(path, root, listed, complete)
    splits: dict[str, list[Tuple]] = {"train": [], "validation": [], "test": []}
    taken: dict[tuple[str, str, str], str] = {}
    repeated: collections.Counter[tuple[str, str]] = collections.Counter()
    for split in _SPLITS.values():
        for (where, key), frames in complete.items():
            if where == split and taken.setdefault(key, split) == split:
                # TARGET_SOURCE, idA_idB_NNNN, idA_NNNN: the person who is seen comes first.
                about = (*key, key[-1].partition("_")[0])
                splits[split] += [
                    Tuple({quality: files[quality] for quality in qualities}, *about, number)
                    for number, files in frames
                ]
            elif where == split:
                repeated[split, taken[key]] += 1
    if not any(splits.values()):
        raise UserError(f"{path}: no crop that it lists is under {root} at every compression")
    incomplete = sum(map(len, images.values())) - sum(map(len, complete.values()))
    if incomplete:
        notes.append(f"{incomplete} frames are left out: not there at every compression")
    for (split, other), count in repeated.items():
        notes.append(f"{count} videos are left out of {split}: in {other}")
    return checked(path, qualities, splits, notes + shared_identities(splits))


def _find(
    path: Path, root: Path, listed: Sequence[_Video]
) -> tuple[dict[_Where, dict[int, dict[str, Path]]], list[str]]:
    """Finds the files that are listed, and says what is not there or of no use."""
    images: dict[_Where, dict[int, dict[str, Path]]] = collections.defaultdict(dict)
    labels = Labels(path)
    left_out: dict[str, list[object]] = collections.defaultdict(list)
    for video in listed:
        for name in video.frames:
            file = located(root, name)
            if file is None:
                left_out[f"are not under {root}"].append(name)
                continue
            labels.add(file, video.kind)
            number = re.search(r"([0-9]{1,9})$", file.stem)
            if number is None:
                left_out["have no number in their name"].append(file)
                continue
            frame = images[video.split, video.key].setdefault(int(number[1]), {})
            if video.quality in frame:
                left_out["name a frame that is listed already"].append(file)
            frame.setdefault(video.quality, file)
    count = sum(len(video.frames) for video in listed)
    return images, [
        f"{len(files)} of {count} listed files {why}: {first_of(files)}"
        for why, files in left_out.items()
    ]


def _check_classes(
    path: Path, root: Path, listed: Sequence[_Video], complete: Mapping[_Where, Sequence[Any]]
) -> None:
    """Refuses a split with files of one class, where the list has both.

    Raises:
      UserError: There is such a split.
    """
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for video in listed:
        counts[video.split, video.kind] += len(video.frames)
    there = {(split, key[0]) for (split, key), frames in complete.items() if frames}
    for split, kind in sorted(counts.keys() - there):
        if counts[split, kind] and (split, "fake" if kind == "real" else "real") in there:
            raise UserError(
                f"{path}: {split} lists {counts[split, kind]} files of {kind} videos, and none is "
                f"under {root} at every compression; add them, or take these videos out of the list"
            )


def _videos(path: Path) -> Iterator[_Video]:
    """Yields each video that is listed, at each compression."""
    content = read_json(path, "listing")
    try:
        for labels in content.values():
            for label, splits in labels.items():
                for split, videos_of in splits.items():
                    plain = any("frames" in entry for entry in videos_of.values())
                    for quality, videos in ({"raw": videos_of} if plain else videos_of).items():
                        for video, entry in videos.items():
                            name = "raw" if quality == "c0" else quality
                            frames = _names(entry["frames"])
                            f"{label}{video}".encode()  # records hold no half of a character
                            yield _Video(_SPLITS[split], name, label, video, frames)
    except (KeyError, AttributeError, TypeError, UnicodeError) as error:
        raise UserError(
            f"{path}: not a JSON file of DeepfakeBench, which is an object of dataset, label, "
            f"split (train, val, test), video, frames: {error!r}"
        ) from error


def _names(frames: Any) -> list[str]:
    if not isinstance(frames, list) or not all(isinstance(name, str) for name in frames):
        raise TypeError("frames must be a list of paths")
    return frames


def _crf(quality: str) -> tuple[bool, int, str]:
    number = re.fullmatch(r"c(\d{1,9})", quality)
    return quality != "raw", int(number[1]) if number else 99, quality
