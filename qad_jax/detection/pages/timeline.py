"""The scores of a face over time, as a drawing and as a table.

The drawing has its places in percent and its sizes in pixels, so that marks and lines are equally
large on a telephone and on a wide screen. It is readable without colours: the place of a mark and
its shape say the same.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from itertools import pairwise

from qad_jax.detection.examination import MOST_FRAMES, Crop, evenly
from qad_jax.detection.pages import walk, words
from qad_jax.detection.pages.parts import percent, text
from qad_jax.detection.results import Face, FrameScore
from qad_jax.evaluation.verdicts import REAL, Thresholds

# Where the face is not seen for so many times the usual step, no line joins the marks.
_GAP = 1.6


def render(
    face: Face,
    thresholds: Thresholds | None,
    duration: float | None,
    small: Sequence[Crop] = (),
) -> list[str]:
    """Draws the scores of a face.

    Args:
      face: The face.
      thresholds: Those that its mean score was compared with; None where it was not judged.
      duration: Of the file, in seconds, where it is known.
      small: Crops of the frames that are drawn, or of some of them.

    Returns:
      The heading, the drawing and the table, as HTML.
    """
    frames = evenly(face.frames, MOST_FRAMES)
    end = _end(frames, duration)
    title = words.SCORES if len(frames) > 1 else words.SCORES_OF_IMAGE
    legend = words.LEGEND if thresholds else words.LEGEND_NOT_JUDGED
    hint = f' <span class="hint">{text(words.WALK_HINT)}</span>' if len(frames) > 1 else ""
    places = [_x(frame, end) for frame in frames]
    return [
        f"<h4>{text(title)}</h4>",
        f'<figure class="plot">{_drawing(face, frames, thresholds, end)}'
        f"{walk.render(face.track, frames, places, thresholds, small)}"
        f"<figcaption>{text(legend)}{hint}</figcaption></figure>",
        _table(face, frames, thresholds),
    ]


def _drawing(
    face: Face,
    frames: Sequence[FrameScore],
    thresholds: Thresholds | None,
    end: float | None,
) -> str:
    scores = [frame.score for frame in face.frames]
    mean = statistics.fmean(scores)
    parts = ['<rect class="frame" width="100%" height="100%"/>']
    band = ""
    if thresholds:
        band = words.BAND.format(lower=thresholds.lower, upper=thresholds.upper)
        parts += _band(face.track, thresholds)
    at = [(percent(_x(frame, end)), percent(1 - frame.score)) for frame in frames]
    parts += [
        f'<line class="step" x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}"/>'
        for joined, ((x0, y0), (x1, y1)) in zip(_joined(frames), pairwise(at), strict=True)
        if joined
    ]
    height = percent(1 - mean)
    parts.append(f'<line class="mean" x1="0" x2="100%" y1="{height}" y2="{height}"/>')
    parts += [
        _mark(x, y, thresholds.verdict(frame.score) if thresholds else "")
        for frame, (x, y) in zip(frames, at, strict=True)
    ]
    label = words.TIMELINE.format(
        frames=words.counted(len(scores), "frame"),
        low=min(scores),
        high=max(scores),
        mean=mean,
        band=band,
    )
    ticks = "<span>1</span><span>0.5</span><span>0</span>"
    times = "" if end is None else f"<span>0 s</span><span>{end:.2f} s</span>"
    return (
        f'<div class="y" aria-hidden="true">{ticks}</div>'
        f'<svg role="img" aria-label="{text(label.strip())}">{"".join(parts)}</svg>'
        f'<div class="x" aria-hidden="true">{times}</div>'
    )


def _band(track: int, thresholds: Thresholds) -> Iterator[str]:
    top, bottom = 1 - thresholds.upper, 1 - thresholds.lower
    yield (
        f'<pattern id="hatch{track}" width="8" height="8" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><line class="hatch" x1="0" x2="0" y2="8"/></pattern>'
        f'<rect class="band" y="{percent(top)}" width="100%" '
        f'height="{percent(bottom - top)}" fill="url(#hatch{track})"/>'
    )
    for edge in (top, bottom):
        yield (f'<line class="edge" x1="0" x2="100%" y1="{percent(edge)}" y2="{percent(edge)}"/>')


def _mark(x: str, y: str, where: str) -> str:
    if where == REAL:
        centred = 'width="8" height="8" transform="translate(-4 -4)"'
        return f'<rect class="real" x="{x}" y="{y}" {centred}/>'
    return f'<circle class="{where or "unplaced"}" cx="{x}" cy="{y}" r="4.5"/>'


def _end(frames: Sequence[FrameScore], duration: float | None) -> float | None:
    """The end of the axis of time; None where there is no time."""
    times = [frame.time for frame in frames if frame.time is not None]
    if len(times) < len(frames):
        return None
    end = max([*times, duration or 0.0])
    return end if math.isfinite(end) and end > 0 else None


def _x(frame: FrameScore, end: float | None) -> float:
    return 0.5 if end is None or frame.time is None else frame.time / end


def _joined(frames: Sequence[FrameScore]) -> Iterator[bool]:
    """For each two frames in turn, whether the face was seen all the way between them."""
    steps = [after.frame - before.frame for before, after in pairwise(frames)]
    usual = statistics.median(steps) if steps else 0
    yield from (step <= _GAP * usual for step in steps)


def _table(face: Face, frames: Sequence[FrameScore], thresholds: Thresholds | None) -> str:
    rows = []
    for frame in frames:
        time = "" if frame.time is None else f"{frame.time:.2f}"
        cells = [f"{frame.frame}", time, f"{frame.score:.3f}"]
        if thresholds:
            where = thresholds.verdict(frame.score)
            cells.append(words.PLACES[where])
        rows.append(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in cells)}</tr>")
    columns = words.COLUMNS if thresholds else words.COLUMNS[:-1]
    head = "".join(f'<th scope="col">{text(title)}</th>' for title in columns)
    caption = words.TABLE_OF.format(track=face.track)
    if len(frames) < len(face.frames):
        thinned = words.THINNED.format(shown=len(frames), frames=len(face.frames))
        caption = f"{caption}. {thinned}"
    return (
        f'<details><summary>{text(words.TABLE)}</summary><div class="wide" tabindex="0" '
        f'role="region" aria-label="{text(caption)}"><table class="scores"><caption>'
        f"{text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table></div></details>"
    )
