"""A digest of weights, by which results know which weights they are of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

#: What scores depend on: the localiser, where there is one, changes none.
OF_THE_SCORE = ("params", "batch_stats")


def weights_digest(variables: Mapping[str, Any]) -> str:
    """SHA-256 of what scores depend on, the same wherever the arrays lie.

    Args:
      variables: `{'params', 'batch_stats'}` as numpy arrays, or on the devices of this process.
        Other collections are passed over.
    """
    digest = hashlib.sha256()
    parts = {name: variables[name] for name in OF_THE_SCORE}
    for path, leaf in jax.tree_util.tree_leaves_with_path(parts):
        array = np.asarray(leaf)
        name = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n"
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()
