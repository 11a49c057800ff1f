"""H.264 in and out."""

import concurrent.futures
import io
import os
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest

from data_builders import h264
from data_builders.errors import UserError


@pytest.fixture(scope="module")
def frames():
    """A textured square that moves: enough for a codec to lose something."""
    rng = np.random.default_rng(0)
    wall = rng.integers(60, 120, (64, 96, 3), dtype=np.uint8)
    thing = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
    result = []
    for i in range(6):
        frame = wall.copy()
        frame[20:44, 5 + 9 * i : 29 + 9 * i] = thing
        result.append(frame)
    return result


def with_index_first(data, path):
    """The same video, its index before its frames, as downloads are served."""
    with (
        av.open(io.BytesIO(data)) as source,
        av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path.read_bytes()


def test_crf_0_loses_nothing(frames):
    decoded = list(h264.decode(h264.encode(frames, crf=0)))
    np.testing.assert_array_equal(decoded, frames)


def test_higher_crf_means_fewer_bytes_and_larger_errors(frames):
    sizes, errors = [], []
    for crf in (0, 10, 23, 40):
        data = h264.encode(frames, crf=crf)
        decoded = list(h264.decode(data))
        assert len(decoded) == len(frames)
        assert decoded[0].shape == frames[0].shape
        assert decoded[0].dtype == np.uint8
        sizes.append(len(data))
        errors.append(np.mean(np.abs(np.subtract(decoded, frames, dtype=np.float32))))
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert errors[0] == 0 < errors[1]


def test_above_crf_0_it_is_the_default_preset(frames):
    """libx264 writes its settings into the stream; "fast" has subme=6, "slow" looks 50 ahead."""
    data = h264.encode(frames, crf=23)
    for setting in (b" crf=23.0 ", b" subme=7 ", b" rc_lookahead=40 ", b" ref=3 ", b" me=hex "):
        assert setting in data


def test_it_is_h264(frames):
    for crf, pixels in ((0, "gbrp"), (23, "yuv420p")):
        with av.open(io.BytesIO(h264.encode(frames, crf=crf, fps=30))) as file:
            stream = file.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.codec_context.pix_fmt == pixels
            assert stream.average_rate == 30
            assert stream.frames == len(frames)


def test_the_same_frames_give_the_same_bytes(frames):
    assert h264.encode(frames, crf=23) == h264.encode(iter(frames), crf=23)


def test_a_path_is_read_as_well(frames, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(h264.encode(frames, crf=0))
    np.testing.assert_array_equal(next(h264.decode(path)), frames[0])
    with pytest.raises(FileNotFoundError):
        list(h264.decode(tmp_path / "b.mp4"))


def test_odd_sizes(frames):
    odd = [frame[:63, :95] for frame in frames]
    np.testing.assert_array_equal(list(h264.decode(h264.encode(odd, crf=0))), odd)
    with pytest.raises(ValueError, match=r"95x63.*even width and height"):
        h264.encode(odd, crf=23)


@pytest.mark.parametrize(
    ("bad", "crf", "message"),
    [
        ([], 23, "at least one frame"),
        ([np.zeros((16, 16), np.uint8)], 23, r"must be \(height, width, 3\)"),
        ([np.zeros((16, 16, 3), np.float32)], 23, "uint8"),
        ([np.zeros((16, 16, 3), np.uint8), np.zeros((16, 32, 3), np.uint8)], 23, r"\(16, 16, 3\)"),
        ([np.zeros((16, 16, 3), np.uint8)], 52, "between 0 and 51"),
    ],
)
def test_what_cannot_be_encoded(bad, crf, message):
    with pytest.raises(ValueError, match=message):
        h264.encode(bad, crf=crf)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("index_first", [False, True])
def test_a_video_cut_short_is_not_taken_for_a_shorter_one(frames, tmp_path, part, index_first):
    data = h264.encode(frames, crf=23)
    path = tmp_path / "cut.mp4"
    if index_first:
        whole, data = data, with_index_first(data, path)
        np.testing.assert_array_equal(list(h264.decode(data)), list(h264.decode(whole)))
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(h264.BrokenVideoError, match=r"cut\.mp4: .*fetch .*again"):
        list(h264.decode(path))
    assert issubclass(h264.BrokenVideoError, UserError)


def test_what_is_no_video(tmp_path):
    path = tmp_path / "page.mp4"
    path.write_text("<html>404 not found</html>")
    with pytest.raises(h264.BrokenVideoError, match=r"page\.mp4"):
        list(h264.decode(path))
    with pytest.raises(h264.BrokenVideoError, match=r"in memory \(4 bytes\)"):
        list(h264.decode(b"none"))


def test_the_same_frames_give_the_same_bytes_every_time():
    """Many times and in several threads: a conversion inside the encoder once did not."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (3, 18, 18, 3), dtype=np.uint8)
    frames = [cv2.resize(frame, (144, 144), interpolation=cv2.INTER_CUBIC) for frame in small]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        encoded = set(pool.map(lambda _: h264.encode(frames, crf=23), range(80)))
    assert len(encoded) == 1


_ENCODE = """
import hashlib
import cv2
import numpy as np
from data_builders import h264
noise = np.random.default_rng(0).normal(0, 40, (12, 144, 144, 3))
frames = [np.clip(cv2.GaussianBlur(n, (0, 0), 2) * 4 + 128, 0, 255).astype(np.uint8) for n in noise]
print(hashlib.sha256(b"".join(h264.encode(frames, crf=crf) for crf in (23, 40))).hexdigest())
"""


def test_the_bytes_do_not_depend_on_what_memory_held_before():
    """glibc fills memory with what the variable says; libx264 on AVX-512 once read it."""
    digests = {
        subprocess.run(
            [sys.executable, "-c", _ENCODE],
            env={**os.environ, "MALLOC_PERTURB_": filling},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for filling in ("0", "85", "170")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("name", ["12:30.mp4", "file:x.mp4", "../12:30/a.mp4"])
def test_a_relative_path_is_no_address(frames, name, tmp_path, monkeypatch):
    """FFmpeg takes what is before a colon for a protocol."""
    folder = tmp_path / "12:30"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with open(name, "wb") as file:
        file.write(h264.encode(frames, crf=23))
    assert h264.probe(name).frames == len(frames)
