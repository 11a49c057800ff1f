"""The quantisers of a file are those that its encoder was told."""

import gc
import io
import re

import av
import numpy as np
import PIL.Image
import pytest

from data_builders import clips, h264, video_file
from qad_jax.detection import media
from qad_jax.detection.codec_numbers import MOST_FRAMES, CodecNumbers, codec_numbers
from tests.faces import astronaut

# The same quantiser for all kinds of frames.
CONSTANT = "ipratio=1:pbratio=1"


def moving(count=8, size=160):
    """Frames of a camera that moves over a photograph."""
    image = astronaut()
    return [np.ascontiguousarray(image[i % 40 :, i % 40 :][:size, :size]) for i in range(count)]


def encoded(frames, codec, options, *, pixels="yuv420p", container="mp4"):
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=25)
        stream.pix_fmt, stream.options = pixels, {"threads": "1", **options}
        stream.height, stream.width = frames[0].shape[:2]
        for frame in frames:
            image = av.VideoFrame.from_ndarray(frame, format="rgb24")
            out.mux(stream.encode(image.reformat(format=pixels)))
        out.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("quantiser", [12, 30, 44])
def test_h264(quantiser):
    options = {"qp": str(quantiser), "x264-params": CONSTANT}
    numbers = codec_numbers(encoded(moving(), "libx264", options))
    assert numbers == CodecNumbers("h264", quantiser, quantiser, 8)


def test_key_frames_and_others_are_told_apart():
    options = {"qp": "30", "x264-params": "ipratio=2:bframes=0"}  # a factor 2 is 6 QP
    numbers = codec_numbers(encoded(moving(), "libx264", options))
    assert (numbers.key_quantiser, numbers.quantiser) == (24, 30)


def test_a_file_of_key_frames_alone():
    options = {"qp": "30", "g": "1", "x264-params": CONSTANT}
    numbers = codec_numbers(encoded(moving(), "libx264", options))
    assert (numbers.key_quantiser, numbers.quantiser) == (30, 30)


def test_ten_bits_have_the_scale_of_eight():
    """x264 counts the QP of 10 bits from -12: its 42 has the step, on 8 bits, of 30."""
    options = {"qp": "42", "x264-params": CONSTANT}
    numbers = codec_numbers(encoded(moving(), "libx264", options, pixels="yuv420p10le"))
    assert numbers.quantiser == 30


@pytest.mark.parametrize(("codec", "container"), [("mpeg4", "mp4"), ("mpeg2video", "mpegts")])
def test_mpeg(codec, container):
    """MPEG's scale 10 is a step of 20, and 0.625 * 2^(QP / 6) = 20 for QP 30."""
    options = {"qmin": "10", "qmax": "10"}
    numbers = codec_numbers(encoded(moving(), codec, options, container=container))
    assert (numbers.codec, numbers.quantiser) == (codec, pytest.approx(30))


def test_jpeg(tmp_path):
    path = tmp_path / "a.jpg"
    PIL.Image.fromarray(astronaut()).save(path, qtables=[[20] * 64, [99] * 64])
    assert codec_numbers(path) == CodecNumbers("jpeg", pytest.approx(30), pytest.approx(30), 1)


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "bmp", "gif", "avif"])
def test_other_images_tell_nothing(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    PIL.Image.fromarray(astronaut()[:64, :64]).save(path)
    assert codec_numbers(path) == CodecNumbers(suffix, frames=1)


def test_other_codecs_tell_nothing():
    numbers = codec_numbers(encoded(moving(), "libvpx-vp9", {"deadline": "realtime"}))
    assert (numbers.codec, numbers.quantiser, numbers.frames) == ("vp9", None, 8)


def test_a_long_video_is_looked_at_in_places():
    """A title on black, of which no block is encoded, is not all that is seen."""
    black = [np.zeros((64, 64, 3), np.uint8)] * 60
    options = {"crf": "35", "g": "40"}
    title = codec_numbers(encoded(black, "libx264", options))
    whole = codec_numbers(encoded(black + moving(140, 64), "libx264", options))
    assert title.frames <= MOST_FRAMES
    assert whole.frames == MOST_FRAMES
    assert whole.quantiser > title.quantiser + 3


def test_each_frame_counts_once():
    """All places of a video of one key frame begin at it."""
    numbers = codec_numbers(encoded(moving(40, 64), "libx264", {"crf": "30"}))
    assert numbers.frames == 40


def test_damage_behind_the_start_ends_nothing():
    data = bytearray(encoded(moving(60), "libx264", {"crf": "20", "g": "10", "preset": "fast"}))
    whole = codec_numbers(bytes(data))
    place = data.index(b"mdat")
    data[place + 15_000 : place + 25_000] = bytes(10_000)
    damaged = codec_numbers(bytes(data))
    assert damaged.frames < whole.frames
    assert damaged.quantiser == pytest.approx(whole.quantiser, abs=1)


@pytest.mark.parametrize("data", [b"\xff\xd8\xff", b"\xff\xd8\xff\xdb\x00\x43\x00" + bytes(64)])
def test_a_broken_jpeg_tells_nothing(data):
    assert codec_numbers(data).quantiser is None


def test_what_is_no_video_is_refused_by_name(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video" * 99)
    with pytest.raises(video_file.BrokenVideoError, match=re.escape(str(path))):
        codec_numbers(path)
    with pytest.raises(FileNotFoundError):
        codec_numbers(tmp_path / "missing.mp4")


def test_no_loss():
    numbers = codec_numbers(h264.encode(moving(), crf=0))
    assert numbers.quantiser == pytest.approx(0, abs=1)


def test_a_file_that_is_judged_tells_its_quantisers_while_it_is_decoded(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(
        encoded(moving(40, 64), "libx264", {"qp": "30", "x264-params": "ipratio=2:bframes=0"})
    )
    numbers = media.read(path, 4).numbers
    assert (numbers.codec, numbers.key_quantiser, numbers.quantiser) == ("h264", 24, 30)
    # Nothing is decoded after the last chosen frame.
    assert clips.spread(40, 4)[-1] < numbers.frames <= 40


def test_frames_count_once_where_the_index_says_more(tmp_path, monkeypatch):
    """Such a file is read twice, and the first time to its end."""
    path = tmp_path / "a.mp4"
    path.write_bytes(encoded(moving(40, 64), "libx264", {"crf": "30"}))
    once, probe = media.read(path, 4).numbers, h264.probe
    monkeypatch.setattr(h264, "probe", lambda *given: probe(*given)._replace(frames=99))
    assert media.read(path, 4).numbers == once


def test_a_decoded_frame_is_freed_at_once(tmp_path):
    """A ring of references would keep each, until the collector of garbage comes."""
    path = tmp_path / "a.mp4"
    path.write_bytes(encoded(moving(40, 64), "libx264", {"qp": "30"}))

    def held():
        return sum(isinstance(one, av.VideoFrame) for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = held()
        assert media.read(path, 4).numbers.quantiser is not None  # each frame was asked
        assert held() == before
    finally:
        gc.enable()
