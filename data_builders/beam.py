"""The same builders as Apache Beam pipelines: each clip is an element, on any worker.

This module needs the extra `beam`. Every worker must reach the files that the pipeline reads and
writes under the same paths, and must have `data_builders` installed.
"""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.runner import create_runner

from data_builders.errors import UnusableClipError, UserError
from data_builders.progress import Progress
from data_builders.records import FinishedClip
from data_builders.workers import available_cores, start_worker

_SKIPPED, _FAILED, _NOTED = "skipped", "failed", "noted"
_KINDS = _SKIPPED, _FAILED, _NOTED
_LOOK_EVERY_S = 1.0

#: Why a clip gave no examples, and the tracebacks of a mistake in this program.
Reason: TypeAlias = tuple[str, list[str]]


def options(arguments: Sequence[str]) -> PipelineOptions:
    """Parses pipeline options. Without `--runner`, there is one process for each core.

    Raises:
      UserError: A runner is unknown, or an option has a wrong value.
    """
    here = ["--runner=DirectRunner", "--direct_running_mode=multi_processing"]
    here += [f"--direct_num_workers={available_cores()}", "--default_sdk_harness_log_level=ERROR"]
    elsewhere = any(argument.partition("=")[0] == "--runner" for argument in arguments)
    usage = io.StringIO()
    try:
        with contextlib.redirect_stderr(usage):  # argparse ends its page of usage with the reason
            parsed = PipelineOptions([*([] if elsewhere else here), *arguments])
            chosen = parsed.view_as(StandardOptions).runner
            parsed.get_all_options()
        create_runner(chosen)
    except (SystemExit, ValueError) as error:
        reason = usage.getvalue().strip().rpartition("error: ")[2] or str(error)
        raise UserError(f"--beam: pipeline options: {reason}") from error
    return parsed


def failed(error: RuntimeError) -> UserError:
    """Makes one line of the failure of a pipeline, which is text of a worker."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return UserError(f"--beam: the pipeline failed: {lines[-1].strip()}")


class _ReadClip(beam.DoFn):
    """Makes the examples of a clip. Errors are values, as Beam would turn exceptions into text."""

    def __init__(self, reader: Callable[[Any], FinishedClip | UnusableClipError]) -> None:
        self._reader = reader

    def setup(self) -> None:
        start_worker()

    def process(self, element: tuple[int, Any]) -> Iterator[Any]:
        index, source = element
        try:
            clip = self._reader(source)
        except UserError as error:
            yield beam.pvalue.TaggedOutput(_FAILED, (index, _told(error)))
            return
        if isinstance(clip, UnusableClipError):
            yield beam.pvalue.TaggedOutput(_SKIPPED, (index, _told(clip)))
            return
        if clip.notes:
            yield beam.pvalue.TaggedOutput(_NOTED, (index, (clip.name, dict(clip.notes))))
        yield from clip.examples


def _told(error: UserError) -> Reason:
    return str(error), list(getattr(error, "__notes__", ()))


def _write(told: list[tuple[int, Any]], path: str) -> None:
    Path(path).write_text(json.dumps([each for _, each in sorted(told)]))


def _read(report: Path, kind: str) -> list[Any]:
    path = report.with_name(f"{report.name}.{kind}")
    told: list[Any] = json.loads(path.read_text())
    path.unlink()
    return told


class ReadClips(beam.PTransform):
    """Makes the `(key, example)` pairs of a split.

    Attributes:
      sources: For each clip a picklable value that `reader` takes.
      reader: See `PairedDatasetBuilder.clip_reader`.
      report: Path of the files in which the pipeline says which clips it left out, and what was
        noted of the others, without their suffixes.
    """

    def __init__(
        self, sources: Sequence[Any], reader: Callable[[Any], Any], report: str | Path
    ) -> None:
        super().__init__()
        self.sources, self.reader, self.report = sources, reader, report

    def expand(self, begin: Any) -> Any:
        """Builds the graph: each clip is one element, on any worker."""
        read = (
            begin
            | "Sources" >> beam.Create(list(enumerate(self.sources)))
            | "Clips" >> beam.ParDo(_ReadClip(self.reader)).with_outputs(*_KINDS, main="examples")
        )
        for kind in _KINDS:
            collected = read[kind] | f"Collect {kind}" >> beam.combiners.ToList()
            collected | f"Write {kind}" >> beam.Map(_write, f"{self.report}.{kind}")
        return read.examples


def left_out(report: Path) -> list[Reason]:
    """Reads and removes what the pipeline has written on the clips that gave no examples.

    Args:
      report: As given to `ReadClips`.

    Returns:
      The reason for each skipped clip and its tracebacks, in the order of the sources.

    Raises:
      UserError: A clip failed in a way that ends the build.
    """
    reasons = {
        kind: [(reason, notes) for reason, notes in _read(report, kind)]
        for kind in (_SKIPPED, _FAILED)
    }
    if reasons[_FAILED]:
        reason, traces = reasons[_FAILED][0]
        error = UserError(reason)
        for trace in traces:
            error.add_note(trace)
        raise error
    return reasons[_SKIPPED]


def noted(report: Path) -> list[tuple[str, dict[str, int]]]:
    """Reads and removes what the pipeline has noted of each clip: its name, and numbers.

    Args:
      report: As given to `ReadClips`.
    """
    return [(name, notes) for name, notes in _read(report, _NOTED)]


@contextlib.contextmanager
def watch(done: Callable[[], int], total: int, label: str, *, unit: str = "clip") -> Iterator[None]:
    """Shows the progress of work elsewhere, by calling `done` from time to time."""
    ended = threading.Event()
    progress = Progress(total, label, unit=unit)

    def look() -> None:
        while not ended.wait(_LOOK_EVERY_S):
            progress.advance(max(0, done() - progress.done))

    watcher = threading.Thread(target=look, daemon=True)
    with progress:
        watcher.start()
        try:
            yield
            ended.set()
            watcher.join()
            progress.advance(total - progress.done)  # skipped clips leave no file
        finally:
            ended.set()
            progress.close()
