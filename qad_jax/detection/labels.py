"""The table of `--labels`: which of a user's own files are real, and which are fake."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from data_builders import lists
from data_builders.errors import UserError
from qad_jax.evaluation import score_dialect
from qad_jax.evaluation.scores import LABELS

#: The columns, and the other names under which each is accepted.
COLUMNS: dict[str, tuple[str, ...]] = {
    "file": ("path", "filename"),
    "label": ("target", "y_true", "ground_truth"),
    "method": ("maker", "manipulation"),
    "identity": ("person", "subject"),
}
_NEEDED = ("file", "label")
# Of files for which the table does not say it.
_METHODS = "original", "fake"


class Labelled(NamedTuple):
    """What the table says of a file.

    Attributes:
      name: Its name in the table.
      path: Where it is: names are relative to the folder of the table.
      label: 0 real, 1 fake.
      method: How it was made; 'original' or 'fake' where the table does not say it.
      identity: Who is shown; where the table does not say it, a name that no other file has.
    """

    name: str
    path: str
    label: int
    method: str
    identity: str


class Labels:
    """The labelled files, found by where they are."""

    def __init__(self, path: Path) -> None:
        """Reads a table.

        Args:
          path: A CSV file, delimited by commas, semicolons or tabs, with a header; see `COLUMNS`.

        Raises:
          UserError: Naming the row.
        """
        self.path = path
        self.has_identities = False
        self._rows: dict[str, Labelled] = {}
        for number, row in self._read():
            where = os.path.abspath(row.path)
            if where in self._rows:
                raise UserError(f"{path}: row {number}: {row.name} is there twice; keep one row")
            self._rows[where] = row
        if not self._rows:
            raise UserError(f"{path}: lists no file")

    def files(self) -> list[Labelled]:
        """All files, in the order of the table."""
        return list(self._rows.values())

    def of(self, file: str) -> Labelled | None:
        """What the table says of a file; None where it does not list it.

        Args:
          file: Its path, relative to the working directory.
        """
        return self._rows.get(os.path.abspath(file))

    def _read(self) -> Iterator[tuple[int, Labelled]]:
        path = self.path
        text = lists.read_text(path, "list of labels")
        titles = {title for name, aliases in COLUMNS.items() for title in (name, *aliases)}
        _, rows = score_dialect.rows(iter(io.StringIO(text, newline="")), titles)
        try:
            header = [name.strip().lower() for name in next(rows, (0, []))[1]]
            place = score_dialect.columns(path, header, COLUMNS, _NEEDED)
            self.has_identities = "identity" in place
            for number, row in rows:
                if row:
                    if len(row) != len(header):
                        raise UserError(
                            f"{path}: row {number}: {len(row)} values, the header has {len(header)}"
                        )
                    cells = {name: row[column].strip() for name, column in place.items()}
                    yield number, self._labelled(number, cells)
        except csv.Error as error:
            raise UserError(f"{path}: is no table: {error}; save it as CSV") from error

    def _labelled(self, number: int, cells: dict[str, str]) -> Labelled:
        name, label = cells["file"], LABELS.get(cells["label"].lower())
        if not name:
            raise UserError(f"{self.path}: row {number}: names no file")
        if label is None:
            raise UserError(
                f"{self.path}: row {number}: label is {cells['label']!r}; must be real or fake"
            )
        # A file that is not there is judged, too: its verdict says that it cannot be read.
        found = lists.located(self.path.parent, name) or self.path.parent / name
        method = sys.intern(cells.get("method") or _METHODS[label])
        return Labelled(name, str(found), label, method, cells.get("identity") or f"file {name}")
