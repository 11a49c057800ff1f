"""Saving that leaves nothing in memory, for as long as tensorstore keeps the JSON that it returns.

Tensorstore 0.1.86 keeps a reference to every value of every JSON that it gives to Python. Orbax
asks for two: where an array goes, once for each array of each save, and counts of bytes written.
"""

from __future__ import annotations

import collections
import copy
import functools
import importlib
from typing import Any

import tensorstore

_REMEMBERED = 32  # folders; a checkpoint has one for each of its items
_ORBAX = "orbax.checkpoint._src.serialization.tensorstore_utils"


@functools.cache
def keep() -> None:
    """Makes orbax ask tensorstore once for each folder, and never for numbers of monitoring only.

    It changes no file, and does nothing where another version lacks what it replaces. Its test
    fails once tensorstore no longer leaks: then this module can go.
    """
    specification: Any = getattr(getattr(tensorstore, "KvStore", None), "Spec", None)
    original = getattr(specification, "to_json", None)
    if original is not None:
        specification.to_json = _remembering(original)
    try:
        utilities: Any = importlib.import_module(_ORBAX)
    except ImportError:
        return
    if hasattr(utilities, "get_tensorstore_raw_bytes"):
        utilities.get_tensorstore_raw_bytes = lambda *args, **kwargs: 0


def _remembering(original: Any) -> Any:
    known: collections.deque[tuple[Any, Any]] = collections.deque(maxlen=_REMEMBERED)

    @functools.wraps(original)
    def to_json(self: Any, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs:
            return original(self, *args, **kwargs)
        # A copy of the deque, because another thread may save at the same time.
        answer = next((answer for asked, answer in list(known) if asked == self), None)
        if answer is None:
            answer = original(self)
            known.append((self, answer))
        return copy.deepcopy(answer)

    return to_json
