"""Videos of a test split that a model may have seen in training, found by what they show.

Two datasets can hold the same source video under other names, cut and compressed in other ways. A
fake shows the video that it was made from, and counts as the same source: a detector that has seen
either knows the other.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_builders.errors import printable
from data_builders.files import write_csv
from qad_jax.evaluation import fingerprints
from qad_jax.evaluation.fingerprints import SAME, Fingerprints
from qad_jax.runs.hosts import Progress

#: Columns of `leakage.csv`.
FIELDS = (
    "test_dataset",
    "test_method",
    "test_video",
    "training_dataset",
    "training_method",
    "training_video",
    "frames",
    "correlation",
    "runs",
)
#: The most bits in which the hashes of one moment differ; 32 is what chance gives.
RADIUS = 18
#: Frames of two videos that must show the same, where both have so many.
FRAMES = 2

_AT_ONCE = 1 << 16  # hashes of training that one frame is compared with
_NEAREST = 48  # of them that are looked at
_MOST_VIDEOS = 16  # of training that are laid over one of test
_MOMENTS = 3  # of each of these videos that are laid over one frame


@dataclasses.dataclass(frozen=True)
class Match:
    """A video of a test split, and one of a training split that shows the same moments.

    Attributes:
      test: Which of the test split's videos.
      training: Which of the training split's.
      frames: Number of test frames that agree.
      correlation: The best of their correlations.
    """

    test: int
    training: int
    frames: int
    correlation: float


@dataclasses.dataclass(frozen=True)
class _Near:
    """Two frames whose hashes are near: how many bits differ, the frames, and how one is moved."""

    bits: int
    test: int
    training: int
    place: int


def search(test: Fingerprints, training: Fingerprints) -> list[Match]:
    """Finds the videos of a test split that a training split shows as well.

    Args:
      test: The test split.
      training: The training split.

    Returns:
      The pairs, by test video, the surest first. Of one test video there are at most 16.
    """
    matches: list[Match] = []
    label = f"{test.title} in {training.title}"
    with Progress(len(test.videos), label, unit="video") as progress:
        for video in range(len(test.videos)):
            frames = test.frames_of(video)
            found = [
                match
                for of, near in _candidates(test, training, frames)
                if (match := _confirmed(test, training, video, of, near, len(frames)))
            ]
            matches += sorted(found, key=lambda match: -match.correlation)
            progress.advance()
    return matches


def _candidates(
    test: Fingerprints, training: Fingerprints, frames: Sequence[int]
) -> Iterator[tuple[int, list[list[_Near]]]]:
    """Training videos that are near, the likeliest first, with what is near to each test frame."""
    videos: dict[int, dict[int, list[_Near]]] = collections.defaultdict(dict)
    for frame in frames:
        for near in _nearest(test, training, frame):  # they come by distance
            videos[int(training.video[near.training])].setdefault(frame, []).append(near)
    likely = sorted(videos.items(), key=lambda item: (-len(item[1]), _fewest_bits(item[1])))
    for video, of in likely[:_MOST_VIDEOS]:
        yield video, sorted(of.values(), key=lambda pairs: pairs[0].bits)


def _fewest_bits(of: Mapping[int, Sequence[_Near]]) -> int:
    return min(pairs[0].bits for pairs in of.values())


def _nearest(test: Fingerprints, training: Fingerprints, frame: int) -> list[_Near]:
    """The frames of training within `RADIUS` of a frame of test, nearest first."""
    wanted = fingerprints.hashes_of_places(test.thumb(frame))
    found: list[_Near] = []
    for start in range(0, len(training.hashes), _AT_ONCE):
        block = training.hashes[start : start + _AT_ONCE]
        bits = np.bitwise_count(block[None] ^ wanted[:, None])
        least = bits.min(0)
        near = np.flatnonzero(least <= RADIUS)
        near = near[np.argsort(least[near], kind="stable")[:_NEAREST]]
        found += [
            _Near(int(least[i]), frame, start + int(i), int(bits[:, i].argmin())) for i in near
        ]
    return sorted(found, key=lambda near: near.bits)[:_NEAREST]


def _confirmed(
    test: Fingerprints,
    training: Fingerprints,
    video: int,
    of: int,
    near: Sequence[Sequence[_Near]],
    frames: int,
) -> Match | None:
    """Lays the frames over each other; None where too few show the same."""
    needed = min(FRAMES, frames, len(training.frames_of(of)))
    if len(near) < needed:
        return None
    agreeing: list[float] = []
    for tried, pairs in enumerate(near):
        value = max(
            fingerprints.correlation(test.thumb(p.test), training.thumb(p.training), p.place)
            for p in pairs[:_MOMENTS]
        )
        if value >= SAME:
            agreeing.append(value)
        elif not agreeing and tried >= FRAMES:
            return None
    if len(agreeing) < needed:
        return None
    return Match(video, of, len(agreeing), max(agreeing))


class Leakage:
    """What was found between the training splits of runs and the test splits of datasets."""

    def __init__(self) -> None:
        self._rows: dict[tuple[Any, ...], list[str]] = {}
        self._lines: list[str] = []

    def add(
        self,
        run: str,
        test: Fingerprints,
        training: Fingerprints,
        matches: Sequence[Match],
        excluded: Sequence[str],
    ) -> None:
        """Adds what one run shares with one test split.

        Args:
          run: Name of the run.
          test: The test split.
          training: A split that the run was trained on.
          matches: What `search` found between them.
          excluded: Methods that the run was trained without.
        """
        kept = training.of_methods_but(excluded)
        own = [match for match in matches if kept[match.training]]
        seen = len({match.test for match in own})
        count = len(test.videos)
        self._lines.append(
            f"{run}: {seen} of {count} videos in {test.title} with the source of a video in "
            f"{training.title}"
        )
        for match in own:
            key = (
                test.dataset,
                *test.videos[match.test],
                training.dataset,
                *training.videos[match.training],
                match.frames,
                round(match.correlation, 3),
            )
            self._rows.setdefault(key, []).append(run)

    def unknown(self, run: str, reason: str) -> None:
        """Adds that nothing can be said of a run, and why."""
        self._lines.append(f"{run}: not compared with its training data: {reason}")

    def text(self) -> str:
        """A line for each run, test split and training split."""
        return "\n".join(printable(f"leakage: {line}") for line in self._lines)

    def rows(self) -> list[dict[str, Any]]:
        """The pairs as `leakage.csv` has them: `FIELDS`."""
        return [
            dict(zip(FIELDS, (*key, ", ".join(runs)), strict=True))
            for key, runs in self._rows.items()
        ]

    def write(self, folder: Path) -> None:
        """Writes `leakage.csv`, whole or not at all."""
        write_csv(folder / "leakage.csv", FIELDS, (row.values() for row in self.rows()))
