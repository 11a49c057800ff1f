r"""Hilbert-Schmidt independence criterion (HSIC) between features, in the manner of `optax.losses`.

With kernels `k`, `l` on two variables and their Gram matrices K, L over m samples, HSIC measures
how well the similarities of samples in one variable agree with those in the other. For the Gaussian
kernel used here, its population value is 0 exactly when the variables are independent.

A constant added to the kernel changes no estimator, so all are computed from `K - 1` (an `expm1`).
On the scale of sigma, features of a network are close to each other: K is close to 1, and float32
rounding of K would hide its variation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

#: Fewest samples with which each estimator is defined.
ESTIMATORS = {"biased": 2, "unbiased": 4, "cka": 2, "debiased_cka": 4, "nhsic": 2}

_NHSIC_EPSILON = 1e-5
# A feature does not vary where its spread over the samples is below this many float32 roundings of
# its size, and a centred matrix is zero where it is below as many of the kernel's. The rest is
# noise, and normalised noise would look like dependence.
_CONSTANT_ROUNDINGS = 16.0


def hsic(
    x: jax.Array,
    y: jax.Array,
    *,
    sigma: float | jax.Array = 6.0,
    estimator: str = "debiased_cka",
    axis_name: str | None = None,
) -> jax.Array:
    r"""Estimates the dependence of `x` and `y` from paired samples.

    With the kernel :math:`k(a, b) = \exp(-\|a - b\|^2 / (2 \sigma^2 d))`, d the number of features
    of the variable, and :math:`H = I - 11^\top/m`:

    - ``biased``: :math:`\mathrm{tr}(KHLH) / (m-1)^2` [1].
    - ``unbiased``: with zeroed diagonals, :math:`[\mathrm{tr}(KL) +
      \frac{1^\top K 1\, 1^\top L 1}{(m-1)(m-2)} - \frac{2}{m-2} 1^\top K L 1] / (m(m-3))` [2].
    - ``cka``, ``debiased_cka``: the biased and the unbiased estimate divided by the geometric mean
      of the two self-terms; at most 1 [3].
    - ``nhsic``: :math:`\mathrm{tr}(R_x R_y)`, :math:`R = K_c (K_c + \epsilon m I)^{-1}`,
      :math:`K_c = HKH`, :math:`\epsilon = 10^{-5}`; between 0 and m - 1 [4, 5].

    The self-terms of ``cka`` and ``debiased_cka`` are squared norms of the centred matrices, so
    both are computed as cosines between centred matrices, which exist for kernels of any size. A
    variable without variance has cosine 0 and gradient 0, and so has ``debiased_cka`` of one whose
    samples are all so far apart that no kernel of two of them differs from 0. Features that are no
    finite numbers give NaN.

    Args:
      x: `(m, ...)`; the trailing axes are flattened to d features.
      y: `(m, ...)`, sample by sample the partner of `x`; its features may be others.
      sigma: Width of the kernel per feature.
      estimator: One of `ESTIMATORS`.
      axis_name: Mapped axis over which the samples are spread. The value is then that of the
        global batch, on every device. Gradients follow JAX's rule for a mapped replicated loss:
        average the gradients of the *parameters* over the axis (`lax.pmean`), as for any
        data-parallel loss. The result is exactly the gradient of the global value.

    Returns:
      A float32 scalar for features of any dtype.

    Raises:
      ValueError: While tracing, for an unknown estimator, unequal or too few samples, or sigma
        that is not positive.

    Example:
      >>> x = jax.random.normal(jax.random.key(0), (32, 8))
      >>> noise = jax.random.normal(jax.random.key(1), (32, 8))
      >>> bool(hsic(x, x + 0.1 * noise) > 0.9) and bool(abs(hsic(x, noise)) < 0.2)
      True

    References:
      [1] Gretton et al., Measuring Statistical Dependence with Hilbert-Schmidt Norms, ALT 2005
      [2] Song et al., Feature Selection via Dependence Maximization, JMLR 2012
      [3] Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019
      [4] Fukumizu et al., Kernel Measures of Conditional Dependence, NeurIPS 2007
      [5] Ma, Lewis, Kleijn, The HSIC Bottleneck: Deep Learning without Back-Propagation, AAAI 2020
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    if x.ndim < 1 or y.ndim < 1 or x.shape[0] != y.shape[0]:
        raise ValueError(
            f"hsic: x {x.shape} and y {y.shape} must hold the same samples along axis 0"
        )
    _check(estimator, sigma, x.shape[0] * _axis_size(axis_name))
    a, b = (_prepare(_kernels(z[:, None], sigma, axis_name)[0], estimator) for z in (x, y))
    return _dependence(a, b, estimator)


