"""A walk through the frames of a face, on its drawing, without a script.

Each frame is a radio button: one of them is always chosen, the arrow keys go from one to the next,
and the Tab key passes the whole group in one step. The buttons cannot be seen. They lie over one
another, and the rules of `style.STYLE` show a ring and the crop of the frame that is chosen, or of
the one that a pointer is at. So a page needs no script for this, and none can run in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from qad_jax.detection.examination import Crop
from qad_jax.detection.pages import words
from qad_jax.detection.pages.parts import image, percent, text
from qad_jax.detection.results import FrameScore
from qad_jax.evaluation.verdicts import Thresholds

_JPEG_QUALITY = 80


def render(
    track: int,
    frames: Sequence[FrameScore],
    places: Sequence[float],
    thresholds: Thresholds | None,
    small: Sequence[Crop],
) -> str:
    """Renders the layer that lies over a drawing.

    Args:
      track: Number of the face.
      frames: The frames that are drawn, in order, at least one.
      places: Where each is, as a share of the width of the drawing, in the same order.
      thresholds: Those of the drawing, if it has any.
      small: Crops of the frames, or of some of them.

    Returns:
      The layer, as HTML. The frame of the highest score is chosen.
    """
    crops = {crop.frame.frame: crop for crop in small}
    highest = max(range(len(frames)), key=lambda i: frames[i].score)
    labels = []
    for i, (frame, strip) in enumerate(zip(frames, _strips(places), strict=True)):
        said = text(_said(frame, thresholds))
        crop = crops.get(frame.frame)
        seen = ""
        if crop is not None:
            seen = image(crop.image, words.CROP.format(frame=frame.frame), _JPEG_QUALITY)
        left, width = map(percent, strip)
        ring = f"left:{percent(places[i])};top:{11 * (1 - frame.score):.2f}rem"
        labels.append(
            f'<label><span class="strip" style="left:{left};width:{width}"></span>'
            f'<input type="radio" name="walk{track}" aria-label="{said}"'
            f'{" checked" if i == highest else ""}><span class="ring" style="{ring}"></span>'
            f'<span class="shown">{seen}<span>{said}</span></span></label>'
        )
    legend = text(words.WALK.format(number=track + 1))
    return f'<fieldset class="walk"><legend>{legend}</legend>{"".join(labels)}</fieldset>'


def _said(frame: FrameScore, thresholds: Thresholds | None) -> str:
    return words.WALK_FRAME.format(
        frame=frame.frame,
        time="" if frame.time is None else words.AT.format(time=frame.time),
        score=frame.score,
        place=f", {words.PLACES[thresholds.verdict(frame.score)]}" if thresholds else "",
    )


def _strips(places: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Left end and width of what belongs to each place: up to the middle to the next one."""
    ends = [0.0, *((a + b) / 2 for a, b in pairwise(places)), 1.0]
    for left, right in pairwise(ends):
        yield left, right - left
