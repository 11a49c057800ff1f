"""The table of `--labels`: which of a user's own files are real, and which are fake."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

from data_builders import lists
from data_builders.errors import UserError
from data_builders.files import unmarked
from qad_jax.evaluation import label_table

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
      is_known: Whether the table says who is shown.
    """

    name: str
    path: str
    label: int
    method: str
    identity: str
    is_known: bool


class Labels:
    """The labelled files, found by where they are."""

    def __init__(self, path: Path) -> None:
        """Reads a table.

        Args:
          path: A CSV file, delimited by commas, semicolons or tabs, with a header; see
            `label_table.COLUMNS`.

        Raises:
          UserError: Naming the row.
        """
        self.path = path
        self._rows: dict[str, Labelled] = {}
        for row in label_table.read(path).rows:
            labelled = self._labelled(row)
            where = os.path.abspath(labelled.path)
            if where in self._rows:
                raise UserError(f"{row.where}: {row.name} is there twice; keep one row")
            self._rows[where] = labelled
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

    def _labelled(self, row: label_table.Row) -> Labelled:
        # A file that is not there is judged, too: its verdict says that it cannot be read.
        # The table may be one of `detect --csv`, with labels added.
        names = (row.name, unmarked(row.name))
        located = (lists.located(self.path.parent, name) for name in names)
        found = next((path for path in located if path), self.path.parent / row.name)
        method = sys.intern(row.method or _METHODS[row.label])
        who = row.identity or f"file {row.name}"
        return Labelled(row.name, str(found), row.label, method, who, bool(row.identity))
