r"""The method as optax transforms.

A training step does not give its optimiser a gradient. It gives the *pullback* of its losses, and a
function that returns the pullback at other weights. The transforms here compose what is done with
both:

>>> import jax, optax, jax.numpy as jnp
>>> def losses(params):  # (what is minimised, what is maximised)
...     return jnp.sum(params['w'] ** 2), jnp.sum(params['w'])
>>> params = {'w': jnp.ones((2, 2))}
>>> tx = optax.chain(awp(0.01, inner=collaborative(0.1)), optax.sgd(0.1))
>>> state = tx.init(params)
>>> _, pullback = jax.vjp(losses, params)
>>> updates, state = tx.update(
...     pullback, state, params, grad_fn=lambda p: jax.vjp(losses, p)[1])
>>> params = optax.apply_updates(params, updates)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

_IDENTITY = optax.identity()


class AwpState(NamedTuple):
    """State of `awp`.

    Attributes:
      count: Updates so far.
      inner_state: State of the inner transform.
      perturbation_norm: Norm of the last perturbation over all leaves, 0 where there was none.
        `optax.tree.get(state, "perturbation_norm")` finds it in the state of a chain.
    """

    count: jax.Array  # type: ignore[assignment]  # optax's name for it; also a tuple method
    inner_state: optax.OptState
    perturbation_norm: jax.Array


def awp(
    gamma: optax.ScalarOrSchedule,
    inner: optax.GradientTransformation = _IDENTITY,
) -> optax.GradientTransformationExtraArgs:
    r"""Adversarial weight perturbation (AWP): the gradient at the worst weights nearby.

    It takes one ascent step relative to the norm of each weight tensor, then the gradient there:

    .. math::
      g = \mathrm{inner}(\mathrm{updates}), \qquad
      v_i = \gamma \frac{\|w_i\|}{\|g_i\|} g_i, \qquad
      \mathrm{result} = \mathrm{inner}(\mathrm{grad\_fn}(w + v))

    for every leaf with more than one axis (kernels). Biases, parameters of normalisation and leaves
    with :math:`\|w_i\| = 0` or :math:`\|g_i\| = 0` are not perturbed. The step that follows starts
    from w, not from w + v.

    Args:
      gamma: Norm of the perturbation relative to that of each tensor, or a schedule of it over the
        number of updates. Where it is 0 or less, there is no second pass.
      inner: The transform that turns `updates`, and what `grad_fn` returns, into gradients; by
        default both are gradients already. Both times it starts from the same state, so that a
        schedule in it counts one step for each update.

    Returns:
      A transform whose `update` requires `params` and the keyword argument ``grad_fn``, a function
      that returns for given parameters what `updates` is at the current ones. `inner` gets all
      extra arguments.

    Raises:
      ValueError: From `update`, where `params` is None.

    References:
      Wu, Xia, Wang, Adversarial Weight Perturbation Helps Robust Generalization, NeurIPS 2020
    """
    inner = optax.with_extra_args_support(inner)

    def init_fn(params: optax.Params) -> AwpState:
        return AwpState(jnp.zeros((), jnp.int32), inner.init(params), jnp.zeros((), jnp.float32))

    def update_fn(
        updates: Any,
        state: AwpState,
        params: optax.Params | None = None,
        *,
        grad_fn: Callable[[optax.Params], Any],
        **extra: Any,
    ) -> tuple[optax.Updates, AwpState]:
        if params is None:
            raise ValueError("awp: the perturbation is relative to the weights; pass `params`")
        extra = {"grad_fn": grad_fn, **extra}
        clean = inner.update(updates, state.inner_state, params, **extra)

        def at_worst(size: float | jax.Array) -> tuple[optax.Updates, optax.OptState, jax.Array]:
            perturbed = jax.tree.map(lambda w, g: _ascend(w, g, size), params, clean[0])
            length = optax.tree.norm(optax.tree.sub(perturbed, params)).astype(jnp.float32)
            return *inner.update(grad_fn(perturbed), state.inner_state, params, **extra), length

        here = *clean, jnp.zeros((), jnp.float32)
        size = gamma(state.count) if callable(gamma) else gamma
        if isinstance(size, jax.Array):  # a schedule: the device decides in every step
            result, inner_state, length = lax.cond(size > 0, lambda: at_worst(size), lambda: here)
        else:
            result, inner_state, length = at_worst(size) if size > 0 else here
        return result, AwpState(optax.safe_increment(state.count), inner_state, length)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _ascend(weight: jax.Array, gradient: jax.Array, gamma: float | jax.Array) -> jax.Array:
    if weight.ndim <= 1:
        return weight
    w, g = weight.astype(jnp.float32), gradient.astype(jnp.float32)
    # It is divided by its largest entry first: the square of a tiny gradient is zero in float32.
    largest = jnp.max(jnp.abs(g))
    direction = g / jnp.where(largest > 0, largest, 1.0)
    length = jnp.where(largest > 0, jnp.linalg.norm(direction), 1.0)
    return (w + gamma * jnp.linalg.norm(w) / length * direction).astype(weight.dtype)


class CollaborativeState(NamedTuple):
    """State of `collaborative`.

    Attributes:
      count: Updates so far.
    """

    count: jax.Array  # type: ignore[assignment]  # optax's name for it; also a tuple method


def collaborative(
    hsic_weight: optax.ScalarOrSchedule,
) -> optax.GradientTransformationExtraArgs:
    r"""Turns the pullback of (cross-entropy, HSIC) into one gradient.

    .. math:: g = \nabla (\mathrm{CE} - \lambda\, \mathrm{HSIC})

    The pullback is called once with the cotangents :math:`(1, -\lambda)`, so that HSIC shares the
    backward pass of the cross-entropy. Its weight, schedule included, is here and not in the loss.

    Args:
      hsic_weight: :math:`\lambda`, or a schedule of it over the number of updates.

    Returns:
      A transform whose `updates` are the pullback that `jax.vjp` returns for a function of the
      parameters with the two scalars as outputs.
    """

    def init_fn(params: optax.Params) -> CollaborativeState:
        del params
        return CollaborativeState(jnp.zeros((), jnp.int32))

    def update_fn(
        updates: Callable[..., tuple[optax.Updates]],
        state: CollaborativeState,
        params: optax.Params | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, CollaborativeState]:
        del params, extra
        weight = hsic_weight(state.count) if callable(hsic_weight) else hsic_weight
        cotangents = (jnp.ones((), jnp.float32), -jnp.asarray(weight, jnp.float32))
        (gradient,) = updates(cotangents)
        return gradient, CollaborativeState(optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def cross_replica_mean(axis_name: str) -> optax.GradientTransformationExtraArgs:
    """Averages gradients over a mapped axis.

    Inside `awp`, it makes the ascent climb the loss of the global batch: every replica perturbs the
    weights in the same direction.

    Args:
      axis_name: Name of the axis, as given to `jax.pmap` or `jax.shard_map`.

    Returns:
      A stateless transform.
    """

    def update_fn(
        updates: optax.Updates,
        state: optax.EmptyState,
        params: optax.Params | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, optax.EmptyState]:
        del params, extra
        return lax.pmean(updates, axis_name), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update_fn)


def qad_gradient(
    *,
    gamma: optax.ScalarOrSchedule,
    hsic_weight: optax.ScalarOrSchedule,
    axis_name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The method without an optimiser: turns the pullback into the gradient to follow.

    Args:
      gamma: See `awp`.
      hsic_weight: See `collaborative`.
      axis_name: See `cross_replica_mean`; None on a single device.

    Returns:
      `awp` around `collaborative` and, where there are replicas, `cross_replica_mean`.
    """
    gradient = collaborative(hsic_weight)
    if axis_name is not None:
        gradient = optax.chain(gradient, cross_replica_mean(axis_name))
    return awp(gamma, inner=gradient)


