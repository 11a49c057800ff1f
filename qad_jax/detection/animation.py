"""Animated images: GIF, WebP and APNG, in which a frame may need all before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from data_builders import clips
from data_builders.errors import UserError
from data_builders.shown import MOST_PIXELS

Image = npt.NDArray[np.uint8]

#: Pillow's names of the formats.
FORMATS = ("PNG", "GIF", "WEBP")
# Pixels of all frames, which are decoded, and of those that are kept, which take 1.5 GB.
_MOST_DECODED, _MOST_KEPT = 10**9, 5 * 10**8


def count(image: PIL.Image.Image) -> int:
    """The number of frames of an image; the first time, a GIF file is gone through for it.

    The default image of an APNG file counts only where it is a part of the animation.
    """
    return int(getattr(image, "n_frames", 1)) - _before(image)


def _before(image: PIL.Image.Image) -> int:
    """How many images Pillow counts as frames that come before the animation and are not shown.

    A program that knows APNG shows the animation, and any other shows the default image.
    """
    return int(bool(getattr(image, "default_image", False)))


def frames_of(
    path: Path, image: PIL.Image.Image, wanted: int, check: Callable[[], None]
) -> tuple[list[Image], list[int], list[float]]:
    """Decodes some of the frames.

    Args:
      path: The file, for messages.
      image: The animation, just opened.
      wanted: Number of frames to take, spread evenly.
      check: Is called before each frame; what it raises ends the reading.

    Returns:
      The frames, `(height, width, 3)` uint8 RGB each and of one size; the index of each among
      those that are shown; and the time of each in seconds.

    Raises:
      UserError: It cannot be decoded, or has too many pixels.
    """
    size = image.size
    taken: list[Image] = []
    times: list[float] = []
    at = 0.0
    try:
        total, before = count(image), _before(image)
        _check_pixels(path, size, total, min(total, wanted))
        indices = clips.spread(total, wanted)
        if before:
            check()
            _clear(image)
        for index in range(indices[-1] + 1):
            check()
            image.seek(index + before)
            if image.size != size:  # Pillow makes room for a frame that reaches beyond
                raise UserError(
                    f"{path}: frame {index} reaches beyond the {size[0]}x{size[1]} pixels of the "
                    "animation; save it anew"
                )
            image.load()  # before that, a WebP file does not tell how long the frame is shown
            if len(taken) < len(indices) and index == indices[len(taken)]:
                taken.append(_on_white(image))
                times.append(at)
            at += float(image.info.get("duration") or 100) / 1000
    except (UserError, MemoryError):
        raise
    except Exception as error:  # of any decoder, on bytes of a stranger
        raise UserError(f"{path}: an animation that cannot be decoded; get it again") from error
    return taken, indices, times


def _clear(image: PIL.Image.Image) -> None:
    """Removes the default image, on which Pillow would draw the first frame of the animation.

    What the first frame leaves out is transparent, so it is white here.
    """
    image.load()
    if image.mode == "P":
        white = PIL.Image.new("RGB", image.size, "white")
        empty = white.quantize(palette=image, dither=PIL.Image.Dither.NONE)
    else:
        empty = PIL.Image.new("RGBA", image.size, (255, 255, 255, 0)).convert(image.mode)
    image.paste(empty)


def _check_pixels(path: Path, size: tuple[int, int], total: int, kept: int) -> None:
    """Refuses an animation of too many pixels, before they are decoded."""
    for frames, most, of in (
        (1, MOST_PIXELS, "a frame"),
        (total, _MOST_DECODED, f"its {total:,} frames together"),
        (kept, _MOST_KEPT, f"the {kept:,} frames that are looked at together"),
    ):
        if size[0] * size[1] * frames > most:
            raise UserError(
                f"{path}: an animation of {size[0]}x{size[1]} pixels, too large: {of} may have "
                f"{most:,}; make it smaller, or cut it"
            )


def _on_white(image: PIL.Image.Image) -> Image:
    rgba = image.convert("RGBA")
    white = PIL.Image.new("RGBA", rgba.size, "white")
    return np.array(PIL.Image.alpha_composite(white, rgba).convert("RGB"), np.uint8)
