"""The same builders as Apache Beam pipelines: clips are elements, for many processes or machines.

Needs the extra `beam`. What a pipeline reads and writes must be reachable under the same path by
every worker, and `data_builders` be installed there.
"""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.runner import create_runner

from data_builders.errors import UnusableClipError, UserError
from data_builders.progress import Progress
from data_builders.records import Example
from data_builders.workers import available_cores, start_worker

_SKIPPED, _FAILED = "skipped", "failed"
_LOOK_EVERY_S = 1.0


def options(arguments: Sequence[str]) -> PipelineOptions:
    """Parses pipeline options; without `--runner`, as many processes as there are cores.

    Raises:
      UserError: For an unknown runner, or a value that is not one of an option's.
    """
    here = ["--runner=DirectRunner", "--direct_running_mode=multi_processing"]
    here += [f"--direct_num_workers={available_cores()}", "--default_sdk_harness_log_level=ERROR"]
    elsewhere = any(argument.partition("=")[0] == "--runner" for argument in arguments)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):  # argparse says it at the end of a page of usage
            parsed = PipelineOptions([*([] if elsewhere else here), *arguments])
            chosen = parsed.view_as(StandardOptions).runner
            parsed.get_all_options()
        create_runner(chosen)
    except (SystemExit, ValueError) as error:
        reason = said.getvalue().strip().rpartition("error: ")[2] or str(error)
        raise UserError(f"--beam: pipeline options: {reason}") from error
    return parsed


class _ReadClip(beam.DoFn):
    """Makes the examples of a clip. What is wrong with it is a value: exceptions become text."""

    def __init__(self, reader: Callable[[Any], list[Example] | UnusableClipError]) -> None:
        self._reader = reader

    def setup(self) -> None:
        start_worker()

    def process(self, element: tuple[int, Any]) -> Iterator[Any]:
        number, source = element
        try:
            examples = self._reader(source)
        except UserError as error:
            yield beam.pvalue.TaggedOutput(_FAILED, (number, str(error)))
            return
        if isinstance(examples, UnusableClipError):
            yield beam.pvalue.TaggedOutput(_SKIPPED, (number, str(examples)))
        else:
            yield from examples


def _write(reasons: list[tuple[int, str]], path: str) -> None:
    Path(path).write_text(json.dumps([reason for _, reason in sorted(reasons)]))


class ReadClips(beam.PTransform):
    """From nothing to the `(key, example)` pairs of a split.

    Attributes:
      sources: What `reader` needs to make each clip, picklable.
      reader: See `PairedDatasetBuilder.clip_reader`.
      report: Path before the names of the two files in which the pipeline says what was left out.
    """

    def __init__(
        self, sources: Sequence[Any], reader: Callable[[Any], Any], report: str | Path
    ) -> None:
        super().__init__()
        self.sources, self.reader, self.report = sources, reader, report

    def expand(self, begin: Any) -> Any:
        """Builds the graph: one clip is one element, spread over the workers."""
        read = (
            begin
            | "Sources" >> beam.Create(list(enumerate(self.sources)))
            | "Clips"
            >> beam.ParDo(_ReadClip(self.reader)).with_outputs(_SKIPPED, _FAILED, main="examples")
        )
        for kind in (_SKIPPED, _FAILED):
            collected = read[kind] | f"Collect {kind}" >> beam.combiners.ToList()
            collected | f"Write {kind}" >> beam.Map(_write, f"{self.report}.{kind}")
        return read.examples


def left_out(report: Path) -> list[str]:
    """Reads, and removes, what the pipeline has said of the clips that gave no examples.

    Args:
      report: As given to `ReadClips`.

    Returns:
      Why each skipped clip was, in the order of the sources.

    Raises:
      UserError: Where a clip failed in a way that ends the build.
    """
    reasons = {}
    for kind in (_SKIPPED, _FAILED):
        path = report.with_name(f"{report.name}.{kind}")
        reasons[kind] = json.loads(path.read_text())
        path.unlink()
    if reasons[_FAILED]:
        raise UserError(reasons[_FAILED][0])
    return reasons[_SKIPPED]


@contextlib.contextmanager
def watch(done: Callable[[], int], total: int, label: str) -> Iterator[None]:
    """Shows the progress of work that is done elsewhere, by looking at it from time to time."""
    over = threading.Event()
    progress = Progress(total, label, unit="clip")

    def look() -> None:
        while not over.wait(_LOOK_EVERY_S):
            progress.advance(max(0, done() - progress.done))

    watcher = threading.Thread(target=look, daemon=True)
    with progress:
        watcher.start()
        try:
            yield
            over.set()
            watcher.join()
            progress.advance(total - progress.done)  # those that were skipped leave no trace
        finally:
            over.set()
            progress.close()
