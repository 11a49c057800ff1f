"""SIGTERM, which a machine that is about to go sends first: end the step, save, leave."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

#: Exit status of a training that SIGTERM ended, all of it saved: 128 + 15, as shells count.
EXIT_STATUS = 128 + signal.SIGTERM


class Preempted(Exception):
    """Training was asked to stop, and has saved all it has done."""

    def __init__(self, step: int) -> None:
        super().__init__(
            f"SIGTERM: stopped and saved at step {step}; the same command goes on from there"
        )


class Watch:
    """Notes SIGTERM instead of dying of it, for as long as the context lasts.

    Python hands signals to its main thread only: in any other, nothing changes.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None
        self._installed = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def __enter__(self) -> Watch:
        if threading.current_thread() is threading.main_thread():
            # None: a handler that is not Python's, which cannot be put back.
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
