"""The scores of every frame of a split at every quality, and their CSV file.

The file is the format of exchange: this project reads the scores of other tools, and they its own.
"""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO, TypeVar

import numpy as np
import numpy.typing as npt

from data_builders.errors import UserError
from data_builders.files import csv_text, unmarked
from data_builders.lists import one_form
from qad_jax.evaluation import metrics, score_dialect

#: Columns of `scores.csv`, and the other names under which each is accepted.
COLUMNS: dict[str, tuple[str, ...]] = {
    "method": ("manipulation", "dataset_name"),
    "video": ("video_id", "clip", "video_name"),
    "identity": ("subject", "person", "source_id"),
    "frame": ("frame_id", "frame_index", "frame_number"),
    "quality": ("compression",),
    "label": ("target", "y_true", "ground_truth"),
    "score": ("prob", "probability", "pred", "prediction", "y_score", "fake_prob"),
}
# Each score takes some hundred bytes in memory.
_MOST_LINES, _LONGEST_LINE = 5_000_000, 1_000_000
# Each quality has figures, and each method numbers with intervals: more take hours, and tables that
# nobody reads. Where there are more, a column means something else.
_MOST_QUALITIES, _LONGEST_QUALITY = 200, 100
_MOST_METHODS, _LONGEST_METHOD = 2000, 255
_NEEDED = ("method", "video", "frame", "label", "score")
#: How a label may be written, in lower case.
LABELS = {"0": 0, "1": 1, "real": 0, "fake": 1, "0.0": 0, "1.0": 1}


class Row(NamedTuple):
    """One score of a file, and where it stands, for messages."""

    where: str
    method: str
    video: str
    identity: str
    frame: int
    quality: str
    label: int
    score: float


class Scores(NamedTuple):
    """The scores of a split.

    Attributes:
      qualities: The k qualities, in the order of the configuration or of the file.
      label: `(n,)` 0 real, 1 fake.
      method: n manipulation methods.
      video: n videos, unique within a method.
      identity: n identities.
      frame: `(n,)` frame indices, or times: where a file is read, of 64 bits.
      score: `(n, k)` probability of fake at each quality.
    """

    qualities: tuple[str, ...]
    label: npt.NDArray[np.int32]
    method: list[str]
    video: list[str]
    identity: list[str]
    frame: npt.NDArray[np.signedinteger[Any]]
    score: npt.NDArray[np.floating[Any]]

    def keys(self) -> Iterator[tuple[str, str, int]]:
        """What tells the frames apart: method, video and frame of each."""
        return zip(self.method, self.video, self.frame.tolist(), strict=True)

    def common(self, other: Scores) -> list[tuple[int, int]]:
        """Rows of the frames that others have, too: the one here and the one there."""
        place = {key: i for i, key in enumerate(other.keys())}
        return [(i, place[key]) for i, key in enumerate(self.keys()) if key in place]

    def take(self, rows: npt.NDArray[np.intp]) -> Scores:
        """Some of the frames, in a given order."""
        return self._replace(
            label=self.label[rows],
            method=[self.method[i] for i in rows],
            video=[self.video[i] for i in rows],
            identity=[self.identity[i] for i in rows],
            frame=self.frame[rows],
            score=self.score[rows],
        )

    def of(self, qualities: Sequence[str]) -> Scores:
        """Some of the qualities, in a given order."""
        columns = [self.qualities.index(quality) for quality in qualities]
        return self._replace(qualities=tuple(qualities), score=self.score[:, columns])

    def beyond_probabilities(self) -> str | None:
        """The range of the scores in words where it is more than that of probabilities, 0 to 1."""
        finite = self.score[np.isfinite(self.score)]
        if not finite.size or (finite.min() >= 0 and finite.max() <= 1):
            return None
        return f"from {finite.min():.4g} to {finite.max():.4g}"

    def videos(self) -> Scores:
        """The same at video level: a row a video, its score the mean probability of its frames."""
        first, means = metrics.by_video(self.method, self.video, self.score)
        return self.take(first)._replace(score=means)


