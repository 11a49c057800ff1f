"""Temperature, threshold and expected calibration error of each quality, chosen on validation.

Temperature scaling and the error follow Guo et al., "On Calibration of Modern Neural Networks",
ICML 2017: the logit of a probability is divided by one number, the one that minimises the negative
log-likelihood. It moves no score past another: AUC and the like stay what they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data_builders.files import is_number, read_json, write_json
from qad_jax.evaluation import metrics
from qad_jax.evaluation.metrics import Array
from qad_jax.evaluation.scores import Scores

#: The rule by which a threshold is chosen, in words.
RULE = "equal error rate on validation, at the same quality and level"
BINS = 15
# Probabilities come as float32, which cannot tell a value nearer to 0 or 1 from 0 or 1.
_EPSILON = 1e-7
# Bounds of the logarithm of the temperature.
_BOUNDS = (np.log(0.01), np.log(100.0))


class Quality(NamedTuple):
    """What was chosen for one quality; None stands for what is not defined.

    Attributes:
      temperature: Divides the logit.
      threshold: The threshold of frames.
      video_threshold: The threshold of videos.
    """

    temperature: float | None
    threshold: float | None
    video_threshold: float | None


class Calibration(NamedTuple):
    """What was chosen on a validation split.

    Attributes:
      dataset: Full name of the dataset.
      step: Step of the checkpoint.
      qualities: What was chosen for each quality, under its name.
      weights: Digest of the weights; None in older files, and for the scores of another tool.
    """

    dataset: str
    step: int
    qualities: dict[str, Quality]
    weights: str | None = None


class Reliability(NamedTuple):
    """A reliability diagram, which leaves out empty bins.

    Attributes:
      confidence: `(b,)` mean probability of fake in each bin.
      frequency: `(b,)` share of fakes.
      items: `(b,)` number of items.
    """

    confidence: Array
    frequency: Array
    items: Array


def scaled(probabilities: npt.ArrayLike, temperature: float | None, shift: float = 0.0) -> Array:
    """Scales the logits of probabilities: `(logit - shift) / temperature`.

    Args:
      probabilities: Of any shape.
      temperature: None leaves them as they are.
      shift: The logit that becomes a probability of one half.
    """
    p = np.asarray(probabilities, np.float64)
    if temperature is None:
        return p
    return np.asarray((1 + np.tanh((logit(p) - shift) / (2 * temperature))) / 2)  # no overflow


def logit(probabilities: npt.ArrayLike, least: float = _EPSILON) -> Array:
    """The logits of probabilities, those nearer to 0 or 1 than `least` taken as so near."""
    p = np.clip(probabilities, least, 1 - least)
    return np.asarray(np.log(p) - np.log1p(-p))


def fit_temperature(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float | None:
    """Finds the temperature of the least negative log-likelihood.

    Args:
      labels: `(n,)` 0 real, 1 fake.
      probabilities: `(n,)` of fake.

    Returns:
      A number between 0.01 and 100; None where one class is missing, a score is not a number, or
      a score is not a probability.
    """
    from scipy import optimize  # late: its import takes a second

    y, p = np.asarray(labels, np.float64), np.asarray(probabilities, np.float64)
    if metrics.why_undefined(y, p) or p.min() < 0 or p.max() > 1:
        return None
    signed = np.where(y == 1, 1, -1) * logit(p)

    def loss(log_temperature: float) -> float:
        return float(np.mean(np.logaddexp(0, -signed * np.exp(-log_temperature))))

    # The loss is convex in the inverse temperature and has a single minimum.
    minimum = optimize.minimize_scalar(
        loss, bounds=_BOUNDS, method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(minimum.x))


def fit_shifted(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[float, float] | None:
    """Finds temperature and shift of the least negative log-likelihood of evenly weighed classes.

    A temperature alone keeps a logit of 0 where it is. A network whose scores are too high for both
    classes needs the shift, too (Platt, "Probabilistic Outputs for Support Vector Machines", 1999).
    As there, of n items of a class one in n + 2 counts as of the other: where few items lie apart,
    nothing is certain.

    Args:
      labels: `(n,)` 0 real, 1 fake.
      probabilities: `(n,)` of fake.

    Returns:
      Temperature, between 0.01 and 100, and shift, between the smallest and the largest logit; None
      as for `fit_temperature`.
    """
    from scipy import optimize  # late: its import takes a second

    y, p = np.asarray(labels, np.float64), np.asarray(probabilities, np.float64)
    if metrics.why_undefined(y, p) or p.min() < 0 or p.max() > 1:
        return None
    z, sign = logit(p), np.where(y == 1, 1.0, -1.0)
    items = np.where(y == 1, y.sum(), (1 - y).sum())
    weight, other = 0.5 / items, 1 / (items + 2)

    def loss(given: Array) -> tuple[float, Array]:
        log_temperature, shift = given
        scaled_logit = sign * (z - shift) * np.exp(-log_temperature)
        wrong = weight * ((np.tanh(-scaled_logit / 2) + 1) / 2 - other)
        gradient = [np.sum(wrong * scaled_logit), np.sum(wrong * sign) * np.exp(-log_temperature)]
        likely = np.logaddexp(0, -scaled_logit) + other * scaled_logit
        return float(np.sum(weight * likely)), np.array(gradient)

    bounds = [_BOUNDS, (float(z.min()), float(z.max()))]
    start = np.array([0.0, np.clip(0.0, *bounds[1])])
    minimum = optimize.minimize(loss, start, jac=True, bounds=bounds, tol=1e-10)
    log_temperature, shift = minimum.x
    return float(np.exp(log_temperature)), float(shift)


def reliability(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS
) -> Reliability:
    """Computes the mean probability and the share of fakes in bins of equal width."""
    y, p = np.asarray(labels, np.float64), np.asarray(probabilities, np.float64)
    bin_of = np.clip((p * bins).astype(np.intp), 0, bins - 1)
    count = np.bincount(bin_of, minlength=bins).astype(np.float64)
    filled = count > 0
    sums = (np.bincount(bin_of, values, bins)[filled] for values in (p, y))
    confidence, frequency = (total / count[filled] for total in sums)
    return Reliability(confidence, frequency, count[filled])


def expected_calibration_error(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS
) -> float:
    """Mean over the items of `|share of fakes - mean probability|` in the bin of each."""
    bars = reliability(labels, probabilities, bins)
    gaps = np.abs(bars.frequency - bars.confidence)
    return float(np.sum(gaps * bars.items) / np.sum(bars.items))


def fit(scores: Scores, *, dataset: str, step: int) -> Calibration:
    """Chooses the temperature and the thresholds of each quality.

    Args:
      scores: The scores of the validation split.
      dataset: Full name of the dataset.
      step: Step of the checkpoint.
    """
    videos = scores.videos()
    return Calibration(
        dataset,
        step,
        {
            quality: Quality(
                fit_temperature(scores.label, scores.score[:, i]),
                metrics.equal_error_threshold(scores.label, scores.score[:, i]),
                metrics.equal_error_threshold(videos.label, videos.score[:, i]),
            )
            for i, quality in enumerate(scores.qualities)
        },
    )


def write(path: Path, chosen: Calibration) -> None:
    """Writes what was chosen as JSON, in full or not at all."""
    qualities = {name: quality._asdict() for name, quality in chosen.qualities.items()}
    content: dict[str, Any] = {**chosen._asdict(), "rule": RULE, "qualities": qualities}
    write_json(path, content)


def read(path: Path, *, step: int, weights: str | None = None) -> Calibration | None:
    """Reads what `write` stored; None where nothing of use is there, or of another checkpoint.

    Args:
      path: The file.
      step: Step of the checkpoint.
      weights: Digest of its weights. An older file does not have it.
    """
    try:
        stored = read_json(path)
        told = stored.get("weights")
        if stored["step"] != step or (None not in (told, weights) and told != weights):
            return None
        qualities = {name: _quality(values) for name, values in stored["qualities"].items()}
        return Calibration(str(stored["dataset"]), step, qualities, told)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _quality(values: Mapping[str, Any]) -> Quality:
    numbers = Quality(*(values[field] for field in Quality._fields))
    if not all(number is None or is_number(number) for number in numbers):
        raise ValueError("holds something else than numbers")
    if numbers.temperature is not None and numbers.temperature <= 0:
        raise ValueError("a temperature is not positive")
    return numbers
