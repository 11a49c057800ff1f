"""Puts tables of measured figures into a page, from the files that benchmarks wrote with `--json`.

    python benchmarks/tables.py docs/measured docs/speed.md

The page marks each table. What stands between the two marks is replaced:

    <!-- measured: FILE.json: NAME OF THE TABLE -->
    <!-- end of measured -->

Several files stand side by side, with one column of all their tables, as `torch / here`:

    <!-- measured: FILE.json + OTHER.json: all, NAME OF THE COLUMN -->
    <!-- end of measured -->

The table comes with the command, the machine, the versions and the commit of the file. To measure
again, write the file anew with the command that stands there, and call this one.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measured

from data_builders import command_line
from data_builders.errors import UserError, describe
from data_builders.files import write_whole

_BEGIN = r"<!-- measured: (?P<files>[\w.-]+(?: \+ [\w.-]+)*): (?P<table>.+?) -->\n"
_END = "<!-- end of measured -->\n"
_BLOCK = re.compile(f"(?P<begin>{_BEGIN}).*?(?P<end>{_END})", re.DOTALL)
_ALL = "all, "
_VERSIONS = ("Python", "jax", "jaxlib", "flax", "torch", "onednn-cpu-gomp")


def table(content: dict[str, Any], name: str) -> str:
    """One table of a file in Markdown, and under it where its figures come from.

    Args:
      content: Of a file, see `measured.read`.
      name: The table.

    Raises:
      UserError: The file has no such table.
    """
    cells = [row for row in content["rows"] if row["table"] == name]
    if not cells:
        known = sorted({row["table"] for row in content["rows"]})
        raise UserError(f"there is no table {name!r}, only {', '.join(known)}")
    columns = list(dict.fromkeys(cell["column"] for cell in cells))
    rows: dict[str, dict[str, str]] = {}
    for cell in cells:
        rows.setdefault(cell["row"], {})[cell["column"]] = measured.cell(cell)
    lines = [f"| {name} | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for row, of in rows.items():
        lines.append(f"| {row} | {' | '.join(of.get(column, '') for column in columns)} |")
    return "\n".join([*lines, "", source(content), ""])


def side_by_side(contents: Sequence[dict[str, Any]], column: str) -> str:
    """One column of all tables of several files, and under it where their figures come from.

    A table is called after a model, a type and more, as `resnet50, float32, 4 x 3 images`: model
    and row are the row, and the versions of JAX and the type are the column.

    Args:
      contents: Of the files, see `measured.read`.
      column: Which of the tables' columns.

    Raises:
      UserError: A file has no such column, or two files the same cell.
    """
    rows: dict[str, dict[str, str]] = {}
    for content in contents:
        cells = [row for row in content["rows"] if row["column"] == column]
        if not cells:
            raise UserError(f"there is no column {column!r}")
        for cell in cells:
            model, *rest = cell["table"].split(", ")
            if not rest:
                raise UserError(f"the table {model!r} is not called after a model and a type")
            kind = rest[0]
            settings = content["command"].partition(" python ")[0]
            place = f"jax {content['versions'].get('jax')}, {kind}"
            if settings != content["command"]:
                place += f", `{settings}`"
            row = rows.setdefault(f"{model} {cell['row']}", {})
            if place in row:
                raise UserError(f"{place} is there twice: {cell['name']}")
            row[place] = measured.cell(cell)
    columns = list(dict.fromkeys(place for row in rows.values() for place in row))
    lines = [f"| {column} | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(row.get(place, '-') for place in columns)} |")
    return "\n\n".join(["\n".join(lines), *map(source, contents), ""])[:-1]


def source(content: dict[str, Any]) -> str:
    """Where the figures of a file come from, in a line."""
    of = content["machine"]
    parts = [of.get("processor"), f"{of['cores']} cores" if "cores" in of else "", of.get("gpu")]
    known = content["versions"]
    parts += [f"{name} {known[name]}" for name in _VERSIONS if name in known]
    commit = content.get("commit")
    parts.append(f"commit {commit[:9]}{'+' * commit.endswith('+')}" if commit else "")
    parts.append(content["date"][:10])
    line = f"`{content['command']}`: {', '.join(str(part) for part in parts if part)}."
    by_hand = content.get("by_hand")
    return f"{line} Entered by hand: {by_hand}" if by_hand else line


def generated(page: str, folder: Path) -> str:
    """The text of a page with its tables made anew.

    Args:
      page: The text as it is.
      folder: Where the files are.

    Raises:
      UserError: A file or a table is missing, or a mark.
    """
    if len(re.findall(_BEGIN, page)) != len(_BLOCK.findall(page)) or (
        page.count(_END) != len(_BLOCK.findall(page))
    ):
        raise UserError("a mark 'measured' without its 'end of measured', or the other way round")

    def block(match: re.Match[str]) -> str:
        files = [folder / name for name in match["files"].split(" + ")]
        name = match["table"]
        try:
            contents = [measured.read(file) for file in files]
            if name.startswith(_ALL):
                made = side_by_side(contents, name.removeprefix(_ALL))
            else:
                made = "".join(table(content, name) for content in contents)
        except UserError as error:
            known, file = str(error), " + ".join(map(str, files))
            raise UserError(known if str(files[0]) in known else f"{file}: {known}") from error
        return f"{match['begin']}{made}{match['end']}"

    return _BLOCK.sub(block, page)


def _job(argv: Sequence[str]) -> str:
    parser = command_line.Parser(
        prog="python benchmarks/tables.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where the JSON files are")
    parser.add_argument("page", type=Path, help="the Markdown file")
    args = parser.parse_args(argv)
    try:
        page = args.page.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UserError(f"{args.page}: cannot be read: {describe(error)}") from error
    try:
        made = generated(page, args.folder)
    except UserError as error:
        raise UserError(f"{args.page}: {error}") from error
    if made != page:
        write_whole(args.page, made)
    state = "unchanged" if made == page else "written"
    return f"{args.page}: {state}; tables of measured figures: {len(_BLOCK.findall(made))}"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return command_line.run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