def collaborative_hsic(
    features: Sequence[jax.Array],
    weights: Sequence[float],
    *,
    sigma: float | jax.Array = 6.0,
    estimator: str = "debiased_cka",
    axis_name: str | None = None,
) -> jax.Array:
    r"""Estimates the dependence between features of the same images at different qualities.

    .. math:: \sum_l w_l \frac{2}{Q (Q - 1)} \sum_{a < b} \mathrm{HSIC}(f_l^{(a)}, f_l^{(b)})

    All pairs of a quality share its Gram matrix, so the cost grows with the number of qualities,
    not of pairs.

    Args:
      features: For each layer `(m, Q, ...)`: m images at Q qualities.
      weights: One number a layer. A layer of weight 0 is left out of the computation.
      sigma: See `hsic`.
      estimator: See `hsic`.
      axis_name: See `hsic`.

    Returns:
      A float32 scalar; 0 where all weights are 0.

    Raises:
      ValueError: While tracing: as `hsic`, or where the numbers of layers and weights differ,
        layers disagree on m or Q, or there are fewer than two qualities.

    Example:
      >>> maps = jax.random.normal(jax.random.key(0), (8, 1, 4, 4, 3)) * jnp.ones((1, 3, 1, 1, 1))
      >>> round(float(collaborative_hsic([maps], [0.5])), 3)  # three equal qualities
      0.5
    """
    if len(features) != len(weights):
        raise ValueError(
            f"collaborative_hsic: {len(features)} layers of features, {len(weights)} weights"
        )
    used = [(f, w) for f, w in zip(features, weights, strict=True) if w != 0]
    if not used:
        return jnp.zeros((), jnp.float32)
    if any(f.ndim < 2 or f.shape[:2] != used[0][0].shape[:2] for f, _ in used):
        raise ValueError(
            "collaborative_hsic: every layer must be (m, Q, ...) with the same m and Q, "
            f"found {[f.shape for f, _ in used]}"
        )
    samples, qualities = used[0][0].shape[:2]
    if qualities < 2:
        raise ValueError(
            "collaborative_hsic: one quality has no partner to depend on; give two or more, "
            "or weight 0"
        )
    _check(estimator, sigma, samples * _axis_size(axis_name))
    total = jnp.zeros((), jnp.float32)
    for layer, weight in used:
        prepared = [_prepare(k, estimator) for k in _kernels(layer, sigma, axis_name)]
        pairs = [_dependence(a, b, estimator) for a, b in combinations(prepared, 2)]
        total += weight * jnp.mean(jnp.stack(pairs))
    return total


def _axis_size(axis_name: str | None) -> int:
    return 1 if axis_name is None else lax.axis_size(axis_name)


def _check(estimator: str, sigma: float | jax.Array, samples: int) -> None:
    if estimator not in ESTIMATORS:
        raise ValueError(f"hsic: unknown estimator {estimator!r}; one of {', '.join(ESTIMATORS)}")
    if samples < ESTIMATORS[estimator]:
        raise ValueError(
            f"hsic: {samples} samples, but estimator {estimator!r} needs at least "
            f"{ESTIMATORS[estimator]}; enlarge the batch or choose another estimator"
        )
    if not isinstance(sigma, jax.core.Tracer) and not bool(sigma > 0):
        raise ValueError(f"hsic: sigma is {sigma}, must be positive")


class _Gram(NamedTuple):
    matrix: jax.Array  # (Q, m, m) products of centred samples
    energy: jax.Array  # (Q,) sum of squares before centring


def _gram(features: jax.Array, axis_name: str | None) -> _Gram:
    """Inner products between centred samples, for each quality of `(m, Q, d)` features.

    Spread over devices, samples are not gathered: a Gram matrix is a sum over features, so the
    devices exchange (all-to-all) a slice of the features of all samples for all the features of
    their own, and only `(Q, m, m)` partial sums are added up. Centring moves no distance between
    samples and keeps the products small, where float32 is dense.
    """
    if axis_name is not None:
        devices = _axis_size(axis_name)
        spare = -features.shape[-1] % devices  # zeros add nothing to a product
        features = jnp.pad(features, ((0, 0), (0, 0), (0, spare)))
        features = lax.all_to_all(features, axis_name, split_axis=2, concat_axis=0, tiled=True)
    centred = features - lax.stop_gradient(_mean(features))
    matrix = _products(centred)
    energy = jnp.sum(jnp.square(lax.stop_gradient(features)), axis=(0, 2))
    return _Gram(
        *((matrix, energy) if axis_name is None else lax.psum((matrix, energy), axis_name))
    )


def _mean(features: jax.Array) -> jax.Array:
    """Mean of the samples of `(m, Q, d)`; as a product, as XLA's sum of rows is slow on a CPU."""
    share = jnp.full(len(features), 1 / len(features))
    return jnp.einsum("i,iqd->qd", share, features, precision=lax.Precision.HIGHEST)


