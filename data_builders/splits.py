"""Splits by the people who are seen, for datasets whose authors give none, or a test set alone."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from data_builders.clips import VideoFiles

_DRAW = "people"


def held_out(people: Collection[str], fakes: Iterable[Collection[str]]) -> set[str]:
    """Chooses about a tenth of the people, by a draw that is the same on every machine.

    A fake belongs to a split only if everybody whom it is made from is in it. So the draw follows
    the fakes: after the first, it takes who shares most fakes with those who are taken.

    Args:
      people: Who may be chosen.
      fakes: The people whom each fake is made from.

    Returns:
      A tenth of those who are in fakes of two people, and a tenth of the others: two at least, and
      half of them at most.
    """
    pairs = collections.Counter(frozenset(each) for each in fakes if len(set(each)) > 1)
    in_pairs = {person for pair in pairs for person in pair} & set(people)
    chosen = set(_drawn(set(people) - in_pairs)[: _tenth(len(people) - len(in_pairs))])
    ordered, taken = _drawn(in_pairs), set[str]()
    while len(taken) < _tenth(len(in_pairs)):
        rest = [person for person in ordered if person not in taken]
        shared = {
            person: sum(n for pair, n in pairs.items() if person in pair <= taken | {person})
            for person in rest
        }
        taken.add(max(rest, key=lambda person: shared[person]))  # the first drawn of equals
    return chosen | taken


def beside_test(
    tested: Sequence[tuple[VideoFiles, Collection[str]]],
    rest: Sequence[tuple[VideoFiles, Collection[str]]],
    choose: Callable[[Collection[str], Iterable[Collection[str]]], Collection[str]] = held_out,
) -> tuple[dict[str, list[VideoFiles]], list[str]]:
    """Carves validation out of what the authors do not test on, by the people in it.

    Args:
      tested: The videos of the official test set, and everybody who is in each.
      rest: The other videos, in the same way.
      choose: Chooses the people of validation, as `held_out` does.

    Returns:
      The videos of each split, and what the user should know; see `divided`.
    """
    everybody, people_of_test = (
        {person for _, people in videos for person in people} for videos in (rest, tested)
    )
    validation = choose(everybody, [people for _, people in rest])
    splits, notes = divided(rest, {"validation": validation})
    splits["test"] = [video for video, _ in tested]
    if shared := people_of_test & everybody:
        notes.append(
            f"{len(shared)} of the {len(people_of_test)} people of the official test set are in "
            "train or validation too; train and validation have nobody in common"
        )
    return splits, notes


def divided(
    videos: Iterable[tuple[VideoFiles, Collection[str]]], groups: Mapping[str, Collection[str]]
) -> tuple[dict[str, list[VideoFiles]], list[str]]:
    """Puts each video into the split of its people.

    Args:
      videos: Each video and everybody who is in it; for a fake, the donor of the face, too.
      groups: The people of 'validation' and 'test'; all others are in 'train'.

    Returns:
      The videos of each split, and what the user should know: how many videos have people of two
      splits, which are left out, and which class validation lacks.
    """
    split_of = {person: split for split, people in groups.items() for person in people}
    splits: dict[str, list[VideoFiles]] = {"train": [], "validation": [], "test": []}
    dropped = 0
    for video, people in videos:
        where = {split_of.get(person, "train") for person in people}
        if len(where) == 1:
            splits[where.pop()].append(video)
        else:
            dropped += 1
    notes = [f"{dropped} videos of people who are in different splits are left out"]
    labels = {video.label for video in splits["validation"]}
    if groups.get("validation") and len(labels) == 1:
        notes.append(f"all videos of validation are {labels.pop()}: it cannot choose a model")
    return splits, notes if dropped else notes[1:]


def lacking(splits: Mapping[str, Sequence[VideoFiles]]) -> list[str]:
    """Notes the splits that have no videos."""
    return [f"there are no {split} videos" for split, videos in splits.items() if not videos]


def _drawn(people: Iterable[str]) -> list[str]:
    return sorted(people, key=lambda person: hashlib.sha256(f"{_DRAW}/{person}".encode()).digest())


def _tenth(count: int) -> int:
    return min(max(-(-count // 10), 2), count // 2)
