"""Where a face was changed: a second task for training, read from two maps of a backbone.

One label says of 50 000 pixels that something among them is wrong. A map says where, so a network
learns from fewer images what to look for. It is used in training only: detection does without it,
and neither an export nor a shipped file holds it.

Reference:
  Li et al., "Face X-ray for More General Face Forgery Detection", CVPR 2020, which predicts the
  border of a blend beside the label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

#: Name of its parameters beside the top-level modules of a backbone.
LOCALISER = "localiser"
#: The features that it reads, of the six of a model: the third and the fourth stage.
MAPS = slice(2, 4)


class Localiser(nn.Module):
    """A linear classifier at each position of each map."""

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> list[jax.Array]:
        """Says for each position how surely it was changed.

        Args:
          maps: `(N, h, w, C)` each, of any size and width.

        Returns:
          For each map `(N, h, w)` float32 logits.
        """
        return [
            nn.Dense(1, dtype=jnp.float32, name=f"map_{i}")(features)[..., 0]
            for i, features in enumerate(maps)
        ]


def extended(model: nn.Module, variables: Mapping[str, Any], size: int, seed: int) -> Any:
    """Adds the parameters of a new localiser to those of a backbone.

    Args:
      model: The backbone.
      variables: Its `{'params', 'batch_stats'}`.
      size: Side of its images in pixels; the parameters do not depend on it.
      seed: Seed of the parameters.

    Returns:
      The variables with one more module in `params`.
    """
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    output: Any = jax.eval_shape(lambda x: model.apply(variables, x, train=False), image)
    maps = [jnp.zeros((1, 1, 1, one.shape[-1])) for one in output.features[MAPS]]
    made = Localiser().init(jax.random.key(seed), maps)
    return {**variables, "params": {**variables["params"], LOCALISER: made["params"]}}


def without(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the backbone alone."""
    return {name: tree for name, tree in params.items() if name != LOCALISER}
