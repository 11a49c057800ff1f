"""What both kinds of pages are made of. Everything that comes from outside is escaped here."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import PIL.Image

from data_builders.errors import one_line
from qad_jax.detection.conditions import Conditions
from qad_jax.detection.pages import words
from qad_jax.evaluation.report.document import escaped
from qad_jax.weights.model_file import Description

#: The first bytes of a page tell by this that it may be replaced.
GENERATOR = "qad-jax detect"

#: Rules that are not in the report of an evaluation.
STYLE = """
h3 { font-size: 1.05rem; margin: 1.6rem 0 0.3rem; }
h4 { font-size: 0.95rem; margin: 1.1rem 0 0.6rem; }
p { max-width: 46rem; } a { color: inherit; }
a:focus-visible, button:focus-visible, summary:focus-visible, .wide:focus-visible {
  outline: 3px solid var(--mark); outline-offset: 2px; }
.answer { border: 1px solid var(--line); border-left: 6px solid var(--mark); border-radius: 6px;
  padding: 0.2rem 1rem; margin: 1rem 0; background: var(--band); }
.answer h2 { border: 0; margin: 0.5rem 0; font-size: 1.3rem; }
dd, code { overflow-wrap: anywhere; } code { font-size: 0.9em; }
.plot { display: grid; grid-template: 11rem auto 6rem auto / 2rem 1fr; gap: 0.3rem;
  max-width: 46rem; margin: 0; }
.plot svg { width: 100%; height: 11rem; overflow: visible; grid-area: 1 / 2; }
.plot .y, .plot .x { display: flex; justify-content: space-between; color: var(--soft);
  font-size: 0.85rem; font-variant-numeric: tabular-nums; }
.plot .y { grid-area: 1 / 1; flex-direction: column; text-align: end; margin: -0.6rem 0; }
.plot .x { grid-area: 2 / 2; direction: ltr; } .plot figcaption { grid-area: 4 / 2; }
.walk { grid-area: 1 / 2 / 4 / 2; position: relative; margin: 0; border: 0; padding: 0;
  min-width: 0; }
.walk legend, .unseen { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; }
.walk label { display: contents; cursor: crosshair; }
.walk .strip { position: absolute; top: 0; height: 11rem; }
.walk input { position: absolute; inset: 0; width: 100%; height: 11rem; margin: 0; opacity: 0;
  pointer-events: none; }
.walk .ring { display: none; position: absolute; width: 20px; height: 20px; margin: -10px;
  border: 2px solid var(--mark); border-radius: 50%; pointer-events: none; }
.walk .shown { display: none; position: absolute; inset: auto 0 0 0; height: 6rem; gap: 0.8rem;
  align-items: center; background: var(--page); cursor: auto; }
.walk .shown img { width: 6rem; height: 6rem; border-radius: 4px; flex: none; }
.walk :checked ~ .ring, .walk .strip:hover ~ .ring { display: block; }
.walk :checked ~ .shown, .walk .strip:hover ~ .shown { display: flex; }
.walk .strip:hover ~ .shown { z-index: 1; }
.walk :focus-visible ~ .ring { outline: 3px solid var(--mark); outline-offset: 2px; }
.frame { fill: none; stroke: var(--soft); } .band { stroke: none; }
.hatch { stroke: var(--soft); stroke-width: 1; opacity: 0.6; }
.edge { stroke: var(--soft); } .step { stroke: var(--ink); opacity: 0.45; }
.mean { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 7 4; }
.fake { fill: var(--mark); stroke: var(--page); }
.inconclusive { fill: var(--page); stroke: var(--ink); stroke-width: 2; }
.real, .unplaced { fill: var(--ink); stroke: var(--page); }
.crops { gap: 0.8rem; } .heat { width: 8rem; }
.crops figure { width: min(8rem, calc((100% - 1.6rem) / 3)); }
.crops img, .heat img { width: 100%; height: auto; display: block; border-radius: 4px; }
.row { display: flex; flex-wrap: wrap; gap: 0.3rem 2.5rem; max-width: 58rem; }
.row > div { flex: 1 1 17rem; }
.heat { float: left; margin: 0.3rem 1rem 0.3rem 0; } .after { clear: both; }
summary { cursor: pointer; padding: 0.3rem 0; } .scores td, .scores th { text-align: right; }
.files td:nth-child(n), .files th:nth-child(n) { text-align: left; vertical-align: top; }
.files td:first-child { min-width: 10rem; max-width: 24rem; white-space: normal; }
.files td:last-child { white-space: normal; min-width: 14rem; }
.files button { font: inherit; font-weight: bold; color: inherit; background: none; padding: 0.2rem;
  border: 1px solid transparent; border-radius: 4px; cursor: pointer; min-height: 24px; }
