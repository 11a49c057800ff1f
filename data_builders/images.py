"""Image files that people have: read as a viewer shows them, stored so that all decoders agree.

What is read here is upright, 8 bits a channel and sRGB. It is stored as PNG without anything that
one decoder obeys and another does not: no orientation, no gamma, no profile, no transparency.
"""

from __future__ import annotations

import functools
import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from PIL import ImageCms

from data_builders import avif, shown
from data_builders.errors import UserError
from data_builders.files import kind_of_no_file
from data_builders.png import Image

#: Bounds of what is opened, for files from strangers. An image within them takes less than 2 GB.
MAX_MEGAPIXELS, MAX_SIDE, MAX_FILE_BYTES = 100, 65_535, 2**30
# Pillow takes a time for the comment of a GIF that grows as its square: two minutes for this much.
_MAX_GIF_BYTES = 2**25

_STRIP = 256  # rows
_MAX_SCANS = 100  # of a JPEG; encoders make some ten
_MAX_CHUNKS = 10**6  # of a PNG file; 100 megapixels in pieces of 8 kB are 40 000
#: Each of these is decoded by a library; Pillow would also run other programs for some formats.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", *([avif.FORMAT] if avif.SUPPORTED else []))
# AV1 has up to 12 bits a channel, so it takes more memory than others, as a frame of a video does.
_MOST_PIXELS = {avif.FORMAT: shown.MOST_PIXELS}
_LAST = "BMP, GIF or AVIF" if avif.SUPPORTED else "BMP or GIF"
_BACKGROUND = (255, 255, 255)
_ORIENTATION = 0x0112  # the tag in EXIF; what undoes each of its values
_UNDO = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
# Screens and video have gammas from 1.96 to 2.4, and nobody corrects one to another. The primaries
# of SD video differ from those of sRGB by up to 0.02.
_PLAIN_GAMMA = 1 / 2.6, 1 / 1.9
_SRGB_POINTS = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_SAME_POINT = 0.025
# ITU-T H.273: primaries of HD and SD video; their transfer functions and that of sRGB.
_PLAIN_CICP = {1, 2, 5, 6, 7}, {1, 2, 4, 5, 6, 13, 14, 15}
# Profiles of sRGB itself differ by so many levels, from rounding. Such images stay as they are.
_ROUNDING = 2


def read_image(path: Path) -> Image:
    """Reads an image file as a viewer shows it.

    EXIF's orientation is obeyed. Colours become sRGB by the ICC profile, or by the gamma of a PNG
    file. What is transparent is laid on white. Of 16 bits a channel the upper 8 are kept.

    Args:
      path: A PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF file.

    Returns:
      `(height, width, 3)` uint8, RGB.

    Raises:
      UserError: The file cannot be read, or not without a guess. The message names it.
    """
    try:
        if (kind := kind_of_no_file(path)) is not None:
            raise ValueError(f"{kind} and no file")
        check_size(path)
        with warnings.catch_warnings():
            # Pillow warns of odd metadata; what matters of it is looked at below.
            warnings.simplefilter("ignore")
            return _read(path)
    except PIL.UnidentifiedImageError as error:
        reason = f"not a PNG, JPEG, WebP, TIFF, {_LAST} file, or cut short"
        raise UserError(_refusal(path, reason)) from error
    except PIL.Image.DecompressionBombError as error:
        raise UserError(_refusal(path, _too_large(MAX_MEGAPIXELS * 10**6))) from error
    except OSError as error:
        raise UserError(_refusal(path, error.strerror or str(error))) from error
    except MemoryError:  # of the machine and not of the image
        raise
    except Exception as error:  # broken metadata make decoders fail in many ways
        raise UserError(_refusal(path, str(error) or type(error).__name__)) from error


