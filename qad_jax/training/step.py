"""What one device does in a step, as pure functions: forward, losses, update, prediction."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from qad_jax.losses import collaborative_hsic
from qad_jax.models.layers import HEAD, LAYERS, normalise
from qad_jax.models.localiser import LOCALISER, MAPS, Localiser, shares
from qad_jax.runs.state import TrainState
from qad_jax.training import localisation
from qad_jax.training.batch import Batch

#: Names under which an optimiser's state may hold these norms, see `optax.tree.get`.
GRADIENT_NORM, PERTURBATION_NORM = "gradient_norm", "perturbation_norm"
#: Name of the localiser's loss among the metrics.
LOCALISATION = "localisation"


class Objective(NamedTuple):
    """What is learned.

    Attributes:
      model: Module whose `apply` returns `qad_jax.models.ModelOutput`, with its `normalisation`.
      layer_weights: Weight of each of the six features in the HSIC term; with zeros only, the
        term is left out.
      sigma: Width of the kernel, see `qad_jax.losses.hsic`.
      estimator: See `qad_jax.losses.hsic`.
      axis_name: Mapped axis of the replicas, None on a single device.
      head_only: Whether the backbone is constant: its running statistics are used and not
        updated, and no gradient reaches it.
      ema_decay: Decay of the moving average of the parameters, where the state has one.
      localise: Weight of the localiser's loss beside the cross-entropy, see
        `qad_jax.training.localisation`; 0 leaves it out. Batches must be of twins.
      at_once: How many qualities of each tuple a step sees, see `drawn`; 0: all. With HSIC, all
        tuples of a batch, or of each of its parts, are seen at the same ones.
    """

    model: nn.Module
    layer_weights: tuple[float, ...]
    sigma: float = 6.0
    estimator: str = "debiased_cka"
    axis_name: str | None = None
    head_only: bool = False
    ema_decay: float = 0.0
    localise: float = 0.0
    at_once: int = 0


def drawn(images: jax.Array, count: int, key: jax.Array, *, alike: bool = False) -> jax.Array:
    """Draws some qualities of each tuple.

    Two neighbours in the batch have the same: where they are a fake and a real image of one person,
    the quality must not tell them apart.

    Args:
      images: `(m, Q, H, W, 3)`.
      count: How many to draw, at most Q.
      key: Key of the draw.
      alike: Whether all tuples have the same qualities, as a comparison of qualities needs it.

    Returns:
      `(m, count, H, W, 3)`, in the order of the qualities.
    """
    tuples, qualities = images.shape[:2]
    if count == qualities:
        return images
    draws = 1 if alike else (tuples + 1) // 2
    order = jax.random.uniform(key, (draws, qualities)).argsort(axis=1)
    chosen = jnp.sort(order[:, :count], axis=1).repeat(tuples if alike else 2, axis=0)[:tuples]
    return jnp.take_along_axis(images, chosen[:, :, None, None, None], axis=1)


def losses(
    objective: Objective,
    params: Any,
    batch_stats: Any,
    batch: Batch,
    key: jax.Array,
    shared: jax.Array | None = None,
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, Any, dict[str, jax.Array]]]:
    """Computes cross-entropy of this device's tuples, and HSIC of the global batch.

    Args:
      objective: What is learned.
      params: Parameters of the model.
      batch_stats: Running statistics of the model.
      batch: This device's tuples.
      key: This device's key, of dropout, of stochastic depth and of the qualities that are drawn.
      shared: The key that all devices have; None: `key`. It draws the qualities that HSIC compares,
        of which it needs the whole batch.

    Returns:
      `((minimised, hsic), (logits, batch_stats, parts))`: two float32 scalars, the cross-entropy as
      a mean over tuples and qualities, to which the weighted loss of the localiser is added, and
      the weighted mean over pairs of qualities; logits `(m, Q, classes)`; the updated running
      statistics; and by name the cross-entropy, the loss of the localiser where it has a weight,
      and the unweighted HSIC of each layer that has one.
    """
    seen = batch.images
    if objective.at_once:
        compared = any(objective.layer_weights)
        draw = shared if compared and shared is not None else key
        seen = drawn(seen, objective.at_once, draw, alike=compared)
    tuples, qualities = seen.shape[:2]
    images = normalise(seen.reshape(-1, *seen.shape[2:]), objective.model.normalisation)
    if objective.head_only:
        params = {
            name: tree if name == HEAD else jax.lax.stop_gradient(tree)
            for name, tree in params.items()
        }
    output, changed = objective.model.apply(
        {"params": params, "batch_stats": batch_stats},
        images,
        train=not objective.head_only,
        mutable=["batch_stats"],
        rngs={"dropout": key},
    )
    logits = output.logits.reshape(tuples, qualities, -1)
    labels = jnp.broadcast_to(batch.labels[:, None], (tuples, qualities))
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    parts, hsic = {"cross_entropy": cross_entropy}, jnp.zeros((), jnp.float32)
    minimised = cross_entropy
    if objective.localise:
        maps: Any = Localiser().apply({"params": params[LOCALISER]}, output.features[MAPS])
        parts[LOCALISATION] = localisation.loss(maps, batch.images)
        minimised += objective.localise * parts[LOCALISATION]
    weighted = zip(LAYERS, output.features, objective.layer_weights, strict=True)
    for name, feature, weight in weighted:
        if weight:
            parts[f"hsic/{name}"] = layer = collaborative_hsic(
                [feature.reshape(tuples, qualities, *feature.shape[1:])],
                [1.0],
                sigma=objective.sigma,
                estimator=objective.estimator,
                axis_name=objective.axis_name,
            )
            hsic += weight * layer
    return (minimised, hsic), (logits, changed["batch_stats"], parts)


def _over_microbatches(
    objective: Objective,
    params: Any,
    batch_stats: Any,
    batch: Batch,
    key: jax.Array,
    shared: jax.Array,
    count: int,
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, Any, dict[str, jax.Array]]]:
    """Computes `losses` of one part of the batch after the other, and averages the results.

    The backward pass computes each part again, so that only one part is in memory at a time. This
    costs one more forward pass.
    """
    parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def of_part(params: Any, part: Batch, key: jax.Array, shared: jax.Array) -> Any:
        return losses(objective, params, batch_stats, part, key, shared)

    _, (values, (logits, stats, named)) = jax.lax.scan(
        lambda _, part: (None, of_part(params, *part)),
        None,
        (parts, jax.random.split(key, count), jax.random.split(shared, count)),
    )
    means = jax.tree.map(lambda x: jnp.mean(x, axis=0), (values, stats, named))
    values, stats, named = means
    return values, (logits.reshape(-1, *logits.shape[2:]), stats, named)


def make_train_step(
    objective: Objective,
    tx: optax.GradientTransformationExtraArgs,
    seed: int,
    accumulate: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """Builds the training step of one device.

    Args:
      objective: What is learned.
      tx: An optimiser that takes the pullback of (cross-entropy, HSIC), such as
        `qad_jax.transforms.qad`.
      seed: Seed of dropout, stochastic depth and the qualities that are drawn.
      accumulate: Number of parts that each device's batch is cut into, to have one in memory at a
        time. Where batch norm uses running statistics, cross-entropy and its gradient are those of
        the whole batch. Where it uses the batch's statistics, they are those of each part, and the
        running statistics move by the mean over the parts. HSIC is the mean over the parts, each
        taken over all devices.

    Returns:
      A pure function `(state, batch) -> (state, metrics)`. The running statistics are those of
      the pass at the clean weights, which inference uses. Metrics are float32 scalars, means over
      the global batch: losses, HSIC of each layer, accuracy, and the norms in the optimiser's
      state: of the gradient that it followed and of the perturbation.
    """
    axis = objective.axis_name

    def across(tree: Any) -> Any:
        return tree if axis is None else jax.lax.pmean(tree, axis)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        key = shared = jax.random.fold_in(jax.random.key(seed), state.step)
        if axis is not None:
            key = jax.random.fold_in(shared, jax.lax.axis_index(axis))

        def at(params: Any) -> Any:
            # The same key at the clean and at the perturbed weights: AWP climbs one function.
            given = objective, params, state.batch_stats, batch, key, shared
            return losses(*given) if accumulate == 1 else _over_microbatches(*given, accumulate)

        values, pullback, (logits, batch_stats, parts) = jax.vjp(at, state.params, has_aux=True)
        updates, opt_state = tx.update(
            pullback,
            state.opt_state,
            state.params,
            grad_fn=lambda params: jax.vjp(at, params, has_aux=True)[1],
        )
        hits = jnp.argmax(logits, axis=-1) == batch.labels[:, None]
        metrics = {
            **parts,
            "hsic": values[1],
            "accuracy": jnp.mean(hits, dtype=jnp.float32),
        }
        for name in (GRADIENT_NORM, PERTURBATION_NORM):
            if (norm := optax.tree.get(opt_state, name)) is not None:
                metrics[name] = norm
        params = optax.apply_updates(state.params, updates)
        new_state = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=across(batch_stats),
            opt_state=opt_state,
            average=_averaged(state, params, objective.ema_decay),
        )
        return new_state, across(metrics)

    return train_step


def _averaged(state: TrainState, params: Any, decay: float) -> Any:
    """The moving average of the parameters, updated with those after step `state.step`.

    As with `num_updates` in TensorFlow, the decay is smaller at first: even in a short run, the
    initial weights must not stay in the average.
    """
    if state.average is None:
        return None
    step = state.step.astype(jnp.float32)
    kept = jnp.minimum(decay, (1 + step) / (10 + step))
    return optax.incremental_update(params, state.average, 1 - kept)


def make_predict_step(model: nn.Module) -> Callable[[Any, jax.Array], jax.Array]:
    """Builds the prediction of one device.

    Args:
      model: Module whose `apply` returns `qad_jax.models.ModelOutput`, with its `normalisation`.

    Returns:
      A function of the variables and of `(n, Q, H, W, 3)` uint8 images: `(n, Q)` float32, the
      probability that each is fake.
    """

    def predict_step(variables: Any, images: jax.Array) -> jax.Array:
        flat = normalise(images.reshape(-1, *images.shape[2:]), model.normalisation)
        output: Any = model.apply(variables, flat, train=False)
        return jax.nn.softmax(output.logits, axis=-1)[:, 1].reshape(images.shape[:2])

    return predict_step


def make_locate_step(model: nn.Module) -> Callable[[Any, jax.Array], jax.Array]:
    """Builds what shows where images look changed, on one device.

    Args:
      model: As for `make_predict_step`.

    Returns:
      A function of the variables, localiser included, and of `(n, H, W, 3)` uint8 images:
      `(n, h, w)` float32 in [0, 1], see `localiser.shares`.
    """

    def locate_step(variables: Any, images: jax.Array) -> jax.Array:
        output: Any = model.apply(variables, normalise(images, model.normalisation), train=False)
        maps: Any = Localiser().apply({"params": variables[LOCALISER]}, output.features[MAPS])
        return shares(maps)

    return locate_step
