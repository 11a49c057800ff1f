"""The judging of many files as an Apache Beam pipeline: some files are an element, on any worker.

This module needs the extra `beam`. Every worker must reach the files, the model and the folder of
the results under the same paths, and must have `qad_jax` installed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from data_builders.beam import failed, watch
from data_builders.errors import UserError
from data_builders.files import parse_json, write_whole
from data_builders.workers import start_worker
from qad_jax import cpu
from qad_jax.detection.detector import Detector
from qad_jax.detection.examination import Look
from qad_jax.detection.journal import MOST_VALUES, Journal
from qad_jax.detection.looking import Task
from qad_jax.detection.many import scored
from qad_jax.detection.results import Verdict
from qad_jax.detection.scoring import batch_size

# Files that a worker judges at a time, whose crops share batches.
_TOGETHER = 16


def looks(
    files: Sequence[str],
    journal: Journal,
    *,
    model: str | Path | None,
    frames: int,
    options: PipelineOptions,
) -> Generator[tuple[str, Look | None]]:
    """Judges files by a pipeline.

    Each element leaves a file of verdicts beside the journal. What a pipeline that was stopped has
    left there is taken into the journal first.

    Args:
      files: Their paths.
      journal: Tells which files were judged before.
      model: As `Detector.from_pretrained` takes it.
      frames: Number of frames of a video.
      options: See `data_builders.beam.options`.

    Yields:
      Each path with its verdict, when the pipeline has ended: first those that it has judged, in
      any order, then those whose content was known, with None.

    Raises:
      UserError: The pipeline failed, or workers have written elsewhere. What it has judged is kept.
    """
    place = Path(os.path.abspath(f"{journal.path}.parts"))
    place.mkdir(exist_ok=True)
    for verdict in _taken(place):
        journal.append(verdict)
    tasks = [Task(file, journal.known(file)) for file in files]
    # As JSON: Beam's own code for texts refuses names with bytes that are no characters.
    elements = [
        json.dumps(tasks[i : i + _TOGETHER], allow_nan=False)
        for i in range(0, len(tasks), _TOGETHER)
    ]
    with watch(lambda: _done(place), len(files), "judging", unit="file"):
        try:
            with beam.Pipeline(options=options) as pipeline:
                (
                    pipeline
                    | "Files" >> beam.Create(elements)
                    | "Spread" >> beam.Reshuffle()
                    | "Judge" >> beam.ParDo(_Judge(model, frames, str(place)))
                )
        except RuntimeError as error:
            raise failed(error) from error
    left = dict.fromkeys(files)
    for verdict in _taken(place):
        left.pop(verdict.file, None)
        yield verdict.file, Look(verdict)
    with contextlib.suppress(OSError):  # a worker that was killed has left a part of a file
        place.rmdir()
    for file in left:
        if journal.known(file) is None:
            raise UserError(
                f"{file}: no worker has written a verdict on it into {place}; every worker must "
                "reach that folder under this path"
            )
        yield file, None


class _Judge(beam.DoFn):
    """Judges some files and writes their verdicts. The bundle may be judged again elsewhere."""

    def __init__(self, model: str | Path | None, frames: int, place: str) -> None:
        self._model, self._frames, self._place = model, frames, place

    def setup(self) -> None:
        start_worker()
        cpu.tune()  # only local workers inherit what the command has set; scores must have its bits

    def process(self, element: str) -> None:
        detector = _detector(self._model, self._frames)
        tasks = [Task(*each) for each in json.loads(element)]
        found = map(detector.looker(keep=False), tasks)
        lines = [
            detector.look(one, scores).verdict.as_json() + "\n"
            for one, scores in scored(found, detector.scores, batch_size())
            if not one.known
        ]
        # The same files give the same name, so a bundle that is judged twice is written once.
        digest = hashlib.sha256(element.encode()).hexdigest()
        if lines:
            path = Path(self._place) / f"{digest}-{len(tasks)}.jsonl"
            write_whole(path, "".join(lines))


@functools.lru_cache(maxsize=1)
def _detector(model: str | Path | None, frames: int) -> Detector:
    """One for each process, whose workers share it."""
    return Detector.from_pretrained(model, frames=frames)


def _done(place: Path) -> int:
    """Number of files of the elements that are written."""
    return sum(int(path.stem.rpartition("-")[2]) for path in place.glob("*.jsonl"))


def _taken(place: Path) -> Iterator[Verdict]:
    """Reads what the elements have written, and removes each file when its verdicts are taken."""
    for path in sorted(place.glob("*.jsonl")):
        try:
            with path.open("rb") as lines:
                for line in lines:
                    yield Verdict.from_dict(parse_json(line, most=MOST_VALUES))
        except (ValueError, AttributeError) as error:
            raise UserError(f"{path}: is no list of verdicts: {error}; remove it") from error
        path.unlink()
