"""How a table of scores or of labels is written: delimiter, columns, decimal sign, numbers.

Spreadsheets of half of Europe write `0,5;1`. A number that could be read in two ways is an error
that names the row, never one of the two.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_builders.errors import UserError, nearest

#: The largest score, and with a minus the smallest: what a network can give, whose numbers have 32
#: bits. Sums and differences of larger ones could be infinite.
LARGEST_SCORE = float(np.finfo(np.float32).max)
SCORE_RANGE = (
    f"must lie between -{LARGEST_SCORE:.2g} and {LARGEST_SCORE:.2g}, as floats of 32 bits do"
)
_DELIMITERS = (",", ";", "\t")
_LARGEST = 2**63
# Whole numbers beyond it have no float of their own: two frames would become one.
_EXACT = 2**53


def rows(
    lines: Iterator[str], titles: Collection[str]
) -> tuple[str, Iterator[tuple[int, list[str]]]]:
    """Splits the lines of a file at the delimiter that makes the most of its header.

    Args:
      lines: The lines of the file. A first line `sep=;`, as spreadsheets write it, is left out.
      titles: The names of columns that are known, in lower case.

    Returns:
      The delimiter, and the rows, each with the number of its last line; the first is the header.
    """
    first = next(lines, "")
    left_out = 0
    delimiters: tuple[str, ...] = _DELIMITERS
    if first.lower().startswith("sep=") and first[4:5] in _DELIMITERS and not first[5:].strip():
        delimiters, left_out, first = (first[4],), 1, next(lines, "")

    def known(delimiter: str) -> int:
        names = next(csv.reader([first], delimiter=delimiter), [])
        return sum(name.strip().lower() in titles for name in names)

    delimiter = max(delimiters, key=known)  # the first of those that are equal
    reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter)
    return delimiter, ((left_out + reader.line_num, row) for row in reader)


def whole_rows(
    path: Path, rows: Iterator[tuple[int, list[str]]], width: int
) -> Iterator[tuple[int, list[str]]]:
    """The rows below the header, without those that are empty.

    Args:
      path: The file, for the messages.
      rows: What `rows` gives after the header.
      width: Number of values of the header.

    Yields:
      The number of its last line, and its values.

    Raises:
      UserError: A row is shorter or longer.
    """
    for number, row in rows:
        if row:
            if len(row) != width:
                raise UserError(f"{path}: row {number}: {len(row)} values, the header has {width}")
            yield number, row


def columns(
    path: Path,
    header: Sequence[str],
    names: Mapping[str, Collection[str]],
    needed: Collection[str],
) -> dict[str, int]:
    """Finds the columns of a table.

    Args:
      path: The file, for the messages.
      header: Its titles, in lower case.
      names: The columns, and the other titles under which each is accepted.
      needed: Those that must be there.

    Returns:
      The place of each column that is there.

    Raises:
      UserError: There is no column, one could be one of several, or a needed one is missing.
    """
    if not any(header):
        raise UserError(f"{path}: is empty, or begins with an empty line; get the file again")
    place = {}
    for name, aliases in names.items():
        found = [i for i, title in enumerate(header) if title in (name, *aliases)]
        if len(found) > 1:
            raise UserError(f"{path}: more than one column could be {name!r}")
        if found:
            place[name] = found[0]
    for name in needed:
        if name not in place:
            raise UserError(
                f"{path}: has no column {name!r} (or {', '.join(names[name])}): "
                f"{nearest(name, [ascii(title[:40])[1:-1] for title in header[:20]])}"
            )
    return place


class Numbers:
    """Reads the numbers of one file, all with the same decimal sign."""

    def __init__(self, delimiter: str) -> None:
        """Starts a file.

        Args:
          delimiter: Where it is a comma, no number has one.
        """
        self._comma_allowed = delimiter != ","
        self._sign: str | None = None

    def score(self, text: str) -> float:
        """A score; an empty one is not a number.

        Raises:
          ValueError: Saying what the text must be.
        """
        plain = self._plain(text)
        try:
            value = float(plain or "nan")
        except ValueError:
            raise ValueError("must be a number, or empty or nan where there is none") from None
        if value in (float("inf"), float("-inf")):
            raise ValueError("must be finite, or empty or nan where there is none")
        if abs(value) > LARGEST_SCORE:
            raise ValueError(SCORE_RANGE)
        return value

    def frame(self, text: str) -> int:
        """An index, or a time: a whole number of 64 bits.

        Raises:
          ValueError: Saying what the text must be.
        """
        plain = self._plain(text)
        try:
            frame = int(plain)
        except ValueError:
            try:
                value = float(plain)
            except ValueError:
                raise ValueError("must be a number") from None
            if not value.is_integer() or abs(value) > _EXACT:  # neither inf nor nan is one
                raise ValueError(
                    "must be a whole number with all its digits, such as an index or milliseconds"
                ) from None
            frame = int(value)
        if not -_LARGEST <= frame < _LARGEST:
            raise ValueError("must be a number of 64 bits")
        return frame

    def _plain(self, text: str) -> str:
        """The text as Python writes numbers.

        Raises:
          ValueError: For what Python alone takes for a number, and for another decimal sign than
            that of the rows before.
        """
        text = text.strip()
        signs = [sign for sign in text if sign in ".,"]
        if "_" in text or not text.isascii() or len(signs) > 1:
            raise ValueError("must be a number")
        if signs:
            if signs[0] == "," and not self._comma_allowed:
                raise ValueError(
                    "must be a number with the decimal sign '.'; a decimal comma needs a file "
                    "whose delimiter is ';' or a tab"
                )
            self._sign = self._sign or signs[0]
            if self._sign != signs[0]:
                raise ValueError(f"must have the decimal sign {self._sign!r} of the rows before it")
        return text.replace(",", ".")
