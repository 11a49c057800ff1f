"""Tables that say which files are real, and which are fake: of a user, or of a dataset."""

from __future__ import annotations

import csv
import io
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
    "video": (),
    "frame": (),
    "typ": (),  # of lists of images: 'real', or what made them
}


class Row(NamedTuple):
    """What a table says of a file; '' where it does not say it.

    Attributes:
      where: The table and the number of the row, for messages.
      name: The file, as it is written.
      label: 0 real, 1 fake.
      method: How it was made.
      identity: Who is shown.
      video: Of which video it is.
      frame: Which frame of it.
    """

    where: str
    name: str
    label: int
    method: str
    identity: str
    video: str = ""
    frame: str = ""


class Table(NamedTuple):
    """A table that was read.

    Attributes:
      columns: Those of `COLUMNS` that it has.
      rows: Its rows.
    """

    columns: frozenset[str]
    rows: list[Row]


def read(path: Path) -> Table:
    """Reads a table of labels.

    Args:
      path: A CSV file, delimited by commas, semicolons or tabs, with a header; see `COLUMNS`.

    Raises:
      UserError: Naming the row.
    """
    text = lists.read_text(path, "list of labels")
    titles = {title for name, aliases in COLUMNS.items() for title in (name, *aliases)}
    try:
        _, lines = score_dialect.rows(iter(io.StringIO(text, newline="")), titles)
        header = [name.strip().lower() for name in next(lines, (0, []))[1]]
        needed = ("file",) if "typ" in header else ("file", "label")
        place = score_dialect.columns(path, header, COLUMNS, needed)
        rows = [
            _row(
                f"{path}: row {number}",
                {name: row[column].strip() for name, column in place.items()},
            )
            for number, row in score_dialect.whole_rows(path, lines, len(header))
        ]
    except csv.Error as error:
        raise UserError(f"{path}: is no table: {error}; save it as CSV") from error
    return Table(frozenset(place), rows)


def read_metadata(path: Path) -> Table:
    """Reads `metadata.json` of DFDC: REAL or FAKE for each file, and of which video it was made.

    Raises:
      UserError: It cannot be read, or has another form.
    """
    content = lists.read_json(path, "list of labels")
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be an object with an entry for each file")
    rows = []
    for name, entry in content.items():
        known = entry if isinstance(entry, dict) else {}
        cells = {"file": name, "label": str(known.get("label", ""))}
        original = known.get("original")
        cells["identity"] = original if isinstance(original, str) else name
        rows.append(_row(f"{path}: {name}", cells))
    return Table(frozenset(("file", "label", "identity")), rows)


def _row(where: str, cells: dict[str, str]) -> Row:
    typ = cells.get("typ", "")
    said = cells.get("label", typ and ("real" if typ.lower() == "real" else "fake"))
    label = LABELS.get(said.lower())
    if not cells["file"]:
        raise UserError(f"{where}: names no file")
    if label is None:
        raise UserError(f"{where}: label is {said!r}; must be real or fake")
    method = cells.get("method") or (typ if label else "")
    identity, video = (lists.one_form(cells.get(name, "")) for name in ("identity", "video"))
    frame = cells.get("frame", "")
    return Row(where, cells["file"], label, lists.one_form(method), identity, video, frame)
