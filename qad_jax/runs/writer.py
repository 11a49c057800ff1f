"""What a run writes for people and tools: whole files, `metrics.jsonl`, TensorBoard."""

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

# Tuples on the sheet of what the network is fed.
_SHEET_ROWS = 8


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file so that it is there in full or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    os.replace(part, path)


class MetricsWriter:
    """Appends numbers to `metrics.jsonl` (an object a line) and to TensorBoard."""

    def __init__(self, workdir: Path, step: int) -> None:
        """Opens the logs of a run.

        Args:
          workdir: The run's folder.
          step: Where the run stands. What an interrupted run logged beyond it is dropped: those
            steps are about to be logged again.
        """
        self._path = workdir / "metrics.jsonl"
        lines = self._path.read_text(errors="replace").splitlines() if self._path.exists() else []
        kept = [line for line in lines if _is_logged(line, step)]
        write_whole(self._path, "".join(f"{line}\n" for line in kept))
        self._lines = self._path.open("a", encoding="utf-8")
        folder = workdir / "tensorboard"
        folder.mkdir(exist_ok=True)
        # tensorboardX's SummaryWriter writes in a thread that dies silently where the disk is
        # full, and is then waited for without end.
        self._events = EventsWriter(str(folder / "events"), f".{os.getpid()}.{step}")
        # TensorBoard forgets what earlier files say of this step and of later ones.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._event(step + 1, session_log=start)

    def write(self, step: int, split: str, numbers: Mapping[str, Any]) -> None:
        """Logs numbers of a split at a step; None stands for 'not defined'.

        Raises:
          UserError: Where they cannot be written, for instance because the disk is full.
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
                f"{self._path.parent}: cannot write the logs: {error.strerror}; the same command "
                "then goes on from the last checkpoint"
            ) from error

    def _event(self, step: int, **what: Any) -> None:
        self._events.write_event(event_pb2.Event(step=step, wall_time=time.time(), **what))

    def write_tuples(self, step: int, images: npt.NDArray[np.uint8]) -> None:
        """Shows TensorBoard what the network is fed: a row for each tuple, a column a quality.

        Args:
          step: The step they are for.
          images: `(m, Q, H, W, 3)` uint8, RGB; the first few tuples are shown.
        """
        rows, qualities, height, width, _ = images[:_SHEET_ROWS].shape
        sheet = images[:_SHEET_ROWS].swapaxes(1, 2).reshape(rows * height, qualities * width, 3)
        self._event(step, summary=summary.image("train/tuples", sheet, dataformats="HWC"))
        self._events.flush()

    def close(self) -> None:
        """Closes the logs, in which nothing is left to be written."""
        with contextlib.suppress(OSError):  # a full disk has been told of
            self._lines.close()
        with contextlib.suppress(OSError):
            self._events.close()


def _is_logged(line: str, step: int) -> bool:
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):  # cut off by a kill
        return False
