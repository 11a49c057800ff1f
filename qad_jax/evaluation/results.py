"""The numbers of an evaluation as classes, and the form in which `metrics.json` holds them.

Most classes have `as_dict`, which gives what is stored, and `from_dict`, which reads it again. This
module imports neither JAX nor a dataset.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from qad_jax.evaluation import metrics

#: The two levels at which items are counted: frames, and videos as means over their frames.
LEVELS = ("frame", "video")


@dataclasses.dataclass(frozen=True)
class Estimate:
    """One number and its 95 % interval; None stands for what is not defined.

    Attributes:
      value: The number of the sample.
      low: Lower end of the interval.
      high: Upper end of the interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def most_of_1000(self) -> int:
        """The upper end of the interval of a share, in words of "fewer than" so many of 1000."""
        return max(1, math.ceil(1000 * (self.high or 0.0) - 1e-9))  # but for rounding

    def as_dict(self, name: str) -> dict[str, float | None]:
        """The stored form, which is flat: `{name: ..., name_low: ..., name_high: ...}`."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], name: str) -> Estimate:
        """Reads the estimate of a name from a flat mapping.

        Raises:
          KeyError: Where a field is missing.
          TypeError: Where a field is neither a number nor None.
          ValueError: As TypeError.
        """
        return cls(*(_number(stored[f"{name}{end}"]) for end in ("", "_low", "_high")))


def _number(value: Any) -> float | None:
    number = None if value is None else float(value)
    if number is not None and not math.isfinite(number):  # JSON has none, but Python reads them
        raise ValueError(f"{value} is no finite number")
    return number


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The numbers of one quality at one level; `metrics.numbers` defines each.

    Attributes:
      threshold: The threshold of the numbers that end in '_at_threshold'; None for a mean over
        qualities, each of which has its own.
      undefined: Names of numbers that are not defined, and why; see `metrics.why_undefined`.
    """

    auc: Estimate
    average_precision: Estimate
    eer: Estimate
    tpr_at_fpr_1: Estimate
    tpr_at_fpr_01: Estimate
    accuracy: Estimate
    fpr: Estimate
    accuracy_at_threshold: Estimate
    fpr_at_threshold: Estimate
    threshold: float | None
    undefined: Mapping[str, str]

    def estimates(self) -> dict[str, Estimate]:
        """All estimates under their names, in the order of `metrics.NAMES`."""
        return {name: getattr(self, name) for name in metrics.NAMES}

    def as_dict(self) -> dict[str, Any]:
        """The stored form: each number, its two ends, the threshold, and what is undefined."""
        stored: dict[str, Any] = {}
        for name, estimate in self.estimates().items():
            stored.update(estimate.as_dict(name))
        return {**stored, "threshold": self.threshold, "undefined": dict(self.undefined)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Numbers:
        """Reads what `as_dict` gives."""
        estimates = {name: Estimate.from_dict(stored, name) for name in metrics.NAMES}
        return cls(**estimates, threshold=stored["threshold"], undefined=stored["undefined"])


@dataclasses.dataclass(frozen=True)
class CalibrationResult:
    """How well the probabilities of one quality are calibrated.

    Attributes:
      temperature: The temperature that was fitted on validation; None where there is none.
      ece_before: Expected calibration error of the scores as they are.
      ece_after: The same after the temperature has been applied.
    """

    temperature: float | None
    ece_before: float | None
    ece_after: float | None


@dataclasses.dataclass(frozen=True)
class QualityResult:
    """The numbers of one quality.

    Attributes:
      frames: Number of frames.
      videos: Number of videos.
      frame: The numbers over frames.
      video: The numbers over videos.
      calibration: Of the frames; None for the part of a single method.
    """

    frames: int
    videos: int
    frame: Numbers
    video: Numbers
    calibration: CalibrationResult | None = None

    def levels(self) -> Iterator[tuple[str, int, Numbers]]:
        """Each level with the number of its items and the numbers over them."""
        yield "frame", self.frames, self.frame
        yield "video", self.videos, self.video

    def as_dict(self) -> dict[str, Any]:
        """The stored form."""
        stored: dict[str, Any] = {
            "frames": self.frames,
            "videos": self.videos,
            "frame": self.frame.as_dict(),
            "video": self.video.as_dict(),
        }
        if self.calibration is not None:
            stored["calibration"] = dataclasses.asdict(self.calibration)
        return stored

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> QualityResult:
        """Reads what `as_dict` gives."""
        calibration = stored.get("calibration")
        return cls(
            frames=stored["frames"],
            videos=stored["videos"],
            frame=Numbers.from_dict(stored["frame"]),
            video=Numbers.from_dict(stored["video"]),
            calibration=None if calibration is None else CalibrationResult(**calibration),
        )


@dataclasses.dataclass(frozen=True)
class Difference:
    """A difference of two AUCs on the same items, and its 95 % interval."""

    difference: float | None
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class Drop:
    """The AUC that is lost from one quality to another.

    Attributes:
      first: The quality that the drop starts from.
      weakest: The quality of the lowest frame AUC.
      frame: AUC of the first less that of the weakest, over frames.
      video: The same over videos.
    """

    first: str
    weakest: str
    frame: Difference
    video: Difference

    def as_dict(self) -> dict[str, Any]:
        """The stored form."""
        return {
            "from": self.first,
            "to": self.weakest,
            "frame": dataclasses.asdict(self.frame),
            "video": dataclasses.asdict(self.video),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Drop:
        """Reads what `as_dict` gives."""
        return cls(
            first=stored["from"],
            weakest=stored["to"],
            frame=Difference(**stored["frame"]),
            video=Difference(**stored["video"]),
        )


@dataclasses.dataclass(frozen=True)
class Summary:
    """All numbers of one split.

    Attributes:
      qualities: The result of each quality, under its name, in the order of the scores.
      mean: The mean over qualities at frame level; its intervals are those of the mean.
      methods: For each method of manipulation, its fakes against all reals: the result of each
        quality. Empty where there is one method only.
      drop: From the first quality to the weakest; None where fewer than two have an AUC.
      identities: Number of identities.
      bootstrap: Number of draws that the intervals come from.
    """

    qualities: Mapping[str, QualityResult]
    mean: Numbers
    methods: Mapping[str, Mapping[str, QualityResult]]
    drop: Drop | None
    identities: int
    bootstrap: int

    def undefined(self) -> dict[str, list[str]]:
        """Each reason why a number over frames is not defined, and the qualities it is true of."""
        reasons: dict[str, list[str]] = {}
        for quality, result in self.qualities.items():
            for reason in dict.fromkeys(result.frame.undefined.values()):
                reasons.setdefault(reason, []).append(quality)
        return reasons

    def as_dict(self) -> dict[str, Any]:
        """The stored form."""
        return {
            "qualities": _as_dicts(self.qualities),
            "mean": self.mean.as_dict(),
            "methods": {method: _as_dicts(results) for method, results in self.methods.items()},
            "drop": None if self.drop is None else self.drop.as_dict(),
            "identities": self.identities,
            "bootstrap": self.bootstrap,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Summary:
        """Reads what `as_dict` gives."""
        return cls(
            qualities=_from_dicts(stored["qualities"]),
            mean=Numbers.from_dict(stored["mean"]),
            methods={m: _from_dicts(results) for m, results in stored["methods"].items()},
            drop=None if stored["drop"] is None else Drop.from_dict(stored["drop"]),
            identities=stored["identities"],
            bootstrap=stored["bootstrap"],
        )


def _as_dicts(results: Mapping[str, QualityResult]) -> dict[str, Any]:
    return {quality: result.as_dict() for quality, result in results.items()}


def _from_dicts(stored: Mapping[str, Any]) -> dict[str, QualityResult]:
    return {quality: QualityResult.from_dict(result) for quality, result in stored.items()}


@dataclasses.dataclass(frozen=True)
class Report:
    """What `metrics.json` holds: the numbers of a split, and what they are of.

    Attributes:
      dataset: Full name of the dataset.
      split: Name of the split.
      step: Step of the checkpoint; None for the scores of another tool.
      summary: The numbers.
      threshold_rule: How the thresholds were chosen, in words.
      digest: Of the records of the split, where the dataset knows it.
      weights: Digest of the weights; None for the scores of another tool, and in older files.
    """

    dataset: str
    split: str
    step: int | None
    summary: Summary
    threshold_rule: str
    digest: str | None = None
    weights: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The stored form, in which the numbers lie side by side with what they are of."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "step": self.step,
            **self.summary.as_dict(),
            "threshold_rule": self.threshold_rule,
            "digest": self.digest,
            "weights": self.weights,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Report:
        """Reads what `as_dict` gives."""
        return cls(
            dataset=stored["dataset"],
            split=stored["split"],
            step=stored["step"],
            summary=Summary.from_dict(stored),
            threshold_rule=stored["threshold_rule"],
            digest=stored.get("digest"),
            weights=stored.get("weights"),
        )
