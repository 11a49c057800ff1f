"""Image files as a viewer shows them: computed without the reader, compared in all decoders."""

import io
import struct

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_builders.errors import UserError
from data_builders.images import read_image
from data_builders.png import encode_png
from tests.image_files import ADOBE, P3, PHOTO, SRGB, chunk, png, profile, saved, written

# How each orientation is undone, from the words of the EXIF standard: where row 0 and column 0 are.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


def srgb(light):
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255


def assert_shown(path, expected, *, within=0):
    """The reader has the pixels, and so has every decoder of what is stored."""
    image = read_image(path)
    assert (image.dtype, image.shape) == (np.uint8, np.shape(expected))
    assert np.abs(image - np.asarray(expected, float)).max() <= within + 0.51 * (within > 0)
    data = encode_png(image)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), image)
    for flag in (cv2.IMREAD_UNCHANGED, cv2.IMREAD_COLOR):
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        np.testing.assert_array_equal(decoded[..., ::-1], image)
    feature = tfds.features.Image(shape=(None, None, 3))
    np.testing.assert_array_equal(feature.decode_example_np(data), image)
    names = [data[at + 4 : at + 8] for at in chunk_offsets(data)]
    assert set(names) == {b"IHDR", b"IDAT", b"IEND"}


def chunk_offsets(data):
    at = 8
    while at < len(data):
        yield at
        at += 12 + struct.unpack_from(">I", data, at)[0]


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif"])
def test_orientation(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(kind, {})
    path = saved(tmp_path, PHOTO, f"a.{kind}", exif=exif, **options)
    assert_shown(path, UPRIGHT[orientation](PHOTO), within=4 if kind == "jpg" else 0)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0rubbish!", b"Exif\0\0II*\0\xff\xff\xff\xff", b"", b"\0" * 9]
)
def test_broken_exif_turns_nothing(tmp_path, exif):
    for kind in ("png", "webp"):
        assert_shown(saved(tmp_path, PHOTO, f"a.{kind}", exif=exif, lossless=True), PHOTO)


@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_sixteen_bits_keep_the_upper_eight(tmp_path, colour):
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    deep = np.random.default_rng(0).integers(0, 2**16, (6, 7, channels))
    plain = deep // 256
    rgb = plain[..., :3] if channels > 2 else np.repeat(plain[..., :1], 3, 2)
    if channels in (2, 4):
        alpha = plain[..., -1:] / 255
        rgb = rgb * alpha + 255 * (1 - alpha)
    path = written(tmp_path, png(deep, colour=colour, depth=16))
    assert_shown(path, rgb, within=0 if channels % 2 else 1)