def to_csv(scores: Scores) -> str:
    """The text of `scores.csv`: a line for each frame and quality.

    The contract with other tools: UTF-8, commas, lines that end in a line feed; a header with the
    names of `COLUMNS` in their order; label 0 real, 1 fake; score the probability of fake, with
    all its digits, 'nan' where there is none; names quoted where they hold a comma, a quote or a
    line's end, and with an apostrophe where a spreadsheet could take them for a formula, see
    `data_builders.files.marked`.
    """
    rows = (
        (
            scores.method[i],
            scores.video[i],
            scores.identity[i],
            scores.frame[i],
            quality,
            label,
            repr(float(scores.score[i, column])),
        )
        for i, label in enumerate(scores.label)
        for column, quality in enumerate(scores.qualities)
    )
    return csv_text(list(COLUMNS), rows)


def read(path: Path) -> Scores:
    """Reads a file of scores, ours or another tool's.

    Args:
      path: A CSV file with a header, delimited by commas, semicolons or tabs: method, video,
        frame, label (0, 1, real or fake, the same in the whole video), score (a larger one means
        that fake is more likely; accuracy and calibration have a meaning for probabilities only),
        and optionally quality and identity. Without quality there is one,
        'all'; without identity, or where it is empty, each name of a video counts as one person,
        whom two methods then share. See `COLUMNS` for other names of the columns.

    Returns:
      The scores, frames in the order of the file.

    Raises:
      UserError: Naming the row.
    """
    with opened(path) as lines:
        return _table(path, lines)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Iterator[str]]:
    """Opens a table of anybody's for reading, and gives its lines within bounds.

    Args:
      path: The file, in UTF-8.

    Raises:
      UserError: It cannot be read, is no text, is too long, or is no CSV to `csv.reader`.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield _lines(path, file)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: cannot read the scores: {error}; save the file as CSV in UTF-8"
        ) from error
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot read the scores: {reason}") from error


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    number = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if number > _MOST_LINES:
            raise UserError(f"{path}: has more than {_MOST_LINES:,} lines; evaluate it in parts")
        if len(line) > _LONGEST_LINE:
            raise UserError(
                f"{path}: line {number} has more than {_LONGEST_LINE:,} characters; save the file "
                "as CSV with a line for each score"
            )
        yield line


def _table(path: Path, lines: Iterator[str]) -> Scores:
    titles = {title for name, aliases in COLUMNS.items() for title in (name, *aliases)}
    delimiter, rows = score_dialect.rows(lines, titles)
    numbers = score_dialect.Numbers(delimiter)
    header = [name.strip().lower() for name in next(rows, (0, []))[1]]
    place = score_dialect.columns(path, header, COLUMNS, _NEEDED)
    optional = [name for name in ("identity", "quality") if name in place]

    def parsed() -> Iterator[Row]:
        for number, row in score_dialect.whole_rows(path, rows, len(header)):
            where = f"{path}: row {number}"
            label = LABELS.get(row[place["label"]].strip().lower().replace(",", "."))
            if label is None:
                raise UserError(
                    f"{where}: label is {row[place['label']]!r}; must be 0 or real, 1 or fake"
                )
            names = {name: unmarked(row[place[name]]) for name in ("method", "video", *optional)}
            if not names["video"].strip():  # all such frames would be one video
                raise UserError(f"{where}: names no video")
            identity = names.get("identity", "")
            yield Row(
                where,
                names["method"],
                names["video"],
                identity if identity.strip() else names["video"],
                parsed_number(where, "frame", row[place["frame"]], numbers.frame),
                names.get("quality", "all"),
                label,
                parsed_number(where, "score", row[place["score"]], numbers.score),
            )

    return collect(path, parsed())


def collect(path: Path, rows: Iterable[Row]) -> Scores:
    """Puts the scores of a file into one table.

    Args:
      path: The file, for messages.
      rows: Its scores, in any order.

    Returns:
      The scores, frames in the order in which they first occur.

    Raises:
      UserError: There is no score, or one too many or too few, or rows contradict each other.
    """
    keys: dict[tuple[str, str, int], int] = {}
    qualities: dict[str, int] = {}
    facts: list[tuple[int, str]] = []
    videos: dict[tuple[str, str], int] = {}
    entries: dict[tuple[int, int], float] = {}
    for row in rows:
        # A name comes again with every frame of a video; interning keeps it in memory once.
        method, video = (sys.intern(one_form(name)) for name in (row.method, row.video))
        frame, label = row.frame, row.label
        index = keys.setdefault((method, video, frame), len(keys))
        column = qualities.setdefault(row.quality, len(qualities))
        # The rows of one person may come from two systems: as two people, they would count twice.
        identity = sys.intern(one_form(row.identity))
        if index == len(facts):
            facts.append((label, identity))
        elif facts[index] != (label, identity):
            raise UserError(
                f"{row.where}: {method}/{video} frame {frame} has another label or identity than "
                "in an earlier row"
            )
        if videos.setdefault((method, video), label) != label:
            raise UserError(
                f"{row.where}: {method}/{video} is {('real', 'fake')[label]}, and "
                f"{('fake', 'real')[label]} in an earlier row; a video has one label: give reals "
                "and fakes names of their own, or another method"
            )
        if (index, column) in entries:
            raise UserError(
                f"{row.where}: {method}/{video} frame {frame} occurs twice at {row.quality}"
            )
        entries[index, column] = row.score
    if not keys:
        raise UserError(f"{path}: holds no scores")
    _check_names(path, "qualities", qualities, _MOST_QUALITIES, _LONGEST_QUALITY)
    _check_names(path, "methods", {key[0] for key in keys}, _MOST_METHODS, _LONGEST_METHOD)
    if len(entries) < len(keys) * len(qualities):
        _missing(path, list(keys), list(qualities), entries)
    matrix = np.empty((len(keys), len(qualities)))
    positions = np.array(list(entries), np.intp)
    matrix[positions[:, 0], positions[:, 1]] = list(entries.values())
    return Scores(
        tuple(qualities),
        np.array([label for label, _ in facts], np.int32),
        [method for method, _, _ in keys],
        [video for _, video, _ in keys],
        [identity for _, identity in facts],
        np.array([frame for _, _, frame in keys], np.int64),
        matrix,
    )


def _check_names(path: Path, kind: str, names: Collection[str], most: int, longest: int) -> None:
    if len(names) > most:
        raise UserError(
            f"{path}: has {len(names)} {kind}, and at most {most} can be evaluated; does the "
            "column hold something else?"
        )
    if too_long := [name for name in names if len(name) > longest]:
        raise UserError(
            f"{path}: {kind} have names of at most {longest} characters, and one begins with "
            f"{too_long[0][:40]!r}"
        )


_Value = TypeVar("_Value")


def parsed_number(where: str, name: str, text: str, parse: Callable[[str], _Value]) -> _Value:
    """Parses a number of a file with a method of `score_dialect.Numbers`.

    Raises:
      UserError: Saying where it stands, and what it must be.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise UserError(f"{where}: {name} is {text!r}; {error}") from None


def _missing(
    path: Path,
    keys: Sequence[tuple[str, str, int]],
    qualities: Sequence[str],
    entries: dict[tuple[int, int], float],
) -> None:
    for index, (method, video, frame) in enumerate(keys):
        for column, quality in enumerate(qualities):
            if (index, column) not in entries:
                raise UserError(
                    f"{path}: {method}/{video} frame {frame} has no score at {quality}; every "
                    "frame needs one at every quality (nan where there is none)"
                )
