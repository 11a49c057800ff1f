"""AVIF pictures: put together from their tiles as viewers show them, and within the bounds."""

import io
import struct

import cv2
import numpy as np
import PIL.Image
import pytest

from data_builders import avif, h264, images, video_file
from data_builders.errors import UserError
from qad_jax.detection import media
from tests.faces import astronaut

pytestmark = pytest.mark.skipif(not avif.SUPPORTED, reason="this Pillow reads no AVIF")
SIDE = 128
SHOWN = cv2.resize(astronaut(), (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_CUBIC)


def box(name, *parts):
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), name) + content


def full(name, version, *parts):
    return box(name, struct.pack(">I", version << 24), *parts)


def coded(part):
    """The box of a picture's settings, and its data, from a file that an encoder writes."""
    file = io.BytesIO()
    PIL.Image.fromarray(part).save(file, "AVIF", quality=95)
    data = file.getvalue()

    def content(name, begin):
        place = data.index(name)
        return data[place + begin : place - 4 + int.from_bytes(data[place - 4 : place], "big")]

    return content(b"av1C", -4), content(b"mdat", 4)


def in_tiles(image, brand=b"avif", codec=b"av01", claimed=SIDE):
    """A picture of two by two tiles, by the words of ISO/IEC 23008-12: pictures 2 to 5 are one."""
    parts = [image[y : y + SIDE, x : x + SIDE] for y in (0, SIDE) for x in (0, SIDE)]
    tiles = [coded(part) for part in parts]
    whole = struct.pack(">HH", 2 * claimed, 2 * claimed)
    contents = [bytes([0, 0, 1, 1]) + whole, *(data for _, data in tiles)]
    kinds = [b"grid", *[codec] * 4]
    named = (
        full(b"infe", 2, struct.pack(">HH", number, 0), kind, b"\0")
        for number, kind in enumerate(kinds, 1)
    )
    sizes = (full(b"ispe", 0, struct.pack(">II", side, side)) for side in (2 * claimed, claimed))
    depth = full(b"pixi", 0, bytes([3, 8, 8, 8]))
    properties = box(b"ipco", *sizes, tiles[0][0], depth)
    owned = [struct.pack(">HBBB", 1, 2, 1, 4)]
    owned += [struct.pack(">HBBBB", number, 3, 2, 0x83, 4) for number in range(2, 6)]
    start = box(b"ftyp", brand, bytes(4), b"avifmif1miaf")

    def meta(begin):
        lengths = [len(content) for content in contents]
        places = [begin + sum(lengths[:number]) for number in range(len(lengths))]
        located = (
            struct.pack(">HHHII", number, 0, 1, place, length)
            for number, (place, length) in enumerate(zip(places, lengths, strict=True), 1)
        )
        return full(
            b"meta",
            0,
            full(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            full(b"pitm", 0, struct.pack(">H", 1)),
            full(b"iloc", 0, b"\x44\0", struct.pack(">H", 5), *located),
            full(b"iinf", 0, struct.pack(">H", 5), *named_boxes),
            full(b"iref", 0, box(b"dimg", struct.pack(">HH4H", 1, 4, 2, 3, 4, 5))),
            box(b"iprp", properties, full(b"ipma", 0, struct.pack(">I", 5), *owned)),
        )

    named_boxes = list(named)
    begin = len(start) + len(meta(0)) + 8
    return start + meta(begin) + box(b"mdat", *contents)


def written(folder, data, name="a.avif"):
    path = folder / name
    path.write_bytes(data)
    return path


def saved(folder, image, **options):
    path = folder / "a.avif"
    PIL.Image.fromarray(image).save(path, quality=95, subsampling="4:4:4", **options)
    return path


def refused(read, path, reason):
    with pytest.raises(UserError, match=reason) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("brand", [b"avif", b"mif1"])
def test_all_tiles_are_seen(tmp_path, brand):
    path = written(tmp_path, in_tiles(SHOWN, brand))
    read = media.read(path, 8)
    assert (read.facts.kind, read.facts.frames, read.facts.codec) == (media.IMAGE, 1, "AVIF")
    assert (read.facts.width, read.facts.height) == (2 * SIDE, 2 * SIDE)
    assert (read.facts.duration, read.facts.rate, read.times) == (None, None, (None,))
    (frame,) = read.frames
    assert np.abs(frame.astype(int) - SHOWN).mean() < 3
    np.testing.assert_array_equal(images.read_image(path), frame)


def test_what_is_transparent_is_white(tmp_path):
    clear = np.zeros(SHOWN.shape[:2], np.uint8)
    clear[:, SIDE:] = 255
    path = saved(tmp_path, np.dstack([SHOWN, clear]))
    (frame,) = media.read(path, 8).frames
    assert frame[:, : SIDE - 8].min() > 250
    assert np.abs(frame[:, SIDE + 8 :].astype(int) - SHOWN[:, SIDE + 8 :]).mean() < 3


def test_it_is_upright(tmp_path):
    """The encoder writes the orientation as boxes of a turn and of a mirror."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, SHOWN[:SIDE], exif=exif.tobytes())
    assert b"irot" in path.read_bytes()
    (frame,) = media.read(path, 8).frames
    assert np.abs(frame.astype(int) - np.rot90(SHOWN[:SIDE], -1)).mean() < 3


@pytest.mark.parametrize("supported", [True, False])
def test_an_animation_stays_one(tmp_path, monkeypatch, supported):
    monkeypatch.setattr(avif, "SUPPORTED", supported)
    others = [PIL.Image.fromarray(np.roll(SHOWN, 40 * i, 1)) for i in (1, 2)]
    path = saved(tmp_path, SHOWN, save_all=True, append_images=others, duration=200)
    read = media.read(path, 8)
    assert (read.facts.kind, read.facts.frames) == (media.VIDEO, 3)
    assert read.times == pytest.approx([0, 0.2, 0.4])
    for number, frame in enumerate(read.frames):
        assert np.abs(frame.astype(int) - np.roll(SHOWN, 40 * number, 1)).mean() < 6


@pytest.mark.parametrize(
    ("brand", "codec"), [(b"isom", b"av01"), (b"mif1", b"hvc1"), (b"avci", b"av01")]
)
def test_tiles_that_nobody_puts_together_are_refused(tmp_path, brand, codec):
    """Whatever brand the file has: FFmpeg would give the first tile."""
    path = written(tmp_path, in_tiles(SHOWN, brand, codec))
    reason = "is a picture, such as HEIC or AVIF, .*; convert it to PNG"
    refused(lambda path: media.read(path, 8), path, reason)
    refused(h264.probe, path, reason)


def test_a_picture_is_refused_where_pillow_does_not_know_it(tmp_path, monkeypatch):
    monkeypatch.setattr(avif, "SUPPORTED", False)
    for data in (in_tiles(SHOWN), saved(tmp_path, SHOWN).read_bytes()):
        path = written(tmp_path, data)
        refused(lambda path: media.read(path, 8), path, "is a picture, .*; convert it to PNG")


def test_a_picture_is_no_video_in_memory(tmp_path):
    with pytest.raises(video_file.BrokenVideoError, match=r"in memory .*is a picture, such as"):
        list(h264.decode(in_tiles(SHOWN)))
    (frame,) = h264.decode(h264.encode([SHOWN], crf=0))  # a video of one frame is none
    np.testing.assert_array_equal(frame, SHOWN)


def test_tiles_that_are_larger_than_they_say_are_refused(tmp_path, monkeypatch):
    """libavif decodes them, and makes them as small as the file says: Pillow shows that."""
    monkeypatch.setitem(video_file.BOUNDS, "max_pixels", str(SIDE**2 - 1))
    path = written(tmp_path, in_tiles(SHOWN, claimed=64))
    with PIL.Image.open(path) as image:
        assert image.convert("RGB").size == (128, 128)
    refused(images.read_image, path, "a part of it is damaged, or has more than 36 megapixels")


def test_many_tiles_are_refused_together(tmp_path, monkeypatch):
    path = written(tmp_path, in_tiles(SHOWN))
    monkeypatch.setattr(avif, "_MOST_PIXELS", 4 * SIDE**2)
    assert images.read_image(path).shape == SHOWN.shape
    monkeypatch.setattr(avif, "_MOST_PIXELS", 4 * SIDE**2 - 1)
    refused(images.read_image, path, "its tiles have more than 65,535 pixels in all")


def test_tables_are_counted_before_pillow_reads_them(tmp_path, monkeypatch):
    still = saved(tmp_path, SHOWN)
    data = still.read_bytes()
    counted = box(b"moov", box(b"trak", full(b"stsz", 0, bytes(4), struct.pack(">I", 2**31))))
    monkeypatch.setattr(PIL.Image, "open", lambda *_, **__: pytest.fail("it was opened"))
    for brand in (b"avif", b"avis"):
        path = written(tmp_path, data.replace(b"ftypavif", b"ftyp" + brand) + counted)
        refused(lambda path: media.read(path, 8), path, "claims an index of 2,147,483,648 frames")
