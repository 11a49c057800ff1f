"""Temperature, threshold and expected calibration error of each quality, chosen on validation.

Temperature scaling and the error follow Guo et al., "On Calibration of Modern Neural Networks",
ICML 2017: the logit of a probability is divided by one number, the one that minimises the negative
log-likelihood. It moves no score past another: AUC and the like stay what they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data_builders.files import write_whole
from qad_jax.evaluation import metrics
from qad_jax.evaluation.metrics import Array
from qad_jax.evaluation.scores import Scores

#: The rule by which a threshold is chosen, in words.
RULE = "equal error rate on validation, at the same quality and level"
BINS = 15
# Probabilities come as float32: nearer to 0 or 1 than this they cannot be told from it.
_EPSILON = 1e-7
# Logarithm of the temperature: from all scores near one half to all near 0 or 1.
_BOUNDS = (np.log(0.01), np.log(100.0))


class Quality(NamedTuple):
    """What validation says of one quality.

    Attributes:
      temperature: Divides the logit; None where it is not defined.
      threshold: Of frames; None where it is not defined.
      video_threshold: Of videos.
    """

    temperature: float | None
    threshold: float | None
    video_threshold: float | None


class Calibration(NamedTuple):
    """What was chosen on a validation split.

    Attributes:
      dataset: Full name of the dataset.
      step: Of the checkpoint.
      qualities: By name.
    """

    dataset: str
    step: int
    qualities: dict[str, Quality]


class Reliability(NamedTuple):
    """A reliability diagram: `(b,)` each, of the bins that hold any item.

    Attributes:
      confidence: Mean probability of fake.
      frequency: Share of fakes.
      items: How many.
    """

    confidence: Array
    frequency: Array
    items: Array


def scaled(probabilities: npt.ArrayLike, temperature: float | None) -> Array:
    """Divides the logits of probabilities by a temperature; None leaves them."""
    p = np.asarray(probabilities, np.float64)
    if temperature is None:
        return p
    return np.asarray((1 + np.tanh(_logit(p) / (2 * temperature))) / 2)  # never overflows


def _logit(probabilities: Array) -> Array:
    p = np.clip(probabilities, _EPSILON, 1 - _EPSILON)
    return np.asarray(np.log(p) - np.log1p(-p))


def fit_temperature(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float | None:
    """The temperature of least negative log-likelihood.

    Args:
      labels: `(n,)` 0 real, 1 fake.
      probabilities: `(n,)` of fake.

    Returns:
      A number between 0.01 and 100; None where both classes are not there, a score is not a
      number, or one is not a probability.
    """
    from scipy import optimize  # late: it takes a second

    y, p = np.asarray(labels, np.float64), np.asarray(probabilities, np.float64)
    if metrics.why_undefined(y, p) or p.min() < 0 or p.max() > 1:
        return None
    signed = np.where(y == 1, 1, -1) * _logit(p)

    def loss(log_temperature: float) -> float:
        return float(np.mean(np.logaddexp(0, -signed * np.exp(-log_temperature))))

    # In the inverse temperature the loss is convex: a single minimum.
    found = optimize.minimize_scalar(
        loss, bounds=_BOUNDS, method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x))


def reliability(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS
) -> Reliability:
    """Mean probability and share of fakes in bins of equal width."""
    y, p = np.asarray(labels, np.float64), np.asarray(probabilities, np.float64)
    bin_of = np.clip((p * bins).astype(np.intp), 0, bins - 1)
    count = np.bincount(bin_of, minlength=bins).astype(np.float64)
    held = count > 0
    sums = (np.bincount(bin_of, values, bins)[held] for values in (p, y))
    confidence, frequency = (total / count[held] for total in sums)
    return Reliability(confidence, frequency, count[held])


def expected_calibration_error(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS
) -> float:
    """Mean over the items of `|share of fakes - mean probability|` in the bin of each."""
    bars = reliability(labels, probabilities, bins)
    gaps = np.abs(bars.frequency - bars.confidence)
    return float(np.sum(gaps * bars.items) / np.sum(bars.items))


def fit(scores: Scores, *, dataset: str, step: int) -> Calibration:
    """Chooses temperature and thresholds of each quality.

    Args:
      scores: Of the validation split.
      dataset: Its full name.
      step: Of the checkpoint.
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
    """Stores it as JSON, in full or not at all."""
    qualities = {name: quality._asdict() for name, quality in chosen.qualities.items()}
    content: dict[str, Any] = {**chosen._asdict(), "rule": RULE, "qualities": qualities}
    write_whole(path, json.dumps(content, indent=2) + "\n")


def read(path: Path, *, step: int) -> Calibration | None:
    """Reads what `write` stored; None where there is nothing, or it is of another checkpoint."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["step"] != step:
            return None
        qualities = {name: Quality(**quality) for name, quality in _known(stored["qualities"])}
        return Calibration(str(stored["dataset"]), step, qualities)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _known(qualities: dict[str, dict[str, float]]) -> list[tuple[str, dict[str, float]]]:
    return [
        (name, {field: values[field] for field in Quality._fields})
        for name, values in qualities.items()
    ]
