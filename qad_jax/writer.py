"""What a run writes for people and tools: whole files, `metrics.jsonl`, TensorBoard."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorboardX import SummaryWriter

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
        self._tensorboard = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=step + 1, flush_secs=30
        )

    def write(self, step: int, split: str, numbers: Mapping[str, Any]) -> None:
        """Logs numbers of a split at a step; None stands for 'not defined'."""
        self._lines.write(json.dumps({"step": step, "split": split, **numbers}) + "\n")
        self._lines.flush()
        for name, value in numbers.items():
            if value is not None:
                self._tensorboard.add_scalar(f"{split}/{name}", value, step)

    def write_tuples(self, step: int, images: npt.NDArray[np.uint8]) -> None:
        """Shows TensorBoard what the network is fed: a row for each tuple, a column a quality.

        Args:
          step: The step they are for.
          images: `(m, Q, H, W, 3)` uint8, RGB; the first few tuples are shown.
        """
        rows, qualities, height, width, _ = images[:_SHEET_ROWS].shape
        sheet = images[:_SHEET_ROWS].swapaxes(1, 2).reshape(rows * height, qualities * width, 3)
        self._tensorboard.add_image("train/tuples", sheet, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes and closes the logs."""
        self._lines.close()
        self._tensorboard.close()


def _is_logged(line: str, step: int) -> bool:
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):  # cut off by a kill
        return False
