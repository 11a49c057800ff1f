"""Files that were made to take memory or time, or to reach other files: each is one line."""

import io
import json
import struct
import time
import tracemalloc
import zipfile

import av
import numpy as np
import pytest

from data_builders import faces, files, h264, mp4_claims, staging
from data_builders.errors import UserError, one_line
from qad_jax.evaluation import scores
from tests import fuzz_inputs, fuzz_targets

BOX = struct.Struct(">L4s")


def refused(read, path, reason, *, memory=50e6):
    """Whether a file is refused in one line that names it, without much memory of Python."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(UserError, match=reason) as error:
            read(path)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - start < fuzz_targets.SECONDS
    assert most < memory
    assert str(path) in str(error.value)
    assert str(error.value).isprintable()


# Videos. What players read of a file is written behind the names of its boxes.


@pytest.fixture(scope="module")
def whole():
    return h264.encode(fuzz_inputs.frames(), crf=30)


def with_numbers(data, box, *numbers, at):
    """Overwrites 32-bit numbers behind the last box of a name."""
    place = data.rindex(box) + 4 + at
    packed = struct.pack(f">{len(numbers)}L", *numbers)
    return data[:place] + packed + data[place + len(packed) :]


def written(folder, data, name="a.mp4"):
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("at_root", [False, True])
def test_a_table_that_counts_more_frames_than_anyone_has(whole, tmp_path, at_root):
    """All of one size, so that none needs a byte in the file."""
    data = with_numbers(whole, b"stsz", 1, 10**9, at=4)
    data = with_numbers(data, b"stsc", 10**9, at=12)
    if at_root:  # FFmpeg looks for an index in what is free, too
        data = data.replace(b"moov", b"free")
    for read in (h264.probe, lambda path: list(h264.decode(path))):
        refused(read, written(tmp_path, data), "claims an index of 1,000,000,000 frames: .*fetch")


def test_fragments_and_edits_count_too(tmp_path):
    def box(name, content):
        return BOX.pack(8 + len(content), name) + content

    start = box(b"ftyp", b"isom" + bytes(4))
    runs = box(b"traf", box(b"trun", struct.pack(">3L", 0, 1_500_000, 0)))
    sizes = box(b"stsz", struct.pack(">3L", 0, 5000, 5000))
    edits = box(b"elst", struct.pack(">2L", 0, 1000))
    for content, claim in (
        (box(b"moof", runs) * 2, "an index of 3,000,000 frames"),
        (box(b"moov", box(b"trak", sizes + edits)), "an index of 5,000,000 frames"),
        (box(b"moov", box(b"cmov", b"")), "a compressed index"),
    ):
        assert mp4_claims.excess(io.BytesIO(start + content)) == claim
        refused(h264.probe, written(tmp_path, start + content), f"claims {claim}")
    assert mp4_claims.excess(io.BytesIO(start + box(b"moof", runs))) is None


@pytest.mark.parametrize("size", [2**40, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_box_of_any_size(whole, tmp_path, size):
    start = BOX.pack(1, b"free") + struct.pack(">Q", size)
    assert mp4_claims.excess(io.BytesIO(start)) is None
    refused(h264.probe, written(tmp_path, start + whole), "fetch it again")


def test_an_hour_of_uncompressed_sound_is_no_harm(tmp_path):
    """Its samples are some bytes each: 48 000 a second."""
    path = tmp_path / "a.mov"
    with av.open(str(path), "w", format="mov") as file:
        stream = file.add_stream("pcm_s16le", rate=48000, layout="mono")
        for _ in range(45):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.int16), "s16", "mono")
            sound.sample_rate = 48000
            file.mux(stream.encode(sound))
        file.mux(stream.encode(None))
    data = path.read_bytes()
    assert mp4_claims.excess(io.BytesIO(data)) is None
    place = data.index(b"stsz")
    assert struct.unpack_from(">L", data, place + 12)[0] == 45 * 48000 > mp4_claims.MOST_SAMPLES
    chunks = with_numbers(data, b"stsc", 2**31, at=12)
    assert "an index of" in mp4_claims.excess(io.BytesIO(chunks))
    # A video that calls itself sound as well.
    assert "an index of" in mp4_claims.excess(io.BytesIO(data.replace(b"mhlr", b"vide")))


def test_frames_larger_than_any_camera_has(tmp_path):
    large = io.BytesIO()
    with av.open(large, "w", format="h264") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16384, 2304, "yuv420p"
        stream.options = {"preset": "ultrafast", "threads": "1"}
        file.mux(stream.encode(av.VideoFrame(16384, 2304, "yuv420p")))
        file.mux(stream.encode(None))
    path = written(tmp_path, large.getvalue(), "a.h264")
    refused(h264.probe, path, "16384x2304; the most that are read have 36,000,000 pixels")


def test_frames_that_lie_upon_each_other(whole, tmp_path):
    """One number for the sizes of all, so that each is as long as the file."""
    data = with_numbers(whole, b"stsz", len(whole) - 100, 100_000, at=4)
    data = with_numbers(data, b"stsc", 100_000, at=12)
    refused(h264.probe, written(tmp_path, data), "lie upon each other: .*fetch")


@pytest.mark.parametrize("wanted", ["MOST_SAMPLES", "MOST_PIXELS_IN_ALL"])
def test_more_frames_than_are_read(whole, tmp_path, monkeypatch, wanted):
    """Where no index tells their number."""
    monkeypatch.setattr(h264, wanted, 5 if wanted == "MOST_SAMPLES" else 5 * 48 * 32)
    refused(lambda path: list(h264.decode(path)), written(tmp_path, whole), "has more than .*cut")


@pytest.mark.parametrize(("clock", "duration"), [(12800, 2**31 - 1), (2**31 - 1, 1)])
def test_rates_that_no_camera_has(whole, tmp_path, clock, duration):
    """A frame for days, or as many frames in a second as there are clocks."""
    data = with_numbers(whole, b"stts", 6, duration, at=8)
    path = written(tmp_path, with_numbers(data, b"mdhd", clock, at=12))
    with av.open(str(path)) as file:
        assert not 0.01 < file.streams.video[0].average_rate < 1000
    facts = h264.probe(path)
    assert facts.rate == 25


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile other.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.mp4\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    ],
)
def test_a_playlist_reaches_no_other_file(whole, tmp_path, text):
    written(tmp_path, whole, "other.mp4")
    refused(h264.probe, written(tmp_path, text.encode()), "no video of a format that is read")
    data = text.encode()
    with pytest.raises(h264.BrokenVideoError):
        list(h264.decode(data))


# Text.


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, '"\\', "\x00"])
def test_json_of_any_depth(tmp_path, text):
    path = written(tmp_path, text.encode(), "boxes.json")
    refused(faces._read_boxes.__wrapped__, path, "not valid JSON")


def test_boxes_that_are_deep_in_each_other(tmp_path):
    for depth in range(900, 1000, 7):
        path = written(tmp_path, b'{"v": ' + b"[" * depth + b"]" * depth + b"}", "boxes.json")
        refused(faces._read_boxes.__wrapped__, path, "must be an object|not valid JSON")


def test_json_of_too_many_values(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_VALUES", 1000)
    path = written(tmp_path, json.dumps([0] * 999).encode(), "a.json")
    assert len(files.read_json(path)) == 999
    path.write_text(json.dumps([[], {}] * 500))
    with pytest.raises(ValueError, match="more than 1,000 values"):
        files.read_json(path)


def test_scores_of_too_many_or_too_long_lines(tmp_path, monkeypatch):
    head = b"method,video,frame,label,score\n"
    for line in (b"a" * 2_000_000, b"," * 2_000_000, b'"' * 2_000_001, b"\0" * 2_000_000):
        path = written(tmp_path, head + line, "scores.csv")
        refused(scores.read, path, "line 2 has more than 1,000,000 characters")
    monkeypatch.setattr(scores, "_MOST_LINES", 9)
    path.write_bytes(head + b"".join(b"m,v,%d,1,0.5\n" % i for i in range(8)))
    assert len(scores.read(path).label) == 8
    path.write_bytes(path.read_bytes() + b"m,v,9,1,0.5\n")
    refused(scores.read, path, "has more than 9 lines")


def test_no_name_in_a_file_moves_the_cursor(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(
        'method,video,frame,label,score\n"a\n\x1b[2J\u2028b",v,0,1,1\n"a\n\x1b[2J\u2028b",v,0,1,1\n'
    )
    refused(scores.read, path, r"a \\x1b\[2J b/v frame 0 occurs twice")
    assert one_line("a\r\n\x07\udcff " + "x" * 10**6).startswith(r"a \x07\udcff xxx")
    assert len(one_line("x" * 10**6)) < 21_000


# Staged clips: what the disk or somebody else has changed is made again.


def test_a_staged_clip_that_claims_too_much_is_made_again(tmp_path):
    def make():
        made.append(1)
        return fuzz_inputs.staged_clip()

    made = []
    expected = staging.staged(tmp_path, "a", make)
    (path,) = tmp_path.glob("*.npz")
    whole = path.read_bytes()
    for data in (
        whole[:-30],
        whole.replace(b"'shape': (3,)", b"'shape': (9,)"),
        whole.replace(b"png", b"pnk"),
        b"",
    ):
        path.write_bytes(data)
        again = staging.staged(tmp_path, "a", make)
        images = [[(key, e["image"]) for key, e in clip.examples] for clip in (again, expected)]
        assert images[0] == images[1]
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("clip.npy", bytes(30_000_000))
    path.write_bytes(bomb.getvalue())
    tracemalloc.start()
    staging.staged(tmp_path, "a", make)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()
    assert len(made) == 6
    staging.staged(tmp_path, "a", make)
    assert len(made) == 6
