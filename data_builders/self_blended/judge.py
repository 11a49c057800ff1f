"""The network that judges painters: it learns to tell what they paint from photographs.

A painter that minimises a mean difference paints every texture smooth, which gives it away. With a
judge beside it, it learns textures that look real, and leaves other traces: those of generators
that were trained so.

It marks each patch by itself, by the hinge loss, and painters are also asked to match its features.

References:
  Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014.
  Salimans et al., "Improved Techniques for Training GANs", NeurIPS 2016.
  Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017.
  Lim & Ye, "Geometric GAN", arXiv 1705.02894, 2017.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data_builders.self_blended.painter import fold

if TYPE_CHECKING:
    import flax.linen as nn
    import jax
    import optax

_FOOLED = 0.1  # weight of the marks, beside that of the features


@functools.cache
def network() -> Any:
    """The Flax module of a judge.

    It takes squares, `(n, side, side, 3)` in about [-1, 1], and gives a mark for each patch, `(n,
    side / 8, side / 8, 1)`, the higher the more it looks like a photograph, and a list of features.
    """
    import flax.linen as nn

    class Judge(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
            x = nn.leaky_relu(nn.Conv(48, (4, 4), strides=2)(x), 0.2)
            features = []
            for width in (64, 96):
                x = nn.leaky_relu(nn.Conv(width, (3, 3))(x), 0.2)
                features.append(x)
                x = nn.leaky_relu(nn.Conv(width, (1, 1))(fold(x, 2)), 0.2)
            x = nn.leaky_relu(nn.Conv(96, (3, 3))(x), 0.2)
            return nn.Conv(1, (1, 1))(x), [*features, x]

    return Judge()


def hinge(of_real: jax.Array, of_painted: jax.Array) -> jax.Array:
    """The loss of a judge: marks of photographs should be above 1, of paintings below -1."""
    import jax

    return jax.nn.relu(1 - of_real).mean() + jax.nn.relu(1 + of_painted).mean()


def dislike(params: Any, real: jax.Array, painted: jax.Array) -> jax.Array:
    """The loss of a painter before a judge: other features than real ones, and low marks.

    Args:
      params: The judge's parameters.
      real: `(n, side, side, 3)`.
      painted: The same squares, painted.
    """
    import jax.numpy as jnp

    _, wanted = network().apply(params, real)
    marks, features = network().apply(params, painted)
    off = sum(jnp.abs(ours - own).mean() for ours, own in zip(features, wanted, strict=True))
    return jnp.asarray(off - _FOOLED * marks.mean())


class Opponent:
    """A judge, and the steps in which it and a painter learn from each other."""

    def __init__(
        self,
        model: nn.Module,
        measured: Callable[[jax.Array], jax.Array],
        optimiser: optax.GradientTransformation,
        side: int,
        seed: int,
    ) -> None:
        """Draws the judge's first weights; compiles nothing yet.

        Args:
          model: The painter's network.
          measured: What it makes small beside the judge's opinion, of the difference of painted and
            real squares.
          optimiser: The painter's.
          side: Of the squares.
          seed: The painter's; that of the judge is one more.
        """
        import jax
        import jax.numpy as jnp
        import optax

        judging, learns = network(), optax.adam(4e-4, b1=0.5)
        self._params = judging.init(jax.random.key(seed + 1), jnp.zeros((1, side, side, 3)))
        self._state = learns.init(self._params)

        @jax.jit
        def step(
            params: Any, state: Any, own: Any, own_state: Any, images: jax.Array, weight: float
        ) -> tuple[Any, Any, Any, Any]:
            def of_painter(params: Any) -> tuple[jax.Array, jax.Array]:
                made: Any = model.apply(params, images)
                loss = measured(made - images) + weight * dislike(own, images, made)
                return loss, made

            gradient, made = jax.grad(of_painter, has_aux=True)(params)

            def of_judge(own: Any) -> jax.Array:
                (of_real, _), (of_made, _) = (judging.apply(own, one) for one in (images, made))
                return hinge(of_real, of_made)

            changes, own_state = learns.update(jax.grad(of_judge)(own), own_state)
            updates, state = optimiser.update(gradient, state)
            params = optax.apply_updates(params, updates)
            return params, state, optax.apply_updates(own, changes), own_state

        self._step = step

    def step(
        self, params: Any, state: Any, images: npt.NDArray[np.float32], weight: float
    ) -> tuple[Any, Any]:
        """Teaches both; returns the painter's parameters and the state of its optimiser."""
        params, state, self._params, self._state = self._step(
            params, state, self._params, self._state, images, weight
        )
        return params, state
