"""What a list of crops says: tuples by split; and what is looked at in every such list."""

from __future__ import annotations

import collections
import hashlib
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from data_builders.errors import UserError


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
    """The content of a list.

    Attributes:
      qualities: The qualities of each tuple.
      splits: The tuples of each split that has any.
      notes: What was left out and what is doubtful, each in one sentence.
    """

    qualities: tuple[str, ...]
    splits: dict[str, list[Tuple]]
    notes: tuple[str, ...] = ()

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


def shared_identities(splits: Mapping[str, Sequence[Tuple]]) -> list[str]:
    """Says in one text, or none, who is in several splits."""
    pairs = ((item.identity, split) for split, tuples in splits.items() for item in tuples)
    return [
        f"{shared}; results on them will be too good"
        for shared in in_two_splits("identities", pairs)
    ]


def in_two_splits(what: str, pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Says in one text, or none, which of the names are in several splits.

    Args:
      what: What they are names of.
      pairs: Names, each with a split that it is in.
    """
    splits_of: dict[str, set[str]] = collections.defaultdict(set)
    for name, split in pairs:
        splits_of[name].add(split)
    shared = sorted(name for name, where in splits_of.items() if len(where) > 1)
    if not shared:
        return []
    where = ", ".join(sorted(splits_of[shared[0]]))
    return [f"{len(shared)} {what} are in more than one split ({shared[0]!r} is in {where})"]


def checked(
    path: Path,
    qualities: Sequence[str],
    splits: Mapping[str, Sequence[Tuple]],
    notes: Sequence[str],
) -> Listing:
    """Looks at the labels of videos and splits, warns of what is noted, and makes the listing.

    Args:
      path: The list, for messages.
      qualities: Its qualities.
      splits: The tuples of each split.
      notes: What was noted so far.

    Raises:
      UserError: There is one class to train on, a video has both labels, or two have one name.
    """
    notes = list(notes)
    labels_of = {(i.method, i.video): i.label for tuples in splits.values() for i in tuples}
    for item in (item for tuples in splits.values() for item in tuples):
        if labels_of[item.method, item.video] != item.label:
            raise UserError(
                f"{path}: video {item.video!r} of method {item.method!r} is listed as 'real' and "
                "as 'fake'; name videos or methods apart"
            )
    pairs: dict[str, tuple[str, str]] = {}
    for pair in labels_of:
        other = pairs.setdefault("/".join(pair), pair)
        if other != pair:
            raise UserError(
                f"{path}: video {pair[1]!r} of method {pair[0]!r} and video {other[1]!r} of method "
                f"{other[0]!r} are both called {'/'.join(pair)!r}; name videos or methods apart"
            )
    for split, tuples in splits.items():
        labels = {item.label for item in tuples}
        if len(labels) == 1:
            only = f"all {split}.labels are {labels.pop()!r}"
            if split == "train":
                raise UserError(f"{path}: {only}; both are needed")
            notes.append(f"{only}: there is no AUC of one class")
    for note in notes:
        warnings.warn(f"{path}: {note}", stacklevel=3)
    kept = {split: list(tuples) for split, tuples in splits.items() if tuples}
    return Listing(tuple(qualities), kept, tuple(notes))


class Labels:
    """The label of each file that a list names, to find what it says twice."""

    def __init__(self, path: Path) -> None:
        """Begins with no file; `path` is the list, for messages."""
        self._path = path
        self._labels: dict[str, str] = {}

    def add(self, file: Path, label: str) -> bool:
        """Notes the label of a file.

        Returns:
          Whether it is the first time that the file is named.

        Raises:
          UserError: It has the other label elsewhere in the list.
        """
        name, known = os.path.normpath(file), len(self._labels)
        if self._labels.setdefault(name, label) != label:
            raise UserError(f"{self._path}: {name} is listed as 'real' and as 'fake'; keep one")
        return len(self._labels) > known
