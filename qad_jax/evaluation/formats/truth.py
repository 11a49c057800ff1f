"""Which of the files in a list of scores are real, and which are fake: from a table beside it."""

from __future__ import annotations

import collections
import warnings
from collections.abc import Iterable
from pathlib import Path

from data_builders.errors import UserError
from data_builders.lists import first_of, one_form
from qad_jax.evaluation import label_table


class Truth:
    """The rows of a table, found by the names of files.

    A name is found if the table has it as it is written, folders included, or else if the table has
    exactly one file of that name in any folder.
    """

    def __init__(self, path: Path) -> None:
        """Reads a table.

        Args:
          path: A CSV file, see `label_table.COLUMNS`, or `metadata.json` of DFDC.

        Raises:
          UserError: Naming the row.
        """
        self.path = path
        is_json = path.suffix.lower() == ".json"
        table = label_table.read_metadata(path) if is_json else label_table.read(path)
        self.has_frames = "frame" in table.columns
        self._rows: dict[str, label_table.Row] = {}
        self._by_end: dict[str, list[label_table.Row]] = collections.defaultdict(list)
        for row in table.rows:
            name = _plain(row.name)
            if name in self._rows:
                raise UserError(f"{row.where}: {row.name} is there twice; keep one row")
            self._rows[name] = row
            self._by_end[name.rpartition("/")[2]].append(row)
        if not self._rows:
            raise UserError(f"{path}: lists no file")

    def of(self, where: str, name: str) -> label_table.Row:
        """What the table says of a file.

        Args:
          where: Where the name was met, for the message.
          name: The name.

        Raises:
          UserError: The table does not say it.
        """
        plain = _plain(name)
        if plain in self._rows:
            return self._rows[plain]
        others = self._by_end.get(plain.rpartition("/")[2], [])
        if len(others) != 1:
            what = "has no row for it" if not others else f"has {len(others)} files of this name"
            raise UserError(f"{where}: {name!r}: {self.path} {what}; every score needs a label")
        return others[0]

    def warn_of_others(self, path: Path, used: Iterable[label_table.Row]) -> None:
        """Warns of rows of the table for which a file of scores has none."""
        known = {row.where for row in used}
        unused = [row.name for row in self._rows.values() if row.where not in known]
        if unused:
            warnings.warn(
                f"{path}: has no score for {len(unused)} of {len(self._rows)} files in "
                f"{self.path}, which are left out: {first_of(unused)}",
                stacklevel=3,
            )


def _plain(name: str) -> str:
    """A name with slashes, without `./`, and with its letters in one form."""
    return one_form(name.strip().replace("\\", "/")).removeprefix("./")
