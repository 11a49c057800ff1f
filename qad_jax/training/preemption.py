"""SIGTERM, which a machine sends before it stops: the run ends its step, saves and exits."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Preempted(Exception):
    """SIGTERM stopped the training, and all its steps are saved."""

    def __init__(self, step: int) -> None:
        super().__init__(
            f"SIGTERM: stopped and saved at step {step}; the same command goes on from there"
        )


class Watch:
    """Records SIGTERM in `asked` instead of ending the process, while the context lasts.

    Python handles signals in the main thread only; in any other thread the context does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None
        self._installed = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def __enter__(self) -> Watch:
        if threading.current_thread() is threading.main_thread():
            # None stands for a handler that is not Python's and cannot be restored.
            self._before = signal.signal(signal.SIGTERM, self._note) or signal.SIG_DFL
            self._installed = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGTERM, self._before)
            self._installed = False