def _inner(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.einsum("iqd,jqd->qij", x, y, precision=lax.Precision.HIGHEST)


@jax.custom_jvp
def _products(x: jax.Array) -> jax.Array:
    """Inner products of all pairs of samples, for each quality of `(m, Q, d)`: `(Q, m, m)`."""
    return _inner(x, x)


@_products.defjvp
def _products_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # One product with the maps where the product rule, which sees two arguments, has two.
    half = _inner(tangents[0], primals[0])
    return _products(primals[0]), half + jnp.swapaxes(half, 1, 2)


def _kernels(features: jax.Array, sigma: float | jax.Array, axis_name: str | None) -> jax.Array:
    """`(Q, m, m)` Gaussian kernel matrices minus 1, from `(m, Q, ...)` features."""
    features = features.reshape(*features.shape[:2], -1).astype(jnp.float32)
    gram, energy = _gram(features, axis_name)
    squares = jnp.diagonal(gram, axis1=1, axis2=2)
    rounding = jnp.square(_CONSTANT_ROUNDINGS * jnp.finfo(jnp.float32).eps) * energy
    # What is no number is not taken for a constant: it becomes the value.
    constant = (lax.stop_gradient(jnp.sum(squares, axis=1)) <= rounding) & jnp.isfinite(rounding)
    distances = jnp.maximum(squares[:, :, None] + squares[:, None, :] - 2 * gram, 0.0)
    distances = jnp.where(constant[:, None, None], 0.0, distances)
    return jnp.expm1(-distances / (2 * jnp.square(sigma) * features.shape[-1]))


def _centre(kernel: jax.Array) -> jax.Array:
    """`H K H`."""
    rows = jnp.mean(kernel, axis=0)
    return kernel - rows[:, None] - rows[None, :] + jnp.mean(rows)


def _u_centre(kernel: jax.Array) -> jax.Array:
    """The centring whose products are unbiased; it removes constants off the diagonal, too.

    Where all samples are far apart on the scale of sigma, K - 1 is -1 off the diagonal. What the
    centring then leaves is noise of rounding, and becomes 0.
    """
    m = kernel.shape[0]
    rows = jnp.sum(kernel, axis=0) / (m - 2)  # the diagonal of K - 1 is zero already
    centred = kernel - rows[:, None] - rows[None, :] + jnp.sum(rows) / (m - 1)
    centred = jnp.where(jnp.eye(m, dtype=bool), 0.0, centred)
    rounding = _CONSTANT_ROUNDINGS * jnp.finfo(jnp.float32).eps * jnp.max(jnp.abs(kernel))
    noise = lax.stop_gradient(jnp.max(jnp.abs(centred)) <= rounding)
    return jnp.where(noise, 0.0, centred)


def _unit(matrix: jax.Array) -> jax.Array:
    """The matrix divided by its Frobenius norm; zeros, with zero gradient, where it is zero."""
    # It is scaled by its largest entry first: squares of small kernels leave float32's range.
    largest = lax.stop_gradient(jnp.max(jnp.abs(matrix)))
    scaled = matrix / jnp.where(largest > 0, largest, 1.0)
    square = jnp.sum(jnp.square(scaled))
    return scaled * lax.rsqrt(jnp.where(square > 0, square, 1.0))


def _inverse(centred: jax.Array) -> tuple[jax.Array, float]:
    """`(Kc + epsilon m I)^-1` and `epsilon m`."""
    m = centred.shape[0]
    ridge = _NHSIC_EPSILON * m
    factor = jax.scipy.linalg.cho_factor(centred + ridge * jnp.eye(m))
    return jax.scipy.linalg.cho_solve(factor, jnp.eye(m)), ridge


@jax.custom_jvp
def _resolvent(centred: jax.Array) -> jax.Array:
    """`R = Kc (Kc + epsilon m I)^-1`, symmetric."""
    return jnp.matmul(_inverse(centred)[0], centred, precision=lax.Precision.HIGHEST)


@_resolvent.defjvp
def _resolvent_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # dR = epsilon m A dKc A. The product rule would form I - R, which in float32 is only rounding
    # where the estimator is saturated.
    inverse, ridge = _inverse(primals[0])
    product = jnp.matmul(inverse, primals[0], precision=lax.Precision.HIGHEST)
    left = jnp.matmul(inverse, tangents[0], precision=lax.Precision.HIGHEST)
    return product, ridge * jnp.matmul(left, inverse, precision=lax.Precision.HIGHEST)


def _prepare(kernel: jax.Array, estimator: str) -> jax.Array:
    """The part of an estimator that depends on one variable only."""
    if estimator == "nhsic":
        return _resolvent(_centre(kernel))
    centred = _u_centre(kernel) if estimator in ("unbiased", "debiased_cka") else _centre(kernel)
    return _unit(centred) if estimator in ("cka", "debiased_cka") else centred


def _dependence(a: jax.Array, b: jax.Array, estimator: str) -> jax.Array:
    """The estimate from the prepared matrices of two variables."""
    m = a.shape[0]
    scale = {"biased": (m - 1) ** 2, "unbiased": m * (m - 3)}.get(estimator, 1)
    return jnp.sum(a * b) / scale