def test_sixteen_bits_of_a_tiff(tmp_path):
    deep = np.random.default_rng(0).integers(0, 2**16, (6, 7), np.uint16)
    grey = np.repeat(deep[..., None] // 256, 3, 2)
    assert_shown(saved(tmp_path, Image.fromarray(deep), "a.tif"), grey)
    inverted = saved(tmp_path, Image.fromarray(65535 - deep), "b.tif", tiffinfo={262: 0})
    assert_shown(inverted, grey)


def test_grey_palette_and_one_bit(tmp_path):
    grey = PHOTO[..., 1]
    assert_shown(saved(tmp_path, grey, "grey.png"), np.repeat(grey[..., None], 3, 2))
    few = PHOTO // 86  # 27 colours
    index = few @ np.array((9, 3, 1))
    palette = np.array([(i // 9, i // 3 % 3, i % 3) for i in range(27)]) * 127
    image = Image.fromarray(index.astype(np.uint8), "L")
    image.putpalette(palette.astype(np.uint8).tobytes())
    for kind in ("png", "gif", "tif", "bmp"):
        assert_shown(saved(tmp_path, image, f"a.{kind}"), few.astype(int) * 127)
    shown = (few.astype(int) * 127).copy()
    shown[index == 13] = 255
    assert_shown(saved(tmp_path, image, "clear.png", transparency=13), shown)
    assert_shown(saved(tmp_path, image, "clear.gif", transparency=13), shown)
    half = (255 * 0.4 + 0.6 * 127 * few.astype(float))[index == 13]
    clear = bytes(153 if i == 13 else 255 for i in range(27))
    image_at = read_image(saved(tmp_path, image, "half.png", transparency=clear))[index == 13]
    assert np.abs(image_at - half).max() < 1
    black = grey > 99
    assert_shown(
        saved(tmp_path, Image.fromarray(black), "one.png"), np.repeat(black[..., None], 3, 2) * 255
    )


@pytest.mark.parametrize("kind", ["png", "webp", "tif"])
def test_what_is_transparent_is_on_white(tmp_path, kind):
    alpha = np.random.default_rng(0).integers(0, 256, PHOTO.shape[:2], np.uint8)
    alpha[0], alpha[1] = 0, 255
    share = alpha[..., None] / 255
    path = saved(tmp_path, np.dstack([PHOTO, alpha]), f"a.{kind}", lossless=True, exact=True)
    assert_shown(path, PHOTO * share + 255 * (1 - share), within=1 if kind != "tif" else 2)
    if kind == "png":
        grey = PHOTO[..., :1]
        path = saved(tmp_path, np.dstack([grey, alpha]), "b.png")
        assert_shown(path, np.repeat(grey, 3, 2) * share + 255 * (1 - share), within=1)


def test_one_transparent_colour(tmp_path):
    pixels = np.array([[(1, 2, 3), (4, 5, 6), (1, 2, 4)]])
    path = written(
        tmp_path, png(pixels, colour=2, before=chunk(b"tRNS", bytes((0, 1, 0, 2, 0, 3))))
    )
    assert_shown(path, [[(255, 255, 255), (4, 5, 6), (1, 2, 4)]])
    deep = png(pixels * 256, colour=2, depth=16, before=chunk(b"tRNS", bytes((1, 0, 2, 0, 3, 0))))
    with pytest.raises(UserError, match="16 bits a channel and one transparent colour"):
        read_image(written(tmp_path, deep))


@pytest.mark.parametrize("kind", ["jpg", "tif"])
def test_inks(tmp_path, kind):
    """Four inks, in JPEG inverted, as Adobe's programs write it."""
    inks = np.dstack([255 - PHOTO, PHOTO[..., 0] // 3])
    image = Image.fromarray(inks, "CMYK")
    path = saved(tmp_path, image, f"a.{kind}", quality=100, subsampling=0)
    expected = (255 - inks[..., :3]) * (1 - inks[..., 3:] / 255)
    assert_shown(path, expected, within=8 if kind == "jpg" else 2)
    if kind == "jpg":
        assert b"Adobe" in path.read_bytes()[:64]


def test_inks_in_a_jpeg_that_are_stored_as_ycck(tmp_path):
    """The same inks, of which three are stored as YCC: Adobe's marker says 2 and not 0."""
    data = saved(tmp_path, Image.new("CMYK", (16, 16)), "a.jpg", quality=100).read_bytes()
    at = data.index(b"Adobe")
    assert data[at + 11] == 0
    # Without inks all stored values are 255. As YCC that is (433, 121, 480), of which the
    # complement, clipped, is stored for the inks, and inverted: it is the light that they leave.
    path = written(tmp_path, data[: at + 11] + b"\x02" + data[at + 12 :], "ycck.jpg")
    np.testing.assert_allclose(read_image(path)[8, 8], (0, 255 - 121, 0), atol=1)
    np.testing.assert_allclose(cv2.imread(str(path))[8, 8], (0, 255 - 121, 0), atol=1)


@pytest.mark.parametrize(
    ("gamma", "changed"), [(0.45455, False), (0.50994, False), (1.0, True), (0.55556, True)]
)
def test_gamma_of_a_png(tmp_path, gamma, changed):
    g = chunk(b"gAMA", struct.pack(">I", round(gamma * 1e5)))
    path = written(tmp_path, png(PHOTO, colour=2, before=g))
    assert_shown(path, srgb((PHOTO / 255) ** (1 / gamma)) if changed else PHOTO, within=changed)
    # An image that says it is sRGB is that, whatever its gamma is for old programs.
    path = written(tmp_path, png(PHOTO, colour=2, before=chunk(b"sRGB", b"\0") + g))
    assert_shown(path, PHOTO)


def points_of(points):
    return chunk(b"cHRM", struct.pack(">8I", *(round(1e5 * v) for point in points for v in point)))


def test_primaries_of_a_png(tmp_path):
    assert_shown(written(tmp_path, png(PHOTO, colour=2, before=points_of(SRGB))), PHOTO)
    for before, name in (
        (points_of(P3), "cHRM"),
        (chunk(b"cICP", bytes((12, 13, 0, 1))), "cICP"),
        (chunk(b"cICP", bytes((1, 16, 0, 1))), "cICP"),
    ):
        with pytest.raises(UserError, match=rf"image.png: .*not those of sRGB \({name}\)"):
            read_image(written(tmp_path, png(PHOTO, colour=2, before=before)))
    of_video = chunk(b"cICP", bytes((1, 1, 0, 1))) + points_of(P3)
    assert_shown(written(tmp_path, png(PHOTO, colour=2, before=of_video)), PHOTO)


@pytest.mark.parametrize(("points", "gamma"), [(P3, 2.2), (ADOBE, 2.19921875), (SRGB, 1.0)])
@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif"])
def test_a_profile_is_converted_to_srgb(tmp_path, points, gamma, kind):
    icc, matrix = profile(points, gamma)
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(kind, {})
    path = saved(tmp_path, PHOTO, f"a.{kind}", icc_profile=icc, **options)
    stored = np.asarray(Image.open(path), float)  # of a JPEG not quite the photograph
    light = (stored / 255) ** (round(gamma * 256) / 256)
    expected = srgb(light @ np.linalg.solve(profile(SRGB, 2.2)[1], matrix).T)
    assert_shown(path, expected, within=2)
    assert np.abs(expected - stored).mean() > 0.4


def test_a_profile_that_is_srgb_changes_nothing(tmp_path):
    from PIL import ImageCms

    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert_shown(saved(tmp_path, PHOTO, "a.png", icc_profile=icc), PHOTO)
    grey = np.repeat(PHOTO[..., :1], 3, 2)
    assert_shown(saved(tmp_path, PHOTO[..., 0], "grey.png", icc_profile=icc), grey)


def test_a_profile_of_greys(tmp_path):
    icc, _ = profile(SRGB, 1.0, space=b"GRAY")
    path = saved(tmp_path, PHOTO[..., 0], "a.png", icc_profile=icc)
    assert_shown(path, np.repeat(srgb(PHOTO[..., :1] / 255), 3, 2), within=1)
    with pytest.raises(UserError, match=r"b\.png: .*ICC profile is broken or not for RGB"):
        read_image(saved(tmp_path, PHOTO, "b.png", icc_profile=icc))
