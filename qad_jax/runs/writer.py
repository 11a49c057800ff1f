"""The log of a run: `metrics.jsonl` for tools, TensorBoard for people."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2

from data_builders.errors import UserError
from data_builders.files import write_whole

# Tuples that TensorBoard shows.
_SHEET_ROWS = 8


class MetricsWriter:
    """Appends numbers to `metrics.jsonl` (an object a line) and to TensorBoard."""

    def __init__(self, workdir: Path, step: int) -> None:
        """Opens the logs of a run.

        Args:
          workdir: The run's folder.
          step: The step that the run starts from. Lines of later steps, which an interrupted run
            logged, are dropped: those steps are logged again.
        """
        self._path = workdir / "metrics.jsonl"
        lines = self._path.read_text(errors="replace").splitlines() if self._path.exists() else []
        kept = [line for line in lines if _is_logged(line, step)]
        write_whole(self._path, "".join(f"{line}\n" for line in kept))
        self._lines = self._path.open("a", encoding="utf-8")
        folder = workdir / "tensorboard"
        folder.mkdir(exist_ok=True)
        # tensorboardX's SummaryWriter writes in a thread. On a full disk that thread dies silently,
        # and closing the writer waits for it forever.
        self._events = EventsWriter(str(folder / "events"), f".{os.getpid()}.{step}")
        # TensorBoard then ignores what earlier files have of this step and of later ones.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._event(step + 1, session_log=start)

    def write(self, step: int, split: str, numbers: Mapping[str, Any]) -> None:
        """Logs numbers of a split at a step.

        Args:
          step: Steps taken.
          split: 'train' or 'validation'.
          numbers: Values by name; None where a value is not defined.

        Raises:
          UserError: Where they cannot be written, for instance on a full disk.
        """
        defined = {f"{split}/{name}": v for name, v in numbers.items() if v is not None}
        try:
            self._lines.write(json.dumps({"step": step, "split": split, **numbers}) + "\n")
            self._lines.flush()
            for name, value in defined.items():
                self._event(step, summary=summary.scalar(name, value))
            self._events.flush()
        except OSError as error:
            raise UserError(
                f"{self._path.parent}: cannot write the logs: {error.strerror}; mend that, and "
                "the same command continues from the last checkpoint"
            ) from error

    def _event(self, step: int, **what: Any) -> None:
        self._events.write_event(event_pb2.Event(step=step, wall_time=time.time(), **what))

    def write_tuples(self, step: int, images: npt.NDArray[np.uint8]) -> None:
        """Shows in TensorBoard what the network is fed: a row for each tuple, a column a quality.

        Args:
          step: Steps taken.
          images: `(m, Q, H, W, 3)` uint8, RGB; the first eight tuples are shown.
        """
        rows, qualities, height, width, _ = images[:_SHEET_ROWS].shape
        sheet = images[:_SHEET_ROWS].swapaxes(1, 2).reshape(rows * height, qualities * width, 3)
        self._event(step, summary=summary.image("train/tuples", sheet, dataformats="HWC"))
        self._events.flush()

    def close(self) -> None:
        """Closes the logs. `write` has already reported what could not be written."""
        with contextlib.suppress(OSError):
            self._lines.close()
        with contextlib.suppress(OSError):
            self._events.close()


def _is_logged(line: str, step: int) -> bool:
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):  # the process was killed while it wrote the line
        return False