def coupled_adam(weight_decay: float = 0.0) -> optax.GradientTransformation:
    """Adam's direction with weight decay as an L2 term in the gradient: torch's Adam, not AdamW.

    Args:
      weight_decay: Added to the gradient as ``weight_decay * params``, for every leaf.

    Returns:
      The transform, without a learning rate.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity(),
        optax.scale_by_adam(),
    )


def qad(
    learning_rate: optax.ScalarOrSchedule,
    *,
    gamma: optax.ScalarOrSchedule,
    hsic_weight: optax.ScalarOrSchedule,
    weight_decay: float = 0.0,
    axis_name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Quality-agnostic training as an optimiser: `qad_gradient`, then Adam.

    Args:
      learning_rate: A number or a schedule.
      gamma: Size of the weight perturbation, see `awp`.
      hsic_weight: Weight of the dependence between qualities, see `collaborative`.
      weight_decay: Coupled L2 penalty, see `coupled_adam`.
      axis_name: Mapped axis of the replicas, None on a single device.

    Returns:
      A transform for the pullback of (cross-entropy, HSIC); `update` requires `params` and
      ``grad_fn``, see `awp`.

    References:
      Le, Woo, Quality-Agnostic Deepfake Detection with Intra-model Collaborative Learning,
      ICCV 2023
    """
    return optax.chain(
        qad_gradient(gamma=gamma, hsic_weight=hsic_weight, axis_name=axis_name),
        coupled_adam(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
