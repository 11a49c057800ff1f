"""Keeps orbax from asking tensorstore for counts of bytes, which only its monitoring reads.

The answer is JSON, and what `tensorstore_json` says of it holds here too.

Upstream: no report is filed with google/orbax.

Without the patch: checkpoints are the same; each save leaves a few kilobytes in memory.
"""

from __future__ import annotations

import functools

from data_builders.patches import applies


@functools.cache
def leave_out() -> None:
    """Applies the patch, where it is for the installed orbax."""
    if not applies("orbax-checkpoint", since="0.12", below="1"):
        return
    from orbax.checkpoint._src.serialization import tensorstore_utils

    if hasattr(tensorstore_utils, "get_tensorstore_raw_bytes"):
        tensorstore_utils.get_tensorstore_raw_bytes = lambda *args, **kwargs: 0
