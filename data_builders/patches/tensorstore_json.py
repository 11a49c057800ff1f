"""Has tensorstore asked once, and not again and again, where the arrays of a checkpoint go.

Tensorstore 0.1.86 keeps a reference to every value of every JSON that it hands to Python. Orbax
asks it for one JSON for each array of each save, so that the memory of a training grows with every
checkpoint. The answer for a folder is therefore remembered.

Upstream: no report is filed with google/tensorstore.

Without the patch: checkpoints are the same; a save of 300 arrays leaves about 0.2 MB in memory.
Where `tests/test_patches_of_saving.py` finds that tensorstore keeps nothing, this file can go.
"""

from __future__ import annotations

import collections
import copy
import functools
from typing import Any

from data_builders.patches import applies

_REMEMBERED = 32  # folders; a checkpoint has one for each of its items


@functools.cache
def remember() -> None:
    """Applies the patch, where it is for the installed tensorstore; changes no file."""
    import tensorstore

    specification: Any = tensorstore.KvStore.Spec
    original = getattr(specification, "to_json", None)
    if original is None or not applies("tensorstore", below="0.2"):
        return
    known: collections.deque[tuple[Any, Any]] = collections.deque(maxlen=_REMEMBERED)

    @functools.wraps(original)
    def to_json(self: Any, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs:
            return original(self, *args, **kwargs)
        # A list first: another thread may save at the same time.
        answer = next((answer for asked, answer in list(known) if asked == self), None)
        if answer is None:
            answer = original(self)
            known.append((self, answer))
        return copy.deepcopy(answer)

    specification.to_json = to_json
