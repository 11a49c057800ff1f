"""Starts the torch side of `speed.py`, `torch_twin.py`, under an interpreter that has torch."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any


class Twin:
    """The torch side, in a process of its own."""

    def __init__(self, python: str) -> None:
        script = Path(__file__).with_name("torch_twin.py")
        self._process = subprocess.Popen(
            [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Sends a request and waits for the answer.

        Raises:
          RuntimeError: If the process has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the torch twin has ended; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def seconds(self, what: str, steps: int) -> float:
        """Time of one run, as the mean of so many one after another."""
        return float(self.ask(do="time", what=what, steps=steps)["seconds"]) / steps

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def has_torch(python: str) -> bool:
    """Whether an interpreter has what the twin imports."""
    code = "import torch, efficientnet_pytorch"
    return subprocess.run([python, "-c", code], stderr=subprocess.DEVNULL).returncode == 0
