"""What both kinds of pages are made of. Everything that comes from outside is escaped here."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import PIL.Image

from data_builders.errors import one_line, printable
from qad_jax.detection.conditions import Conditions
from qad_jax.detection.pages import words
from qad_jax.evaluation.report.document import escaped
from qad_jax.weights.model_file import Description

#: The first bytes of a page tell by this that it may be replaced.
GENERATOR = "qad-jax detect"


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
    whole = escaped(printable(words_of))  # `text` would drop the middle of a long one
    return [f"<h2>{text(title)}</h2>", f"<pre><code>{whole}</code></pre>"]


def conditions(model: Description) -> list[str]:
    """What a verdict of a detector is worth, from what its file says of itself."""
    measured = model.measured
    clips, people, methods = (measured.get(name) for name in ("clips", "identities", "methods"))
    known = clips is not None and people is not None
    lines = [
        words.MEASURED.format(clips=clips, people=people) if known else words.MEASURED_UNKNOWN,
        *([words.MEASURED_FRAMES] if known and measured.get("frames") == clips else ()),
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
    if measured.largest_tilt < math.inf:
        lines.append(words.TILT.format(most=measured.largest_tilt))
    return lines