def check_size(path: Path) -> None:
    """Raises a `ValueError` where a file is larger than an image of its format may be.

    Of an AVIF file the tables count, too: Pillow reads them when it opens the file.
    """
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES / 2**30:g} GiB")
    with path.open("rb") as file:
        head = file.read(avif.HEADER)
    if size > _MAX_GIF_BYTES and head.startswith(b"GIF8"):
        raise ValueError(f"a GIF larger than {_MAX_GIF_BYTES / 2**20:g} MiB")
    if avif.is_one(head):
        avif.check_tables(path)


def _refusal(path: Path, reason: str) -> str:
    one_line = " ".join(reason.split())
    return f"{path}: not a readable image ({one_line}); replace it, or take it out of the list"


def _too_large(pixels: int) -> str:
    return f"larger than {pixels / 10**6:g} megapixels or than {MAX_SIDE} pixels a side"


def _read(path: Path) -> Image:
    with PIL.Image.open(path, formats=FORMATS) as image:
        _check_header(image)
        if image.format in ("JPEG", "MPO"):
            _check_scans(path)
        if image.format == avif.FORMAT:
            avif.check_frames(path)
        chunks = _png_chunks(path) if image.format == "PNG" else {}
        profile, gamma = _colours(image.info, chunks)
        image.load()  # a truncated file fails here and not in the middle of training
        upright = _upright(image)
        alpha = _alpha(upright, deep=chunks.get(b"IHDR", b"")[8:9] == b"\x10")
        colours = _eight_bits(upright, getattr(image, "tag_v2", {}))
        rgb = _by_gamma(colours, gamma) if gamma else _by_profile(colours, profile)
        if alpha is not None:
            rgb = PIL.Image.composite(rgb, PIL.Image.new("RGB", rgb.size, _BACKGROUND), alpha)
        return _array(rgb)


def _array(rgb: PIL.Image.Image) -> Image:
    """The pixels, copied in strips: as a whole, Pillow would hold them three times."""
    pixels = np.empty((rgb.height, rgb.width, 3), np.uint8)
    for top in range(0, rgb.height, _STRIP):
        bottom = min(rgb.height, top + _STRIP)
        pixels[top:bottom] = np.asarray(rgb.crop((0, top, rgb.width, bottom)))
    return pixels


def _rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """The image in RGB; Pillow would copy one that is."""
    return image if image.mode == "RGB" else image.convert("RGB")


def _check_header(image: PIL.Image.Image) -> None:
    """Refuses what is too large or has several frames, before pixels are decoded."""
    tags = getattr(image, "tag_v2", {})
    tile = tags.get(322, 0) * tags.get(323, 0)  # a tile of a TIFF can be larger than the image
    pixels = max(image.width * image.height, tile)
    most = _MOST_PIXELS.get(str(image.format), MAX_MEGAPIXELS * 10**6)
    if pixels > most or max(image.size) > MAX_SIDE:
        raise ValueError(f"{image.width}x{image.height} px: {_too_large(most)}")
    # The first image of a camera's MPO file is the photograph, the others are made from it.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise ValueError("it has several frames; save the one that is meant as a file of its own")


def _check_scans(path: Path) -> None:
    """Refuses a progressive JPEG that takes hours: all of it is decoded for each of its scans."""
    scans = path.read_bytes().count(b"\xff\xda")
    if scans > _MAX_SCANS:
        raise ValueError(f"{scans} scans, more than {_MAX_SCANS}")


def _png_chunks(path: Path) -> dict[bytes, bytes]:
    """Reads what Pillow does not tell: the header of a PNG file, and its code points of colours.

    Raises:
      ValueError: A chunk is longer than the file: Pillow would make room for all of it.
    """
    chunks: dict[bytes, bytes] = {}
    length = path.stat().st_size
    with path.open("rb") as file:
        file.seek(8)
        for _ in range(_MAX_CHUNKS):
            head = file.read(8)
            if len(head) < 8 or head[4:] == b"IEND":
                return chunks
            size, name = struct.unpack(">I4s", head)
            if file.tell() + size > length:
                raise ValueError("it is cut short")
            if name in (b"IHDR", b"cICP"):
                chunks[name] = file.read(min(size, 13))
                size -= len(chunks[name])
            file.seek(size + 4, io.SEEK_CUR)
    raise ValueError(f"more than {_MAX_CHUNKS} chunks")


