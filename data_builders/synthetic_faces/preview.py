"""Draws a few tuples of the dataset on a sheet.

python -m data_builders.synthetic_faces.preview --out docs/synthetic_faces.png
"""

from __future__ import annotations

import io
import pathlib
import sys
from collections.abc import Sequence

import cv2
from PIL import Image, ImageDraw, ImageFont

from data_builders import command_line
from data_builders.files import write_whole
from data_builders.records import Clip
from data_builders.synthetic_faces import manipulate
from data_builders.synthetic_faces.builder import REAL, SyntheticFaces, SyntheticVideo

_CELL = 148  # side of a crop on the sheet, pixels
_GAP, _GROUP_GAP = 4, 22
_MARGIN, _HEADER, _CAPTION = 14, 26, 24
_PEOPLE = (10, 14, 15, 1)  # even indices show the first method, odd ones the second
_COLOURS = {"real": (28, 110, 60), "fake": (176, 42, 42)}


def sheet(people: Sequence[int] = _PEOPLE) -> Image.Image:
    """Draws each person's real and fake video, one frame at every quality.

    Args:
      people: Indices of people in the default configuration, two to a row.

    Returns:
      The sheet: qualities from left to right, each fake under the real frame that it is made of.
    """
    first, *_ = pairs = [_pair(person) for person in people]
    qualities = list(first[0].crops)
    group = len(qualities) * (_CELL + _GAP) - _GAP
    block = _HEADER + 2 * (_CELL + _CAPTION)
    rows = -(-len(pairs) // 2)
    width = 2 * _MARGIN + 2 * group + _GROUP_GAP
    image = Image.new("RGB", (width, _MARGIN + rows * (block + _MARGIN)), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    for index, pair in enumerate(pairs):
        left = _MARGIN + index % 2 * (group + _GROUP_GAP)
        top = _MARGIN + index // 2 * (block + _MARGIN)
        for column, quality in enumerate(qualities):
            middle = left + column * (_CELL + _GAP) + _CELL // 2
            draw.text((middle, top + _HEADER // 2), quality, "black", font, anchor="mm")
        for row, clip in enumerate(pair):
            y = top + _HEADER + row * (_CELL + _CAPTION)
            for column, quality in enumerate(qualities):
                size = _CELL, _CELL
                crop = cv2.resize(clip.crops[quality][0], size, interpolation=cv2.INTER_CUBIC)
                image.paste(Image.fromarray(crop), (left + column * (_CELL + _GAP), y))
            label = clip.label if clip.label == "real" else f"{clip.label}: {clip.method}"
            draw.text(
                (left, y + _CELL + _CAPTION // 2 - 2),
                label,
                _COLOURS[clip.label],
                font,
                anchor="lm",
            )
    return image


def _pair(person: int) -> tuple[Clip, Clip]:
    config = SyntheticFaces.BUILDER_CONFIGS[0]
    methods = REAL, manipulate.METHODS[person % len(manipulate.METHODS)]
    real, fake = (
        SyntheticFaces.read_clip(
            SyntheticVideo(config.seed, config.frames, method, person, person + 1)
        )
        for method in methods
    )
    return real, fake


def _job(argv: Sequence[str]) -> str:
    parser = command_line.Parser(
        prog="python -m data_builders.synthetic_faces.preview",
        description="Draws a few tuples of the dataset on a sheet.",
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help="PNG file to write")
    out = parser.parse_args(argv).out
    # Six bits a channel: three fifths of the size and no visible difference. A palette would lose
    # the pattern in the colours that the raw fakes show.
    image = sheet().point(lambda value: round(value / 255 * 63) * 255 // 63)
    content = io.BytesIO()
    image.save(content, format="PNG", optimize=True)
    write_whole(out, content.getvalue())
    return f"{out}: {image.width}x{image.height}, {len(content.getvalue()) / 1e3:.0f} kB"


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the sheet; returns the exit status."""
    return command_line.run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
