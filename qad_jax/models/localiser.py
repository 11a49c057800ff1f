"""Where a face was changed: a second task for training, read from two maps of a backbone.

One label says of 50 000 pixels that something among them is wrong. A map says where, so a network
learns from fewer images what to look for. The score of a face does not depend on it. A detector
shows with it which places look changed.

Its parameters are a collection of their own beside `params` and `batch_stats` wherever variables
are evaluated or stored, and a module among `params` while they are trained.

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


def shares(maps: Sequence[jax.Array]) -> jax.Array:
    """Puts the logits of all maps together.

    Args:
      maps: `(N, h, w)` each, what a `Localiser` returns; the first is the finest.

    Returns:
      `(N, h, w)` float32 in [0, 1] of the finest size: how much of a place was changed.
    """
    finest = maps[0].shape
    return nn.sigmoid(
        jnp.stack([jax.image.resize(one, finest, "linear", antialias=False) for one in maps]).mean(
            axis=0
        )
    )


def extended(model: nn.Module, variables: Mapping[str, Any], size: int, seed: int) -> Any:
    """Adds the parameters of a localiser to those of a backbone, to train them.

    Args:
      model: The backbone.
      variables: Its `{'params', 'batch_stats'}`, and `LOCALISER` where it is trained already.
      size: Side of its images in pixels; the parameters do not depend on it.
      seed: Seed of new parameters.

    Returns:
      `{'params', 'batch_stats'}` with one more module in `params`.
    """
    if LOCALISER in variables:
        return joined(variables)
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    output: Any = jax.eval_shape(lambda x: model.apply(variables, x, train=False), image)
    maps = [jnp.zeros((1, 1, 1, one.shape[-1])) for one in output.features[MAPS]]
    made = Localiser().init(jax.random.key(seed), maps)
    return joined({**variables, LOCALISER: made["params"]})


def joined(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables as they are trained, of those that are evaluated: the opposite of `apart`.

    Args:
      variables: `{'params', 'batch_stats', LOCALISER}`.

    Returns:
      `{'params', 'batch_stats'}`, with the localiser as a module in `params`.
    """
    rest = {name: tree for name, tree in variables.items() if name != LOCALISER}
    return {**rest, "params": {**rest["params"], LOCALISER: variables[LOCALISER]}}


def apart(params: Mapping[str, Any], batch_stats: Any) -> dict[str, Any]:
    """The variables to evaluate, of the parameters that were trained.

    Returns:
      `{'params', 'batch_stats'}`, and `LOCALISER` where there is one.
    """
    own = {name: tree for name, tree in params.items() if name != LOCALISER}
    located = {LOCALISER: params[LOCALISER]} if LOCALISER in params else {}
    return {"params": own, "batch_stats": batch_stats, **located}
