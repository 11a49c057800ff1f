"""Which of the measured qualities is nearest to a file of a stranger.

Thresholds and temperatures of a detector are measured at some qualities, such as raw, c23 and c40.
A file from elsewhere has none of these names. Its compression is estimated here as the CRF of
H.264 that loses as much, from two sources:

- The file's own quantisers, where its codec tells them (`codec_numbers`). They are exact for the
  last encoding and know nothing of those before.
- The pixels of the crops (`pixel_features`), by regression trees that
  `benchmarks/quality.py` has fitted. They see what is lost, whoever lost it, and are less exact.

The worse of the two counts: the quantisers, but the pixels where the whole of their interval is
above them. A video that was encoded at CRF 40 and then at CRF 20 is one of CRF 40.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data_builders.errors import UserError
from data_builders.qualities import MESSENGER, crf_of
from qad_jax.detection.codec_numbers import CodecNumbers
from qad_jax.detection.pixel_features import pixel_features

#: The CRF that stands for 'raw': what loses less cannot be told from it.
RAW = 10.0
WORST = 51.0
#: The CRF of a file of which nothing is known: that of ordinary web video.
USUAL = 23.0
#: Crops that are looked at, at the most: evenly chosen.
MOST_CROPS = 16

_MODEL = Path(__file__).with_name("quality_model.json")
_DEPTH = 3  # of the trees


@dataclasses.dataclass(frozen=True)
class Quality:
    """The estimated compression of a file.

    Attributes:
      crf: The CRF of H.264 that loses as much, from `RAW`, no visible loss, to `WORST`.
      low: Lower end of an interval for it. Those of the quantisers alone and of the pixels alone
        held 90 % of the files that they were measured on.
      high: Upper end. Where the quantisers count, it is the larger one of both sources.
      reason: Where the number comes from, in words.
      encoded_before: Whether the pixels have lost more than the file's own quantisers take; None
        where this cannot be compared. An earlier encoding that lost less leaves no such sign.
    """

    crf: float
    low: float
    high: float
    reason: str
    encoded_before: bool | None = None


class _Estimate(NamedTuple):
    crf: float
    low: float
    high: float


def estimate(
    crops: Sequence[npt.NDArray[np.uint8]], numbers: CodecNumbers | None = None
) -> Quality:
    """Estimates the compression of a file.

    Args:
      crops: `(height, width, 3)` uint8 RGB crops of faces in the pixels of the file, before any
        resizing; there may be none.
      numbers: What its codec says.

    Returns:
      The estimate; where nothing is known, `USUAL` with an interval over all there is.
    """
    evenly = np.linspace(0, len(crops) - 1, min(len(crops), MOST_CROPS)).round().astype(int)
    return from_features(pixel_features([crops[i] for i in evenly]), numbers)


def from_features(
    features: npt.NDArray[np.float64],
    numbers: CodecNumbers | None = None,
    model: dict[str, Any] | None = None,
) -> Quality:
    """Estimates the compression of a file as `estimate` does.

    Args:
      features: `(crops, k)`, from `pixel_features`.
      numbers: What its codec says.
      model: What was fitted; None for what the package brings.
    """
    model = model or _model()
    pixels = _of_pixels(features, model)
    codec = None if numbers is None else _of_codec(numbers, model)
    if numbers is not None and codec is not None:
        if pixels is None or pixels.low <= codec.crf:
            # An earlier encoding that was a little worse cannot be told from none.
            high = codec.high if pixels is None else max(codec.high, pixels.high)
            reason = f"the quantiser of the file's codec, {numbers.codec}"
            seen = None if pixels is None else False
            return Quality(codec.crf, codec.low, high, reason, seen)
        return Quality(
            *pixels,
            f"the pixels: they have lost more than the quantiser of {numbers.codec} takes (CRF "
            f"{codec.crf:.0f}), so the file was encoded before",
            True,
        )
    if pixels is not None:
        return Quality(*pixels, "the pixels: the file tells no quantiser")
    return Quality(
        USUAL, RAW, WORST, "a guess: the file tells no quantiser, and the crops are small or flat"
    )


def nearest(estimated: Quality, qualities: Sequence[str]) -> str:
    """Chooses the quality whose compression is nearest to an estimate.

    'random' is no candidate, because it has no CRF of its own.

    Args:
      estimated: The estimate.
      qualities: Names as in `data_builders.qualities`: raw, cNN, messenger.

    Returns:
      One of the names. Of two that are equally near it is the one of more compression. Where there
      is a single name, it is that one.

    Raises:
      UserError: There are several names, and none of them says how it is compressed.
    """
    places = {name: at for name in qualities if (at := place_of(name)) is not None}
    if not places:
        if len(qualities) == 1:
            return qualities[0]
        raise UserError(
            f"qualities: {', '.join(qualities) or 'none'}: none says how it is compressed, so none "
            "is nearest; name them raw, messenger, or c and a CRF, such as c23"
        )
    return min(places, key=lambda name: (abs(places[name] - estimated.crf), -places[name]))


def plausible(estimated: Quality, qualities: Sequence[str]) -> list[str]:
    """Names the qualities that a file may be of.

    Args:
      estimated: The estimate.
      qualities: As for `nearest`.

    Returns:
      The nearest one, and then the others whose compression lies in the interval of the estimate.

    Raises:
      UserError: As for `nearest`.
    """
    first = nearest(estimated, qualities)
    places = {name: place_of(name) for name in qualities if name != first}
    return [first] + [
        name
        for name, place in places.items()
        if place is not None and estimated.low <= place <= estimated.high
    ]


def place_of(quality: str) -> float | None:
    """The CRF that a quality is at; None where its name does not say it."""
    if quality == MESSENGER:
        return float(_model()["messenger"])
    crf = crf_of(quality)
    return None if crf is None else min(max(float(crf), RAW), WORST)


def _of_codec(numbers: CodecNumbers, model: dict[str, Any]) -> _Estimate | None:
    fitted = model["codecs"].get(numbers.codec, model["codecs"]["mpeg"])
    if numbers.key_quantiser is None or numbers.quantiser is None:
        return None
    key, other, constant = fitted["weights"]
    crf = key * numbers.key_quantiser + other * numbers.quantiser + constant
    return _within(crf, crf + fitted["error"][0], crf + fitted["error"][1])


def _of_pixels(features: npt.NDArray[np.float64], model: dict[str, Any]) -> _Estimate | None:
    if not len(features):
        return None
    crf = float(by_trees(features, model["trees"]).mean())
    pixels = model["pixels"]
    low, high = (float(np.interp(crf, pixels["at"], pixels[end])) for end in ("low", "high"))
    return _within(crf, crf + low, crf + high)


def by_trees(features: npt.NDArray[np.float64], trees: dict[str, Any]) -> npt.NDArray[np.float64]:
    """Adds up regression trees of one depth.

    Args:
      features: `(n, k)`.
      trees: `constant`, to which each tree adds one of its `leaves`: it goes to the right where
        `feature` number i is above `threshold` i, from node i to 2 i + 1 (left) or 2 i + 2.

    Returns:
      `(n,)` sums.
    """
    inner, leaves = 2**_DEPTH - 1, 2**_DEPTH
    column = np.reshape(trees["feature"], (-1, inner))
    threshold = np.reshape(np.asarray(trees["threshold"], np.float64), (-1, inner))
    value = np.reshape(np.asarray(trees["leaves"], np.float64), (-1, leaves))
    tree = np.arange(len(column))
    node = np.zeros((len(features), len(column)), np.intp)
    for _ in range(_DEPTH):
        right = np.take_along_axis(features, column[tree, node], axis=1) > threshold[tree, node]
        node = 2 * node + 1 + right
    return np.asarray(trees["constant"] + value[tree, node - inner].sum(axis=1))


def _within(crf: float, low: float, high: float) -> _Estimate:
    ends = [float(min(max(end, RAW), WORST)) for end in (crf, low, high)]
    return _Estimate(ends[0], min(ends[0], ends[1]), max(ends[0], ends[2]))


@functools.cache
def _model() -> dict[str, Any]:
    return dict(json.loads(_MODEL.read_text(encoding="utf-8")))
