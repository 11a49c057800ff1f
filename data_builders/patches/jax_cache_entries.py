"""Has JAX write an entry of its cache of compiled programs in full, in place of one that is there.

JAX writes into the file itself, and never again where there is one. A process that is killed
meanwhile, or a full disk, leaves a part of it: from then on each command warns that it cannot be
read, and compiles anew. JAX asks for a write only where there was nothing that it could read.

Upstream: no report is filed with jax-ml/jax.

Without the patch: results are the same; an entry that is cut off costs its time in each command,
until the folder is emptied.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from data_builders.files import write_whole
from data_builders.patches import applies


@functools.cache
def mend() -> None:
    """Applies the patch, where it is for the installed JAX."""
    if not applies("jax", since="0.10", below="0.13"):
        return
    from jax._src import lru_cache

    cache: Any = lru_cache.LRUCache
    original = cache.put

    @functools.wraps(original)
    def put(self: Any, key: str, value: bytes) -> None:
        path = os.fspath(self.path)
        if self.eviction_enabled or "://" in path:  # entries have companions, or are elsewhere
            original(self, key, value)
        else:
            write_whole(os.path.join(path, f"{key}{lru_cache._CACHE_SUFFIX}"), value)

    cache.put = put
