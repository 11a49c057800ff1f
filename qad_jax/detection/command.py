"""The command `qad-jax detect`: a line for each file, or JSON, or CSV."""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_builders import command_line, compilation_cache
from data_builders.errors import UserError
from data_builders.files import check_kept, check_writable, csv_text
from data_builders.home import expanded
from data_builders.progress import Progress
from qad_jax import cpu
from qad_jax.detection import credentials, listing, measuring, media, printing
from qad_jax.detection.journal import Journal
from qad_jax.detection.labels import Labels
from qad_jax.detection.results import ERROR, Verdict

if TYPE_CHECKING:  # at run time they import JAX, for which `--help` must not wait
    from qad_jax.detection.detector import Detector
    from qad_jax.detection.examination import Look


def _parse(argv: Sequence[str], prog: str) -> argparse.Namespace:
    piped = "--" in argv and "--beam" in argv[: argv.index("--")]
    ours = argv[: argv.index("--")] if piped else argv
    parser = command_line.Parser(
        prog=prog,
        usage="%(prog)s PATH ... [options] [--beam -- pipeline options of Apache Beam]",
        description="Judges whether the faces of images and videos were manipulated.",
        epilog=f"Exit status: {command_line.DONE} all files are judged; {command_line.PARTLY} some "
        f"could not be; {command_line.FAILED} none could be, or the command line is wrong.",
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="file, folder, or - for a list")
    parser.add_argument(
        "--model", help="a model file, or a run that was evaluated (the package's own detector)"
    )
    parser.add_argument(
        "--frames", type=int, default=media.FRAMES, help="frames of a video (%(default)s)"
    )
    parser.add_argument(
        "--out",
        type=expanded,
        metavar="DIR",
        help="write pages for a browser into this folder; with --labels, the report",
    )
    parser.add_argument(
        "--results",
        type=expanded,
        metavar="FILE",
        help="append the JSON of each verdict to this file, and leave out what it has already",
    )
    parser.add_argument(
        "--labels",
        type=expanded,
        metavar="CSV",
        help="columns file and label, and optionally method and identity: measure the verdicts on "
        "these files, which are judged where no PATH is given",
    )
    parser.add_argument(
        "--beam",
        action="store_true",
        help="judge as an Apache Beam pipeline: here with one process for each core, elsewhere by "
        "the options after --, such as --runner=FlinkRunner, which needs --results",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON object for each file")
    shape.add_argument("--csv", action="store_true", help="a table")
    behind: Sequence[str] = ()
    if "--" in ours:  # with nothing before it, argparse drops the mark, and a name is an option
        ours, behind = ours[: ours.index("--")], ours[ours.index("--") + 1 :]
    args = parser.parse_intermixed_args(ours)  # options may stand between paths
    args.paths = [*(args.paths or ()), *behind]
    args.words, args.pipeline_options = list(argv), argv[len(ours) + 1 :] if piped else []
    if args.frames < 1:
        raise UserError(f"--frames: is {args.frames}, must be at least 1")
    if not args.paths and args.labels is None:
        parser.error("name a file or a folder to judge, or --labels")
    if args.beam and args.out is not None and args.labels is None:
        parser.error("--beam writes no pages; leave out --out, or --beam")
    return args


class _Work:
    """What is done with each verdict: it is kept, printed, shown on a page and measured."""

    def __init__(
        self, args: argparse.Namespace, prog: str, detector: Detector, labels: Labels | None
    ) -> None:
        """Looks at the files and folders that are written; no verdict is there yet.

        Raises:
          UserError: One of them cannot be written, or holds something else.
        """
        self._args, self._prog, self._detector = args, prog, detector
        self.failed = self.before = 0
        self.pages = self.journal = self._measured = None
        if labels is not None:
            self._measured = measuring.Measurement(
                labels, list(detector.model.description.qualities)
            )
        elif args.out is not None:
            if args.results is not None and _is_in(args.results, args.out):
                raise UserError(
                    f"--results: {args.results}: is in the folder of --out, whose files are "
                    "replaced; name a file elsewhere"
                )
            from qad_jax.detection.pages.folder import Made, Pages

            whole = command_line.command(*prog.split(), *args.words)
            made = Made(detector.model.sha256, args.frames)
            self.pages = Pages(args.out, whole, detector.model.description, made)
        if args.results is not None:
            try:
                sha256 = detector.model.sha256
                self.journal = Journal(args.results, model=sha256, frames=args.frames)
            except BaseException:
                self.close()  # the folder of the pages is free again
                raise

    def known(self, file: str) -> str | None:
        """SHA-256 of what is done for a file: its verdict and, where there are pages, its page."""
        digest = None if self.journal is None else self.journal.known(file)
        if digest is None or (self.pages is not None and not self.pages.has(file, digest)):
            return None
        return digest

    def take(self, file: str, look: Look | None) -> None:
        """Takes what is said of a file; None stands for what the journal has already."""
        if look is None:
            verdict = self._stored(file)
        else:
            verdict = look.verdict
            if self.pages is not None:
                self.pages.add(self._detector.examined(look), _alone(self._prog, file, self._args))
            if self.journal is not None:
                self.journal.append(verdict)
            self._print(verdict)
            if look.trace and getattr(self._args, "debug", False):
                print(look.trace, file=sys.stderr)
        self.failed += verdict.verdict == ERROR
        if self._measured is not None:
            judgement = None if look is None else look.judgement
            self._measured.add(verdict, None if judgement is None else judgement.decisive)

    def _stored(self, file: str) -> Verdict:
        assert self.journal is not None
        self.before += 1
        verdict = self.journal.stored(file)
        if self.pages is not None:
            self.pages.keep(verdict)
        return verdict

    def _print(self, verdict: Verdict) -> None:
        if self._args.json:
            print(verdict.as_json(sys.stdout.encoding or "utf-8"), flush=True)
        elif self._args.csv:
            print(printing.row(verdict), end="", flush=True)
        else:
            print(printing.line(verdict), flush=True)
            if said := credentials.line(verdict.media.get("credentials")):
                print(f"  {said}", flush=True)

    def close(self) -> None:
        """Closes the files, also where the work was stopped: what was taken is kept."""
        if self.journal is not None:
            self.journal.close()
        if self.pages is not None:
            self.pages.close()

    def finish(self) -> None:
        """Writes and says what is of all files: on standard error where JSON or a table is out."""
        out, args = self._args.out, self._args
        if self.before:
            print(f"{self.before} files are in {args.results} already", file=sys.stderr)
        if self.pages is not None:
            print(f"pages: {self.pages.finish()}", file=sys.stderr)
        if self._measured is not None:
            stream = sys.stderr if args.json or args.csv else sys.stdout
            for remark in self._measured.remarks():
                print(f"warning: {remark}", file=sys.stderr)
            print(self._measured.text(), file=stream)
            if out is not None and (page := self._measured.write(out)) is not None:
                print(page, file=stream)


def _job(argv: Sequence[str], prog: str) -> int:
    args = _parse(argv, prog)
    if not args.beam or args.results is not None:
        return _judge(args, prog)
    with tempfile.TemporaryDirectory() as folder:  # which the processes of this machine share
        args.results = Path(folder) / "verdicts.jsonl"
        return _judge(args, prog)


def _judge(args: argparse.Namespace, prog: str) -> int:
    pipeline = command_line.beam_options(args.pipeline_options) if args.beam else None
    labels = None if args.labels is None else Labels(args.labels)
    if args.paths or labels is None:
        files = listing.find(args.paths)
    else:
        files = [row.path for row in labels.files()]
    if labels is not None and args.out is not None:
        _check_report(args, files)
    cpu.tune()  # before JAX is imported
    compilation_cache.keep()
    from qad_jax.detection import many
    from qad_jax.detection.detector import Detector
    from qad_jax.weights import model_file

    detector = Detector.from_pretrained(args.model, frames=args.frames)
    work = _Work(args, prog, detector, labels)
    if args.csv:
        print(csv_text(printing.COLUMNS, []), end="")
    progress: contextlib.AbstractContextManager[Progress | None]
    if pipeline is not None and work.journal is not None:
        from qad_jax.detection import beam

        model = model_file.find(args.model)
        looks = beam.looks(files, work.journal, model=model, frames=args.frames, options=pipeline)
        progress = contextlib.nullcontext()  # the pipeline shows its own
    else:
        keep = work.pages is not None
        looks = many.looks(detector, files, known=work.known, keep=keep)
        progress = Progress(len(files), "judging", unit="file")
    with contextlib.closing(work):
        with contextlib.closing(looks), progress as shown:
            for file, look in looks:
                work.take(file, look)
                if shown is not None:
                    shown.advance()
        work.finish()
    if not work.failed:
        return command_line.DONE
    return command_line.FAILED if work.failed == len(files) else command_line.PARTLY


def _is_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _check_report(args: argparse.Namespace, files: Sequence[str]) -> None:
    """Checks, before hours of work, that the report of `--labels` can be written and costs nothing.

    Raises:
      UserError: The folder cannot be written, or a file of the report would replace one that is
        read: the labels, the results, a judged file, the model, or the scores of a run that is one.
    """
    check_writable(args.out.absolute(), "--out")
    read = [args.labels, *files]
    if args.results is not None:
        read.append(args.results)
    if args.model is not None:
        model = expanded(args.model)
        read += [model, *model.glob("evaluation/*/scores.csv")]
    check_kept(read, measuring.files(args.out), "--out")


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
    status = command_line.run(
        functools.partial(_job, prog=prog),
        argv,
        interrupted="interrupted; with --results the same command goes on after the last verdict",
    )
    return command_line.FAILED if status == command_line.USAGE else status
