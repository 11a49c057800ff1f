"""What changed between two runs of a benchmark, as a table; the exit status tells of a slowdown.

    python benchmarks/speed.py --json before.json
    python benchmarks/speed.py --json after.json       # another commit, the same machine
    python benchmarks/compare.py before.json after.json

A ratio is the new median over the old one. It stands with the smallest and the largest ratio that
the spread of both allows: the lowest new value over the highest old one, and the other way round. A
row is worse, or better, only where the two spreads do not overlap; rows of one round have no spread
and are never called so. Files of two benchmarks are refused. Machines, versions and commands that
differ are told before the table.

Exit status: 0 nothing is worse; 1 something is, or a file cannot be read; 2 the command line is
wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measured

from data_builders import command_line
from data_builders.errors import UserError

WORSE, BETTER, SAME, UNKNOWN = "WORSE", "better", "the same", "one round"


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Lines that name what is not the same besides the commit and the date."""
    lines = []
    if old["command"] != new["command"]:
        lines.append(f"command differs: {old['command']} and {new['command']}")
    for what in ("machine", "versions"):
        for name in sorted(old[what].keys() | new[what].keys()):
            before, after = (_told(content[what].get(name)) for content in (old, new))
            if before != after:
                lines.append(f"{what} differs: {name}: {before} and {after}")
    return lines


def _told(value: Any) -> str:
    if value is None or value == []:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def judged(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Whether a row is worse, better or the same, see the top of this file.

    Args:
      old: The row as it was.
      new: The same row now.
    """
    if min(old["rounds"], new["rounds"]) < 2:
        return UNKNOWN
    above, below = new["low"] > old["high"], new["high"] < old["low"]
    if not (above or below):
        return SAME
    return WORSE if above == (new["better"] == "lower") else BETTER


def table(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], int]:
    """The lines of the table in Markdown, and the number of rows that are worse.

    Raises:
      UserError: No row is in both files.
    """
    before = {row["name"]: row for row in old["rows"]}
    after = {row["name"]: row for row in new["rows"]}
    if not before.keys() & after.keys():
        raise UserError("the two files have no row in common: were both commands the same?")
    lines = ["| what | old | new | unit | new / old | |", "|---|---|---|---|---|---|"]
    worse = 0
    for name, row in after.items():
        if name not in before:
            lines.append(f"| {name} | none | {measured.cell(row)} | {row['unit']} | | only new |")
            continue
        if (row["unit"], row["better"]) != (before[name]["unit"], before[name]["better"]):
            raise UserError(f"row {name!r} has another unit in the two files")
        verdict = judged(before[name], row)
        worse += verdict == WORSE
        cells = measured.cell(before[name]), measured.cell(row), row["unit"]
        lines.append(f"| {name} | {' | '.join(cells)} | {_ratio(before[name], row)} | {verdict} |")
    for name, row in before.items():
        if name in after:
            continue
        lines.append(f"| {name} | {measured.cell(row)} | none | {row['unit']} | | only old |")
    return lines, worse


def _ratio(old: dict[str, Any], new: dict[str, Any]) -> str:
    if old["low"] <= 0:
        return "not defined"
    low, middle, high = (
        new[a] / old[b] for a, b in (("low", "high"), ("median", "median"), ("high", "low"))
    )
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _job(argv: Sequence[str]) -> tuple[str, int]:
    parser = command_line.Parser(
        prog="python benchmarks/compare.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("old", type=Path, metavar="OLD.json", help="the run that was before")
    parser.add_argument("new", type=Path, metavar="NEW.json", help="the run that is judged")
    args = parser.parse_args(argv)
    old, new = measured.read(args.old), measured.read(args.new)
    if old["benchmark"] != new["benchmark"]:
        raise UserError(
            f"{args.new}: it is of the benchmark {new['benchmark']!r}, and {args.old} of "
            f"{old['benchmark']!r}: they cannot be compared"
        )
    differ = differences(old, new)
    lines, worse = table(old, new)
    told = [*differ, ""] if differ else []
    end = "nothing is worse beyond the spread of both"
    if worse:
        end = f"worse beyond the spread of both: {worse} of {len(new['rows'])} rows"
    text = "\n".join([*told, *lines, "", end])
    return text, command_line.FAILED if worse else command_line.DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return command_line.run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
