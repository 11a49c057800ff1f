"""Reads the JSON of DeepfakeBench: dataset, label, split, (compression,) video, frames."""

from __future__ import annotations

import collections
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from data_builders.errors import UserError
from data_builders.files import read_json
from data_builders.manifest.reader import Listing, Tuple

# A video stays in the first of these splits that lists it.
_SPLITS = {"test": "test", "val": "validation", "train": "train"}


def read(json_path: str | Path, root: str | Path) -> Listing:
    """Reads a listing of crops. It takes a frame if its files exist at every compression.

    The number in a file's name is the index of its frame. Videos of the test split are often listed
    for training or validation too: they are left out there, and a warning counts them.

    Args:
      json_path: The JSON file.
      root: The folder to which the paths in it are relative.

    Raises:
      UserError: The file has another format, or lists nothing that is under `root`.
    """
    path = Path(json_path).expanduser()
    listed = list(_videos(path))
    qualities = sorted({quality for _, quality, *_ in listed}, key=_crf)
    images: dict[tuple[str, ...], dict[int, dict[str, Path]]] = collections.defaultdict(dict)
    for split, quality, label, video, frames in listed:
        for name in frames:
            path_of_image = Path(root).expanduser() / PurePosixPath(str(name).replace("\\", "/"))
            number = re.search(r"(\d{1,9})$", path_of_image.stem)
            if number and os.path.isfile(path_of_image):
                frame = images[split, label, video].setdefault(int(number[1]), {})
                frame[quality] = path_of_image
    splits: dict[str, list[Tuple]] = {"train": [], "validation": [], "test": []}
    taken: dict[tuple[str, ...], str] = {}
    repeated: collections.Counter[tuple[str, str]] = collections.Counter()
    for split in _SPLITS.values():
        for (where, label, video), frames_of_video in images.items():
            if where == split and taken.setdefault((label, video), split) == split:
                kind = "real" if label.lower().endswith("real") else "fake"
                method = "original" if kind == "real" else label
                # TARGET_SOURCE, idA_idB_NNNN, idA_NNNN: the person who is seen comes first.
                about = (kind, method, video, video.partition("_")[0])
                splits[split] += [
                    Tuple({quality: files[quality] for quality in qualities}, *about, number)
                    for number, files in sorted(frames_of_video.items())
                    if len(files) == len(qualities)
                ]
            elif where == split:
                repeated[split, taken[label, video]] += 1
    if not any(splits.values()):
        raise UserError(f"{path}: no crop that it lists is under {root} at every compression")
    for (split, other), count in repeated.items():
        warnings.warn(f"{path}: {count} videos are left out of {split}: in {other}", stacklevel=2)
    return Listing(tuple(qualities), {split: tuples for split, tuples in splits.items() if tuples})


def _videos(path: Path) -> Iterator[tuple[str, str, str, str, list[Any]]]:
    """Yields split, compression, label, name and frames of each video that is listed."""
    try:
        for labels in read_json(path).values():
            for label, splits in labels.items():
                for split, content in splits.items():
                    plain = any("frames" in entry for entry in content.values())
                    for quality, videos in ({"raw": content} if plain else content).items():
                        for video, entry in videos.items():
                            name = "raw" if quality == "c0" else quality
                            if not isinstance(entry["frames"], list):
                                raise TypeError(f"the frames of {video} are no list")
                            yield _SPLITS[split], name, label, video, entry["frames"]
    except OSError as error:
        raise UserError(f"{path}: cannot read the listing: {error.strerror or error}") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path}: not a JSON file of DeepfakeBench, which is an object of dataset, label, "
            f"split (train, val, test), video, frames: {error!r}"
        ) from error


def _crf(quality: str) -> tuple[bool, int, str]:
    number = re.fullmatch(r"c(\d+)", quality)
    return quality != "raw", int(number[1]) if number else 99, quality
