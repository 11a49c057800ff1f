"""The result of a benchmark as JSON: what was measured, on which machine, with which versions.

A benchmark has `add_option(parser)`, a `Measured`, `add` beside each number that it prints, and
`write(options.json)` at the end, or `with written(options.json)` around what takes hours.
`compare.py` reads two such files, and `tables.py` makes the tables of docs/speed.md of them. A file
holds

    {"benchmark", "command", "machine": {"processor", "cores", "flags", "gpu"},
     "versions": {name: version}, "commit", "date", "by_hand",
     "rows": [{"name", "unit", "better", "median", "low", "high", "rounds",
               "table", "row", "column", "digits"}]}

`by_hand` is a text, and only in a file that was entered by hand: where its numbers come from.
This file imports no JAX, and looks for devices only where the benchmark has imported it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import math
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_builders.errors import UserError, describe
from data_builders.files import read_json, write_json
from data_builders.workers import available_cores
from qad_jax import cpu
from qad_jax.runs import versions

#: What a better value is, compared with another.
BETTER = ("lower", "higher")
#: Flags of a processor that decide how fast a network is.
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_tile", "asimd", "bf16")
_TEXTS = ("benchmark", "command", "date")
_ROW_TEXTS = ("name", "unit", "better", "table", "row", "column")
_NUMBERS = ("median", "low", "high", "rounds")
_MOST_DIGITS = 9


class Measured:
    """The rows of one run of a benchmark.

    Attributes:
      rows: As they are stored.
      versions: Those beside the libraries that `qad_jax.runs.versions` knows, such as torch's.
    """

    def __init__(self, benchmark: str) -> None:
        """Begins without a row.

        Args:
          benchmark: Its name, such as 'speed'.
        """
        self.benchmark = benchmark
        self.rows: list[dict[str, Any]] = []
        self.versions: dict[str, str] = {}

    def add(
        self,
        table: str,
        row: str,
        column: str,
        values: Sequence[float],
        *,
        unit: str,
        better: str = "lower",
        digits: int = 2,
    ) -> None:
        """Adds a cell of a table.

        Args:
          table: What the table is of.
          row: Name of its row.
          column: Name of its column.
          values: One for each round; at least one.
          unit: Of the values: 's', 'images/s', '%', 'times' and so on.
          better: Which of two values is better, see `BETTER`.
          digits: How many are shown behind the point.

        Raises:
          ValueError: If the cell is there already, or a value is missing or not finite.
        """
        name = f"{table}: {row}, {column}"
        if not values or not all(math.isfinite(value) for value in values):
            raise ValueError(f"{name}: {list(values)} are no measured values")
        if any(known["name"] == name for known in self.rows):
            raise ValueError(f"{name}: it is there already")
        described = {
            "name": name,
            "unit": unit,
            "better": better,
            "median": statistics.median(values),
            "low": min(values),
            "high": max(values),
            "rounds": len(values),
            "table": table,
            "row": row,
            "column": column,
            "digits": digits,
        }
        self.rows.append(described)

    def write(self, file: Path | None) -> None:
        """Writes the file, where one was asked for (see `add_option`) and anything was measured."""
        if file is None or not self.rows:
            return
        content = {
            "benchmark": self.benchmark,
            "command": _settings() + _command(sys.argv),
            "machine": machine(),
            "versions": {**versions.packages(), **self.versions},
            "commit": versions.commit(),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "rows": self.rows,
        }
        write_json(file, content, allow_nan=False)

    @contextlib.contextmanager
    def written(self, file: Path | None) -> Iterator[None]:
        """Writes the file in the end, also where a later part fails: the others took hours."""
        try:
            yield
        finally:
            self.write(file)


def add_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--json` to a benchmark."""
    parser.add_argument(
        "--json", type=new_file, metavar="FILE", help="write what was measured there, too"
    )


def new_file(path: str) -> Path:
    """The `type` of an option that names a file to write: a mistake is told before hours pass."""
    if Path(path).is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder")
    if not Path(path).parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {Path(path).parent}")
    return Path(path)


def positive(text: str) -> int:
    """The `type` of an option that counts something, of which there is at least one."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"is {number}, must be at least 1")
    return number


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def machine() -> dict[str, Any]:
    """What decides the speed: processor, the cores this process may use, flags, and GPUs."""
    name, flags = cpu.processor()
    described: dict[str, Any] = {
        "processor": name or platform.processor() or platform.machine(),
        "cores": available_cores(),
        "flags": [flag for flag in _FLAGS if flag in flags],
    }
    jax = sys.modules.get("jax")
    devices = [] if jax is None else jax.devices()
    if devices and devices[0].platform != "cpu":
        described["gpu"] = f"{len(devices)} x {devices[0].device_kind}"
    return described


def _settings() -> str:
    """The variables of the environment that change what is measured, as they stand in a shell."""
    value = os.environ.get(cpu.ONEDNN)
    return "" if value is None else f"{cpu.ONEDNN}={value} "


def _command(words: Sequence[str]) -> str:
    """The command line without `--json`; of absolute paths, which are one machine's, the ends."""
    told, rest = ["python", f"benchmarks/{Path(words[0]).name}"], list(words[1:])
    while rest:
        word = rest.pop(0)
        if word == "--json":
            rest = rest[1:]
        elif not word.startswith("--json="):
            name, equals, value = word.rpartition("=")
            told.append(name + equals + (Path(value).name if value.startswith("/") else value))
    return shlex.join(told)


def read(file: Path) -> dict[str, Any]:
    """Reads a file that `Measured.write` has written, or that was entered by hand.

    Raises:
      UserError: It cannot be read, or is no such file.
    """
    try:
        content = read_json(file)
        _check(content)
    except OSError as error:
        raise UserError(describe(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{file}: not the result of a benchmark: {reason}") from error
    return content


def cell(row: dict[str, Any]) -> str:
    """Median and range of a row, or the value of its only round."""
    digits = row["digits"]
    middle = f"{row['median']:.{digits}f}"
    if row["low"] == row["high"]:
        return middle
    return f"{middle} ({row['low']:.{digits}f} to {row['high']:.{digits}f})"


def _check(content: Any) -> None:
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    for name in _TEXTS:
        if not isinstance(content[name], str):
            raise ValueError(f"{name!r} is not a text")
    for name in ("commit", "by_hand"):
        if not isinstance(content.get(name), str | None):
            raise ValueError(f"{name!r} is neither a text nor null")
    for name in ("machine", "versions"):
        if not isinstance(content[name], dict):
            raise ValueError(f"{name!r} is not an object")
    rows = content["rows"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("'rows' is not a list of objects")
    for row in rows:
        if not all(isinstance(row[name], str) for name in _ROW_TEXTS):
            raise ValueError(f"a row has a field among {', '.join(_ROW_TEXTS)} that is no text")
        if not all(type(row[n]) in (int, float) and math.isfinite(row[n]) for n in _NUMBERS):
            raise ValueError(f"row {row['name']!r} has a value that is no number")
        if not row["low"] <= row["median"] <= row["high"]:
            raise ValueError(f"row {row['name']!r}: low, median and high are not in this order")
        if type(row["digits"]) is not int or not 0 <= row["digits"] <= _MOST_DIGITS:
            raise ValueError(f"row {row['name']!r}: 'digits' is no number from 0 to {_MOST_DIGITS}")
        if row["better"] not in BETTER:
            raise ValueError(f"row {row['name']!r}: 'better' is none of {', '.join(BETTER)}")
    names = [row["name"] for row in rows]
    if len(set(names)) < len(names):
        raise ValueError("two rows have the same name")
