"""Saving that leaves nothing in memory, until tensorstore lets go of the JSON that it returns.

Tensorstore 0.1.86 keeps a reference to every value of every JSON that it hands to Python. Orbax
asks it for two: where an array goes, once for each array of each save, and counts of bytes written.
"""

from __future__ import annotations

import collections
import copy
import functools
from typing import Any

import tensorstore
from orbax.checkpoint._src.serialization import tensorstore_utils

_REMEMBERED = 32  # folders; a checkpoint has one for each of its items


@functools.cache
def keep() -> None:
    """Has tensorstore asked once for each folder, and not at all for what only monitoring reads.

    Changes no file. Where a later tensorstore leaks no more, it can go, and its test shows so.
    """
    specification: Any = tensorstore.KvStore.Spec
    original = specification.to_json
    known: collections.deque[tuple[Any, Any]] = collections.deque(maxlen=_REMEMBERED)

    @functools.wraps(original)
    def to_json(self: Any, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs:
            return original(self, *args, **kwargs)
        # A list first: another thread may save at the same time.
        found = next((answer for asked, answer in list(known) if asked == self), None)
        if found is None:
            found = original(self)
            known.append((self, found))
        return copy.deepcopy(found)

    specification.to_json = to_json
    if hasattr(tensorstore_utils, "get_tensorstore_raw_bytes"):
        tensorstore_utils.get_tensorstore_raw_bytes = lambda *args, **kwargs: 0
