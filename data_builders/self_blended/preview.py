"""Draws the families of fakes of one face on a sheet.

python -m data_builders.self_blended.preview --manual_dir FACES --out docs/self_blended.png
"""

from __future__ import annotations

import dataclasses
import io
import pathlib
import sys
from collections.abc import Sequence

import cv2
from PIL import Image, ImageDraw, ImageFont

from data_builders import command_line
from data_builders.errors import UserError
from data_builders.files import write_whole
from data_builders.home import expanded
from data_builders.records import Pair
from data_builders.self_blended import clip, painter_files, recipes
from data_builders.self_blended.builder import SelfBlended

_CELL, _GAP, _MARGIN, _CAPTION, _SIDE = 148, 4, 14, 24, 44
_QUALITIES = "raw", "c23", "c40"


def sheet(folder: pathlib.Path, seed: int = 0, painters: pathlib.Path | None = None) -> Image.Image:
    """Draws the first face of a folder: real, and as a fake of each family.

    Args:
      folder: As the builder takes it. A swap needs a second person in it.
      seed: Of all that is drawn.
      painters: Folder of painters; without it, the family `painted` is not shown.

    Returns:
      The sheet: families from left to right, qualities from top to bottom.

    Raises:
      UserError: The folder holds no face, or the other one no painters.
    """
    files = painter_files.find(painters) if painters else ()
    families = recipes.FAMILIES if files else recipes.UNPAINTED
    pairs = [_made(folder, family, seed, files) for family in families]
    clips = [pairs[0].real, *(pair.fake for pair in pairs)]  # one camera: they have one name
    width = _SIDE + _MARGIN + len(clips) * (_CELL + _GAP)
    height = _CAPTION + len(_QUALITIES) * (_CELL + _GAP) + _MARGIN
    image = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    for column, made in enumerate(clips):
        left = _SIDE + column * (_CELL + _GAP)
        place = left + _CELL // 2, _CAPTION // 2
        draw.text(place, made.method.replace("_", " "), "black", font, anchor="mm")
        for row, quality in enumerate(_QUALITIES):
            top = _CAPTION + row * (_CELL + _GAP)
            crop = made.crops[quality][0]
            shown = cv2.resize(crop, (_CELL, _CELL), interpolation=cv2.INTER_AREA)
            image.paste(Image.fromarray(shown), (left, top))
            draw.text((_SIDE // 2, top + _CELL // 2), quality, "black", font, anchor="mm")
    return image


def _made(
    folder: pathlib.Path, family: str, seed: int, painters: tuple[painter_files.File, ...]
) -> Pair:
    """One pair of the first file."""
    files, *others = SelfBlended.find(folder).videos
    donors = tuple(one.best for one in others if one.identity != files.identity)
    if family == recipes.SWAP and not donors:
        raise UserError(f"--manual_dir: {folder}: a swap needs a second person")
    source = clip.BlendSource(
        dataclasses.replace(files, method=family, label="fake"),
        clip.BlendRecipe(_QUALITIES, frames_per_video=1, seed=seed, painters=painters),
        donors if family == recipes.SWAP else (),
    )
    return clip.read(source)


def _job(argv: Sequence[str]) -> str:
    parser = command_line.Parser(
        prog="python -m data_builders.self_blended.preview",
        description="Draws the families of fakes of one face on a sheet.",
    )
    parser.add_argument("--manual_dir", type=pathlib.Path, required=True, help="folder of faces")
    parser.add_argument("--out", type=pathlib.Path, default="self_blended.png", help="PNG to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is drawn (default: 0)")
    parser.add_argument("--painters", type=pathlib.Path, help="folder of painters (default: none)")
    args = parser.parse_args(argv)
    data = io.BytesIO()
    drawn = sheet(expanded(args.manual_dir).absolute(), args.seed, args.painters)
    # Six bits a channel: three fifths of the size and no visible difference.
    drawn.point(lambda value: round(value / 255 * 63) * 255 // 63).save(data, "PNG", optimize=True)
    write_whole(args.out, data.getvalue())
    return str(args.out)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns its exit status."""
    return command_line.run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
