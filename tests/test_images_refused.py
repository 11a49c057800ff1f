"""Image files that are refused: in one line that names them, and within the bounds."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from data_builders import images
from data_builders.errors import UserError
from data_builders.images import read_image
from tests.image_files import P3, PHOTO, chunk, png, profile, saved, written


@pytest.mark.parametrize("kind", ["png", "jpg", "tif"])
def test_a_broken_profile_is_refused(tmp_path, kind):
    icc, _ = profile(P3, 2.2)
    for broken in (b"rubbish", icc[:200], icc[:128] + b"\xff" * 300):
        with pytest.raises(
            UserError, match=rf"a\.{kind}: .*ICC profile is broken.*remove the"
        ) as e:
            read_image(saved(tmp_path, PHOTO, f"a.{kind}", icc_profile=broken))
        assert "\n" not in str(e.value)
    path = written(tmp_path, png(PHOTO, colour=2, before=chunk(b"iCCP", b"name\0\0rubbish")))
    with pytest.raises(UserError, match="ICC profile is broken"):
        read_image(path)


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tif", "avif"])
def test_several_frames_are_refused(tmp_path, kind):
    frames = [Image.fromarray(PHOTO), Image.fromarray(255 - PHOTO)]
    path = saved(tmp_path, frames[0], f"a.{kind}", save_all=True, append_images=frames[1:])
    with pytest.raises(
        UserError, match=rf"a\.{kind}: not a readable image \(it has several frames"
    ):
        read_image(path)
    still = saved(tmp_path, frames[0], f"b.{kind}", save_all=True, lossless=True)
    assert np.abs(read_image(still) - PHOTO.astype(int)).mean() < 4


def test_the_photograph_in_a_file_of_several_is_taken(tmp_path):
    """Cameras put images for depth and brightness behind the photograph."""
    behind = [Image.fromarray(255 - PHOTO)]
    path = saved(tmp_path, PHOTO, "a.jpg", format="MPO", save_all=True, append_images=behind)
    assert np.abs(read_image(path) - PHOTO.astype(int)).mean() < 8


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif", "bmp", "gif", "avif"])
def test_cut_files_are_refused(tmp_path, kind):
    data = saved(tmp_path, PHOTO, f"a.{kind}").read_bytes()
    for size in (0, 7, 40, len(data) // 2, len(data) * 9 // 10):
        with pytest.raises(UserError, match=rf"cut\.{kind}: not a readable image") as error:
            read_image(written(tmp_path, data[:size], f"cut.{kind}"))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP", b"iTXt"])
def test_metadata_that_inflate_are_refused(tmp_path, name):
    zeros = zlib.compress(bytes(64 * 2**20), 9)
    start = b"name\0\1\0\0\0" if name == b"iTXt" else b"name\0\0"
    path = written(tmp_path, png(PHOTO, colour=2, before=chunk(name, start + zeros)))
    assert_refused_without_memory(path)


def _fail(image):
    pytest.fail("pixels are decoded")


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "bmp", "gif", "webp", "avif"])
def test_size_is_refused_by_the_header(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", _fail)
    side = {"webp": 16_383, "avif": 6001}.get(kind, 60_000)
    path = saved(tmp_path, np.zeros((8, 8, 3), np.uint8), f"a.{kind}", lossless=True)
    data = bytearray(path.read_bytes())
    if kind == "png":
        data = bytearray(png(np.zeros((1, 1, 3)), colour=2, size=(side, side)))
    elif kind == "jpg":
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, side, side)
    elif kind == "tif":
        for tag in (256, 257):
            struct.pack_into("<HII", data, data.index(struct.pack("<HH", tag, 4)) + 2, 4, 1, side)
    elif kind == "bmp":
        struct.pack_into("<ii", data, 18, side, side)
    elif kind == "gif":
        struct.pack_into("<HH", data, 6, side, side)
    elif kind == "avif":
        struct.pack_into(">II", data, data.index(b"ispe") + 8, side, side)
    else:
        struct.pack_into("<I", data, data.index(b"VP8L") + 9, side | side << 14)
    most = "36 megapixels" if kind == "avif" else "100 megapixels"
    assert_refused_without_memory(written(tmp_path, bytes(data), f"b.{kind}"), most)


def test_tiles_are_refused_by_the_header(tmp_path, monkeypatch):
    """A TIFF file whose tiles are larger than its image: one of them would be decoded whole."""
    monkeypatch.setattr(ImageFile.ImageFile, "load", _fail)
    tags = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 322: 60_000, 323: 60_000, 324: 8, 325: 64}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    path = written(tmp_path, data, "a.tif")
    with Image.open(path) as image:
        assert image.size == (8, 8)
    assert_refused_without_memory(path, "100 megapixels")


def assert_refused_without_memory(path, reason="not a readable image"):
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=rf"{path.name}: .*{reason}"):
            read_image(path)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_the_bound_itself(tmp_path):
    wide = written(tmp_path, png(np.zeros((1, 1, 3)), colour=2, size=(1, 65_536)))
    with pytest.raises(UserError, match="65536x1 px: larger than 100 megapixels or than 65535"):
        read_image(wide)


def test_a_file_that_is_too_large_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 2**10)
    with pytest.raises(UserError, match=r"image\.png: .*larger than .* GiB"):
        read_image(written(tmp_path, bytes(2**11)))


def test_a_large_gif_is_not_opened(tmp_path, monkeypatch):
    """Pillow adds up the comment of a GIF piece by piece, and each time from its beginning."""
    monkeypatch.setattr(images, "_MAX_GIF_BYTES", 2**10)
    gif, pixels = tmp_path / "small.gif", Image.new("L", (8, 8))
    pixels.save(gif, comment=b"a" * 200)
    assert read_image(gif).shape == (8, 8, 3)
    pixels.save(gif, comment=b"a" * 2000)
    with pytest.raises(UserError, match=r"small\.gif: .*a GIF larger than .* MiB"):
        read_image(gif)
    (tmp_path / "small.png").write_bytes(gif.read_bytes())  # whatever its name is
    with pytest.raises(UserError, match="a GIF larger than"):
        read_image(tmp_path / "small.png")


def test_other_formats_are_refused_without_running_a_program(tmp_path):
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    for data in (script, b"no image", b""):
        with pytest.raises(
            UserError, match=r"a\.eps: .*not a PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF"
        ):
            read_image(written(tmp_path, data, "a.eps"))
    with pytest.raises(UserError, match=r"none\.png: not a readable image \(No such file"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_other_depths_are_refused(tmp_path, dtype):
    with pytest.raises(UserError, match=r"a\.tif: .*only 8 and 16 bits a channel are read"):
        read_image(saved(tmp_path, np.zeros((4, 4), dtype), "a.tif"))