def _colours(info: dict[Any, Any], chunks: dict[bytes, bytes]) -> tuple[bytes | None, float]:
    """Finds what says how colours are meant: an ICC profile, or a gamma; else it is sRGB.

    The order is that of the PNG specification. Other formats have only profiles.

    Raises:
      ValueError: What is said is broken, or means colours that are not converted here.
    """
    if b"cICP" in chunks:
        if not all(
            code in plain for code, plain in zip(chunks[b"cICP"], _PLAIN_CICP, strict=False)
        ):
            raise ValueError("its colours are not those of sRGB (cICP); convert it to sRGB")
        return None, 0
    if info.get("icc_profile", b""):
        return info["icc_profile"], 0
    if info.get("icc_profile", b"") is None:
        raise ValueError("its ICC profile is broken; remove the profile or convert it to sRGB")
    if "srgb" in info:
        return None, 0
    points = info.get("chromaticity", _SRGB_POINTS)
    if max(abs(a - b) for a, b in zip(points, _SRGB_POINTS, strict=True)) > _SAME_POINT:
        raise ValueError("its colours are not those of sRGB (cHRM); convert it to sRGB")
    gamma = float(info.get("gamma", 0))
    return None, 0 if _PLAIN_GAMMA[0] <= gamma <= _PLAIN_GAMMA[1] else gamma


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    try:
        undo = _UNDO.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF fails in many ways, and viewers then show what is stored
        undo = None
    return image if undo is None else image.transpose(undo)


def _alpha(image: PIL.Image.Image, *, deep: bool) -> PIL.Image.Image | None:
    """How opaque each pixel is; None where all of the image is."""
    if not image.has_transparency_data:
        return None
    if deep and "transparency" in image.info:
        raise ValueError("16 bits a channel and one transparent colour; save it with 8 bits")
    return image.convert("RGBA").getchannel("A")


def _eight_bits(image: PIL.Image.Image, tags: Any) -> PIL.Image.Image:
    """The colours without transparency: mode L, CMYK or RGB."""
    if image.mode.startswith("I;16"):
        bits = tags.get(258, (16,))[0]
        values = np.asarray(image)
        values = values if tags.get(262, 1) else 2**bits - 1 - values  # a TIFF whose white is 0
        return PIL.Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode}: only 8 and 16 bits a channel are read")
    if image.mode in ("1", "LA"):
        return image.convert("L")
    return image if image.mode in ("L", "CMYK") else _rgb(image)


def _by_gamma(image: PIL.Image.Image, gamma: float) -> PIL.Image.Image:
    light = np.linspace(0, 1, 256) ** (1 / gamma)
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return image.convert("RGB").point(np.rint(255 * shown).astype(int).tolist() * 3)


def _by_profile(image: PIL.Image.Image, profile: bytes | None) -> PIL.Image.Image:
    if profile is None:
        return _rgb(image)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "L" and source.profile.xcolor_space.strip() != "GRAY":
            # Programs that turn a photograph grey leave its profile in the file.
            image = image.convert("RGB")
        transform = _to_srgb(profile, image.mode)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise ValueError(
            f"its ICC profile is broken or not for {image.mode}; remove the profile or convert "
            "the image to sRGB"
        ) from error
    return transform.apply(image) if transform else _rgb(image)


@functools.lru_cache(maxsize=8)  # the images of a dataset come from few cameras
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Makes what turns colours of a profile into sRGB; None where they are that."""
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.PERCEPTUAL,
        # Of greys it would make a table of 33 levels, which is far off in the shadows.
        ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE,
    )
    if mode == "RGB":
        levels = np.linspace(0, 255, 18).astype(np.uint8)
        probe = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(18, -1, 3)
        shown = transform.apply(PIL.Image.fromarray(probe))
        if np.abs(np.asarray(shown).astype(int) - probe).max() <= _ROUNDING:
            return None
    return transform
