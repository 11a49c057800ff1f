"""What a person wants to see beside a verdict: crops of the faces, and the places that matter.

A detector with a localiser shows where a face looks changed. Of another one the places are found by
occlusion: parts of a crop are covered one after another, and the crop is scored anew. This works
with any network. It shows what the score of the network depends on, which is another thing than
what was forged.

References:
  Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from qad_jax.detection.judging import Judgement, by_suspicion
from qad_jax.detection.results import Face, FrameScore, Verdict
from qad_jax.detection.scoring import resized
from qad_jax.evaluation.calibration import logit
from qad_jax.evaluation.rates import Rates
from qad_jax.evaluation.verdicts import Thresholds
from qad_jax.weights.model_file import Description

Image = npt.NDArray[np.uint8]
Score = Callable[[Sequence[Image]], npt.NDArray[np.floating]]
Changed = Callable[[Image], npt.NDArray[np.floating]]
Item = TypeVar("Item")

#: Faces of a file that are kept, at the most: the most suspicious ones.
MOST_FACES = 8
#: Crops at each end of the scores of a face, and the side of each in pixels.
CROPS, SIDE = 3, 160
#: Frames of a face that are drawn and listed, at the most.
MOST_FRAMES = 400
#: Small crops of all drawn frames of all faces, at the most, and the side of each in pixels. They
#: take most of the bytes of a page: so many take three megabytes.
MOST_SMALL, SMALL = 800, 96
#: Places along each side of a crop that are covered in turn.
GRID = 8
# The patch is this part of the side: smaller ones change too little of a face.
_PATCH = 1 / 4
_GREY = 128
# Scores are compared as logits, so that a fall is seen near 1, too; these are their ends.
_LEAST = 1e-6


@dataclasses.dataclass(frozen=True)
class Look:
    """A verdict, and what it was made of.

    Attributes:
      verdict: What is said of the file.
      crops: Of each face the `(height, width, 3)` uint8 RGB crop of each of its frames.
      judgement: What is said of each face; None where there is none.
      trace: The traceback of what made the verdict an error, where it is not the file's mistake.
    """

    verdict: Verdict
    crops: Sequence[Sequence[Image]] = ()
    judgement: Judgement | None = None
    trace: str = ""


@dataclasses.dataclass(frozen=True)
class Crop:
    """One crop of a face.

    Attributes:
      frame: Where it is, and its score.
      image: `(side, side, 3)` uint8 RGB, where the side is `SIDE` or `SMALL`.
    """

    frame: FrameScore
    image: Image


@dataclasses.dataclass(frozen=True)
class HeatMap:
    """What the score of a crop depends on.

    Attributes:
      fall: `(GRID, GRID)`, by how much the logit of the score falls where a place is covered; 0
        where it does not fall.
      score: Of the whole crop.
      covered: The lowest score with one place covered.
    """

    fall: npt.NDArray[np.float64]
    score: float
    covered: float


@dataclasses.dataclass(frozen=True)
class ChangeMap:
    """Where a crop looks changed.

    Attributes:
      shares: `(h, w)` in [0, 1], how much of each place.
    """

    shares: npt.NDArray[np.floating]


@dataclasses.dataclass(frozen=True)
class FaceView:
    """One face, to be looked at.

    Attributes:
      face: What is said of it.
      judged: Whether it was compared with the thresholds.
      suspicious: Its crops of the highest scores, the highest first.
      unsuspicious: Its crops of the lowest scores, the lowest first; none of `suspicious`.
      small: Small crops of the drawn frames, or of some of them where there are many, in order.
      heat_map: Of the most suspicious crop: where it looks changed, or what the score depends on if
        the detector cannot tell that; None where the face was not judged.
    """

    face: Face
    judged: bool
    suspicious: tuple[Crop, ...]
    unsuspicious: tuple[Crop, ...]
    small: tuple[Crop, ...]
    heat_map: HeatMap | ChangeMap | None


@dataclasses.dataclass(frozen=True)
class Examination:
    """A verdict and what a page shows with it.

    Attributes:
      verdict: What is said of the file.
      model: What the detector says of itself.
      thresholds: Those that the mean score of each judged face was compared with; None where the
        file has no face.
      saturated: Whether no face is called fake because real clips have the highest score.
      rates: Of the nearest measured quality; None where the file has no face.
      faces: The most suspicious faces, at most `MOST_FACES`; the first decides the verdict.
      judged: Number of faces that were judged, of all.
    """

    verdict: Verdict
    model: Description
    thresholds: Thresholds | None = None
    saturated: bool = False
    rates: Rates | None = None
    faces: tuple[FaceView, ...] = ()
    judged: int = 0


def of(
    look: Look, rates: Rates | None, score: Score, changed: Changed | None, model: Description
) -> Examination:
    """Chooses what is kept of a file, and finds what the scores depend on.

    Args:
      look: The verdict with its crops.
      rates: Of the nearest measured quality.
      score: Gives the probability of fake of each of some crops.
      changed: Finds where a crop looks changed; None where the detector cannot tell that.
      model: What the detector says of itself.
    """
    judgement = look.judgement
    if judgement is None:
        return Examination(look.verdict, model)
    judged = {face.track for face in judgement.judged}
    others = [face for face in judgement.faces if face.track not in judged]
    ordered = [*by_suspicion(judgement.judged), *by_suspicion(others)]
    ordered.sort(key=lambda face: face.track != judgement.decisive.track)  # the rest stays
    chosen = ordered[:MOST_FACES]
    crops = dict(zip((face.track for face in judgement.faces), look.crops, strict=True))
    views = []
    for face in chosen:
        of_face = crops[face.track]
        order = sorted(range(len(face.frames)), key=lambda i: -face.frames[i].score)
        most, least = order[:CROPS], order[CROPS:][: -CROPS - 1 : -1]
        small = evenly(evenly(range(len(face.frames)), MOST_FRAMES), MOST_SMALL // len(chosen))
        heat_map: HeatMap | ChangeMap | None = None
        if face.track in judged:
            crop = resized(of_face[most[0]], model.image_size)
            if changed is not None:
                heat_map = ChangeMap(changed(crop))
            else:
                heat_map = occluded(crop, face.frames[most[0]].score, score)
        views.append(
            FaceView(
                face,
                face.track in judged,
                tuple(Crop(face.frames[i], resized(of_face[i], SIDE)) for i in most),
                tuple(Crop(face.frames[i], resized(of_face[i], SIDE)) for i in least),
                tuple(Crop(face.frames[i], resized(of_face[i], SMALL)) for i in small),
                heat_map,
            )
        )
    return Examination(
        look.verdict,
        model,
        judgement.thresholds,
        judgement.saturated,
        rates,
        tuple(views),
        len(judgement.judged),
    )


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of some items, with the first and the last of them.

    Args:
      items: In order.
      most: At least 2.
    """
    if len(items) <= most:
        return list(items)
    last = len(items) - 1
    return [items[round(i * last / (most - 1))] for i in range(most)]


def occluded(crop: Image, whole: float, score: Score) -> HeatMap:
    """Covers each place of a crop in turn with a grey patch, and scores what is left.

    Args:
      crop: `(side, side, 3)` uint8 RGB.
      whole: Its score with nothing covered.
      score: Gives the probability of fake of each of some crops.
    """
    side = len(crop)
    centres = (np.arange(GRID) + 0.5) * side / GRID
    starts = np.clip(np.round(centres - side * _PATCH / 2), 0, side).astype(int)
    ends = np.clip(np.round(centres + side * _PATCH / 2), 0, side).astype(int)
    covered = []
    for top, bottom in zip(starts, ends, strict=True):
        for left, right in zip(starts, ends, strict=True):
            part = crop.copy()
            part[top:bottom, left:right] = _GREY
            covered.append(part)
    scores = np.asarray(score(covered), np.float64)
    fall = np.maximum(logit(whole, _LEAST) - logit(scores, _LEAST), 0).reshape(GRID, GRID)
    return HeatMap(fall, whole, float(scores.min()))
