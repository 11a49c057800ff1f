"""The command `qad-jax detect`: a line for each file, or JSON, or CSV."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_builders import command_line
from data_builders.errors import UserError, one_line
from data_builders.files import csv_text
from data_builders.progress import Progress
from qad_jax import cpu
from qad_jax.detection import credentials, media
from qad_jax.detection.results import ERROR, Verdict

_PRINTABLE = ("utf-8", "backslashreplace")  # names of files may have bytes that are no characters
_COLUMNS = ("file", "sha256", "verdict", "probability", "quality", "reason")


def find(paths: Sequence[str]) -> list[str]:
    """Names the files that were meant: folders are searched, `-` reads names from standard input.

    Raises:
      UserError: No file is named, and none is found.
    """
    files: list[str] = []
    for given in paths:
        if given == "-":
            files += [line.rstrip("\n") for line in sys.stdin if line.strip()]
        elif os.path.isdir(given):
            files += _within(given)
        else:  # where there is no such file, its verdict says so
            files.append(given)
    if not files:
        raise UserError(f"{', '.join(paths)}: holds no image and no video")
    return list(dict.fromkeys(files))


def _within(folder: str) -> Iterator[str]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if Path(name).suffix.lower() in media.SUFFIXES and not name.startswith("."):
                yield os.path.join(root, name)


def line(verdict: Verdict) -> str:
    """What the terminal says of a file."""
    parts = [f"{verdict.file}: {verdict.verdict.replace('_', ' ')}"]
    if verdict.probability is not None:
        parts.append(f"probability of fake {verdict.probability:.2f}")
        parts.append(f"quality near {verdict.quality}")
    rate = verdict.false_positive_rate
    if verdict.verdict == "fake" and rate is not None and rate.value is not None:
        parts.append(
            f"of 1000 real clips of this quality about {1000 * rate.value:.0f} are called fake"
        )
    rate = verdict.false_negative_rate
    if verdict.verdict == "real" and rate is not None and rate.value is not None:
        parts.append(f"of 1000 fakes of this quality about {1000 * rate.value:.0f} are called real")
    if verdict.reason:
        reason = verdict.reason.removeprefix(f"{verdict.file}: ")
        parts.append(reason)
    return one_line("; ".join(parts))


def _job(argv: Sequence[str], prog: str) -> int:
    parser = command_line.Parser(
        prog=prog, description="Judges whether the faces of images and videos were manipulated."
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="file, folder, or - for a list")
    parser.add_argument("--model", help="a model file, see qad_jax.release")
    parser.add_argument(
        "--frames", type=int, default=media.FRAMES, help="frames of a video (%(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write pages for a browser into this folder"
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON object for each file")
    shape.add_argument("--csv", action="store_true", help="a table")
    args = parser.parse_args(argv)
    if args.frames < 1:
        raise UserError(f"--frames: is {args.frames}, must be at least 1")
    files = find(args.paths)
    cpu.tune()  # before JAX is imported
    from qad_jax.detection.detector import Detector
    from qad_jax.detection.pages.folder import Pages

    whole = command_line.command(*prog.split(), *argv)
    pages = None if args.out is None else Pages(args.out, whole)
    detector = Detector.from_pretrained(args.model, frames=args.frames)
    if args.csv:
        print(csv_text(_COLUMNS, []), end="")
    failed = 0
    with Progress(len(files), "judging", unit="file") as progress:
        for file in files:
            if pages is None:
                verdict = detector(file)
            else:
                examined = detector.examine(file)
                pages.add(examined, _alone(prog, file, args))
                verdict = examined.verdict
            failed += verdict.verdict == ERROR
            if args.json:
                print(verdict.as_json(), flush=True)
            elif args.csv:
                row = [getattr(verdict, column) for column in _COLUMNS]
                print(csv_text(row, []).encode(*_PRINTABLE).decode(), end="", flush=True)
            else:
                print(line(verdict), flush=True)
                if said := credentials.line(verdict.media.get("credentials")):
                    print(f"  {said}", flush=True)
            progress.advance()
    if pages is not None:
        print(f"pages: {pages.finish()}", file=sys.stderr)
    if not failed:
        return command_line.DONE
    return command_line.FAILED if failed == len(files) else command_line.PARTLY


def _alone(prog: str, file: str, args: argparse.Namespace) -> str:
    """The command that judges one of the files as it is judged here."""
    model = () if args.model is None else ("--model", args.model)
    frames = () if args.frames == media.FRAMES else ("--frames", args.frames)
    name = ("--", file) if file.startswith("-") else (file,)
    words = (*prog.split(), "--out", args.out, *model, *frames, *name)
    return command_line.command(*words)


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m qad_jax.detect") -> int:
    """Entry point of the command; returns its exit status.

    A command line that cannot be understood is status 1 here, as no file could be judged.
    """
    status = command_line.run(functools.partial(_job, prog=prog), argv)
    return command_line.FAILED if status == command_line.USAGE else status