.files button:hover { border-color: var(--soft); }
.files [aria-sort] button::after { content: " \\2195"; }
.files [aria-sort=ascending] button::after { content: " \\2191"; }
.files [aria-sort=descending] button::after { content: " \\2193"; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: 0.4rem; }
  .heat { float: none; } }
@media print { html { font-size: 12px; } body { font-size: 1rem; } p { max-width: none; }
  .answer, .face h3 { break-after: avoid; } .walk { display: none; }
  .plot { grid-template-rows: 11rem auto 0 auto; }
  button::after { content: none !important; } .back { display: none; } }
"""


def text(value: object) -> str:
    """Text of anybody: no markup, and no character that turns or hides others."""
    return escaped(one_line(str(value)))


def percent(share: float) -> str:
    """A place or a size in a drawing."""
    return f"{100 * share:.2f}%"


def paragraphs(lines: Iterable[str]) -> list[str]:
    """A paragraph of each line that is not empty."""
    return [f"<p>{text(line)}</p>" for line in lines if line]


def image(pixels: npt.NDArray[np.uint8], alternative: str, quality: int = 88) -> str:
    """An image that is a part of the page.

    Args:
      pixels: `(height, width, 3)` uint8 RGB.
      alternative: What is read out in its place.
      quality: Of the JPEG.
    """
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    data = base64.b64encode(file.getvalue()).decode()
    height, width = pixels.shape[:2]
    return (
        f'<img alt="{text(alternative)}" width="{width}" height="{height}" '
        f'src="data:image/jpeg;base64,{data}">'
    )


def facts(of: Mapping[str, object]) -> str:
    """A list of facts by title."""
    rows = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in of.items())
    return f"<dl>{rows}</dl>"


def command(title: str, words_of: str) -> list[str]:
    """A command that can be copied, under a heading."""
    return [f"<h2>{text(title)}</h2>", f"<pre><code>{text(words_of)}</code></pre>"]


def conditions(model: Description) -> list[str]:
    """What a verdict of a detector is worth, from what its file says of itself."""
    measured = model.measured
    clips, people, methods = (measured.get(name) for name in ("clips", "identities", "methods"))
    known = clips is not None and people is not None
    lines = [
        words.MEASURED.format(clips=clips, people=people) if known else words.MEASURED_UNKNOWN,
        words.QUALITIES.format(qualities=", ".join(model.qualities)),
        words.METHODS.format(methods=", ".join(map(str, methods)))
        if isinstance(methods, Mapping | list) and methods
        else words.METHODS_UNKNOWN,
        *_bounds(Conditions.of(measured)),
        *words.CONDITIONS_ALWAYS,
    ]
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    return [f"<h2>{text(words.CONDITIONS)}</h2>", f"<ul>{items}</ul>"]


def _bounds(measured: Conditions) -> list[str]:
    lines = [words.SIZES.format(smallest=measured.smallest_face)]
    if measured.most_compression < math.inf:
        lines.append(words.MOST_COMPRESSION.format(most=measured.most_compression))
    if measured.least_sharpness > 0:
        lines.append(words.BLUR)
    if measured.largest_turn < math.inf:
        lines.append(words.TURN)
    return lines
