"""Whether the files of one video pair by index: do frames of one number show the same moment?

Copies of a video are made by many hands. One begins some frames later, another has half the frames
a second. Their frames then show a face that has moved on, and the detector learns the movement.

The shrunken grey frames of two qualities are compared: those of one number, and those of other
numbers nearby. Compression changes them little and alike. A shift is believed only where the frames
of other numbers agree much better, and where the movement in the better file explains by how much:
where nothing moves, nothing is wrong. The cost is a twentieth of a millisecond for a frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Thumbnail: TypeAlias = npt.NDArray[np.uint8]
Thumbnails: TypeAlias = Mapping[int, Thumbnail]
Indices: TypeAlias = npt.NDArray[np.integer]

COMPARED = 32  # frames of a video, spread evenly
_LARGEST_SHIFT = 100  # frames
_SIDE = 32
# Two rates, or two numbers of frames, that differ by less are no other rate: ends are often cut.
_SAME_RATE = 0.02
# What compression does to thumbnails differs by 1 % from one frame to the next, also at CRF 51. A
# shift by 3 frames of a camera that pans by a fifth of a pixel a frame makes 25 %.
_CLEARLY_BETTER = 0.8
_LEAST_GAIN = 0.3  # grey levels
_MOST = 0.75  # of the frames that differ must speak for it
# Films of different content: on no video does compression come near to these.
_OTHER_FILM = 12.0, 0.5  # grey levels of difference, correlation


class Rule(NamedTuple):
    """Which frame of the other file shows the moment of a frame: `ratio * index + shift`.

    Attributes:
      ratio: Frames of the other file for each frame of the better one.
      shift: Frames.
    """

    ratio: float = 1.0
    shift: int = 0

    def __str__(self) -> str:
        if self.ratio != 1:
            return f"has {self.ratio:.3g} times as many frames a second as {{}}"
        return (
            f"begins {abs(self.shift)} frames {'later' if self.shift < 0 else 'earlier'} than {{}}"
        )

    def floor(self, indices: Indices) -> Indices:
        """The frames of the other file with these moments, or before them."""
        return np.floor(self.ratio * indices + self.shift + 1e-6).astype(int)

    def ceil(self, indices: Indices) -> Indices:
        """The frames of the other file with these moments, or after them."""
        return np.ceil(self.ratio * indices + self.shift - 1e-6).astype(int)

    def back(self, indices: Indices) -> Indices:
        """The frames of the better file with the moments of these frames of the other file."""
        return np.rint((indices - self.shift) / self.ratio).astype(int)


def rules(rates: tuple[float, float], counts: tuple[int, int]) -> list[Rule]:
    """The ways in which two files may pair, other than by index.

    Args:
      rates: Frames a second of the better file and of the other one.
      counts: Their numbers of frames.
    """
    ratios = {round(rates[1] / rates[0], 4), round(counts[1] / max(1, counts[0]), 4)}
    possible = [Rule(r) for r in sorted(ratios) if r > 0 and abs(r - 1) > _SAME_RATE]
    shifts = range(-_LARGEST_SHIFT, _LARGEST_SHIFT + 1)
    return possible + [Rule(shift=shift) for shift in sorted(shifts, key=abs) if shift]


def neighbours(indices: Sequence[int], possible: Sequence[Rule]) -> tuple[set[int], set[int]]:
    """The frames of the better file and of the other one whose thumbnails `misfit` looks at."""
    better, other, at = set(indices), set(indices), np.asarray(indices)
    for rule in possible:
        better.update(rule.back(at).tolist())
        other.update(rule.floor(at).tolist(), rule.ceil(at).tolist())
    return better, other


def thumbnail(frame: npt.NDArray[np.uint8]) -> Thumbnail:
    """Shrinks a frame `(height, width, 3)` to `(32, 32)`, its green as grey."""
    step = max(1, min(frame.shape[:2]) // (4 * _SIDE))
    grey = np.ascontiguousarray(frame[::step, ::step, 1])
    return np.asarray(cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def misfit(
    better: Thumbnails, other: Thumbnails, indices: Sequence[int], possible: Sequence[Rule]
) -> str | None:
    """Tells whether two files do not pair by index.

    Args:
      better: Thumbnails of the better file, by index.
      other: Thumbnails of the other file, by index.
      indices: The frames that are compared; those without a thumbnail are passed over.
      possible: The ways in which the files may pair otherwise, see `rules`.

    Returns:
      What the other file does instead, in words with {} for the name of the better file. None where
      nothing speaks against pairing by index.
    """
    indices = [index for index in indices if index in better and index in other]
    if not indices:
        return None
    films = _Distances(better, other, indices), _Distances(better, better, indices)
    found: Rule | None = None
    least = _CLEARLY_BETTER**2
    at = np.asarray(indices)
    by_index = films[0].at(at)
    for rule in possible:
        by_rule = np.fmin(films[0].at(rule.floor(at)), films[0].at(rule.ceil(at)))
        movement = films[1].at(rule.back(at))
        errors = np.stack([by_index, by_rule, movement], axis=1)
        errors = errors[np.isfinite(errors).all(axis=1)]
        if len(errors) < max(2, len(indices) // 2):
            continue
        held, ruled, moved = errors.mean(axis=0)
        telling = errors[np.abs(errors[:, 0] - errors[:, 1]) > 0.1 * errors[:, :2].max(axis=1)]
        if (
            ruled < 0.95 * least * held  # of two that are equal, the first: the smaller shift
            and np.sqrt(held) - np.sqrt(ruled) > _LEAST_GAIN
            and moved > (held - ruled) / 2
            and (telling[:, 0] > telling[:, 1]).mean() > _MOST
        ):
            found, least = rule, ruled / held
    if found is None and _is_another_film(better, other, indices):
        return "shows other images than {}"
    return None if found is None else str(found)


class _Distances:
    """Mean squared differences between some frames of a film and all known ones of another."""

    def __init__(self, film: Thumbnails, other: Thumbnails, indices: Sequence[int]) -> None:
        self._known = np.array(sorted(other))
        a = _without_mean([film[index] for index in indices])
        b = _without_mean([other[index] for index in self._known])
        squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
        self._values = np.maximum(squares, 0) / a.shape[1]

    def at(self, places: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """One for each of the frames: its difference to the frame at its place; NaN: not known."""
        column = np.searchsorted(self._known, places).clip(max=len(self._known) - 1)
        values = self._values[np.arange(len(places)), column].astype(np.float64)
        return np.where(self._known[column] == places, values, np.nan)


def _without_mean(thumbnails: Sequence[Thumbnail]) -> npt.NDArray[np.float32]:
    """As rows of numbers, without their brightness, which players and converters change."""
    rows = np.stack(thumbnails).reshape(len(thumbnails), -1).astype(np.float32)
    return np.asarray(rows - rows.mean(axis=1, keepdims=True), np.float32)


def _coarse(image: Thumbnail) -> Thumbnail:
    """Shrinks a thumbnail again: of noise, compression leaves nothing but this."""
    size = _SIDE // 4, _SIDE // 4
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _is_another_film(better: Thumbnails, other: Thumbnails, indices: Sequence[int]) -> bool:
    a, b = (_without_mean([_coarse(film[index]) for index in indices]) for film in (better, other))
    differences = np.sqrt(np.square(a - b).mean(axis=1))
    alike = (a * b).mean(axis=1) / np.maximum(a.std(axis=1) * b.std(axis=1), 1e-6)
    return bool(np.median(differences) > _OTHER_FILM[0] and np.median(alike) < _OTHER_FILM[1])
