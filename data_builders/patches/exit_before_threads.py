"""Calls a function at the exit of the process, before Python waits for its threads.

Functions of `atexit` are called after that wait, which never ends where a thread waits for a
process that is gone. Python has a function for this, under a private name.

Upstream: python/cpython#86128, "Make threading._register_atexit public?".

Without the patch: the function is called by `atexit`, once all threads have ended.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable


def register(function: Callable[[], None]) -> None:
    """Has a function called at exit, without a wait for threads where Python knows how."""
    early = getattr(threading, "_register_atexit", None)
    (early or atexit.register)(function)
