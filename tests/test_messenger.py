"""Quality 'messenger': smaller, compressed twice, and on the source's pixels again."""

import functools
import itertools

import cv2
import numpy as np
import pytest

from data_builders import clips, compression, faces, h264
from data_builders.errors import UserError
from data_builders.qualities import check_qualities

FRAMES = 5


def film(path, height, width, rate=25):
    """Smooth shapes and fine texture that move, without loss."""
    rng = np.random.default_rng(1)
    wall = cv2.GaussianBlur(rng.integers(0, 256, (height, width + 40, 3), np.uint8), (0, 0), 1.5)
    wall = np.clip(40 + 1.5 * wall.astype(int), 0, 255).astype(np.uint8)
    cv2.circle(wall, (width // 2, height // 2), height // 4, (30, 60, 200), -1)
    frames = [wall[:, 4 * i : 4 * i + width] for i in range(FRAMES)]
    path.write_bytes(h264.encode(frames, crf=0, fps=rate))
    return frames


@pytest.mark.parametrize("rate", [25, 5])
def test_a_quality_is_made_at_the_rate_of_its_video(tmp_path, rate):
    """At one CRF, the encoder spends fewer bits on a frame that is shown for a shorter time."""
    frames = film(tmp_path / "v.mp4", 120, 160, rate)
    crops = clip_of(tmp_path / "v.mp4", ("raw", "c32", "messenger")).crops
    once = h264.encode(frames, crf=28, fps=rate)
    twice = h264.encode(h264.decode(once), crf=32, fps=rate)
    np.testing.assert_array_equal(crops["messenger"], list(h264.decode(twice)))
    expected = h264.decode(h264.encode(frames, crf=32, fps=rate))
    np.testing.assert_array_equal(crops["c32"], list(expected))


def clip_of(path, qualities):
    files = clips.VideoFiles("original", "000", "000", "real", {"raw": path})
    recipe = clips.Recipe(qualities, FRAMES, faces.Whole())
    return clips.read(clips.ClipSource(files, recipe))


def error(a, b):
    return np.mean((a.astype(float) - b.astype(float)) ** 2)


def test_a_large_video_is_shrunk_compressed_twice_and_lies_where_it_lay(tmp_path):
    frames = film(tmp_path / "v.mp4", 600, 800)
    crops = clip_of(tmp_path / "v.mp4", ("raw", "c32", "messenger")).crops
    small = [cv2.resize(f, (640, 480), interpolation=cv2.INTER_AREA) for f in frames]
    once = list(h264.decode(h264.encode(small, crf=28)))
    twice = list(h264.decode(h264.encode(once, crf=32)))
    for i, (raw, plain, sent) in enumerate(
        zip(crops["raw"], crops["c32"], crops["messenger"], strict=True)
    ):
        assert sent.shape == raw.shape == (600, 800, 3)
        enlarged = cv2.resize(twice[i], (800, 600), interpolation=cv2.INTER_CUBIC)
        np.testing.assert_array_equal(sent, enlarged)
        assert error(raw, sent) > error(raw, plain)  # worse than its last pass alone
        shift, _ = cv2.phaseCorrelate(*(x.mean(-1) for x in (raw, sent)))
        assert np.abs(shift).max() < 0.2  # px


def test_a_small_video_of_odd_sides_keeps_its_size(tmp_path):
    frames = film(tmp_path / "v.mp4", 121, 161)
    crops = clip_of(tmp_path / "v.mp4", ("raw", "c32", "messenger")).crops
    # The last row and column are there twice while it is compressed.
    padded = [np.pad(frame, [(0, 1), (0, 1), (0, 0)], mode="edge") for frame in frames]
    even = h264.decode(h264.encode(padded, crf=32))
    for frame, raw, plain, sent in zip(
        frames, crops["raw"], crops["c32"], crops["messenger"], strict=True
    ):
        assert error(raw, frame) == 0
        assert sent.shape == raw.shape
        assert error(raw, sent) > 0
        np.testing.assert_array_equal(plain, next(even)[:121, :161])


def test_it_is_one_of_the_qualities_that_can_be_asked_for():
    assert check_qualities(["raw", "c28", "messenger"]) == ("raw", "c28", "messenger")
    with pytest.raises(UserError, match="'telegraph' is not a quality; raw, random, messenger"):
        check_qualities(["raw", "telegraph"])


@functools.cache
def long_film(kind):
    """The frames of a video, its bytes, and its frames when it is encoded anew at a CRF."""
    rng = np.random.default_rng(0)
    walls = [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(8)]
    large = [cv2.resize(wall, (300, 300), interpolation=cv2.INTER_CUBIC) for wall in walls]
    frames = [large[i // 23 if kind == "cuts" else 0][i : i + 80, i : i + 96] for i in range(180)]
    data = h264.encode(frames, crf=0)
    anew = {crf: h264.encode(h264.decode(data), crf=crf) for crf in (40, 23)}
    return frames, data, {crf: list(h264.decode(file)) for crf, file in anew.items()}


@pytest.mark.parametrize(("kind", "together"), [("moving", True), ("cuts", True), ("cuts", False)])
def test_what_comes_long_after_the_last_frame_changes_nothing(
    kind, together, tmp_path, monkeypatch
):
    """The frames are those of the whole video, and fewer are encoded, large ones in turn."""
    frames, data, whole = long_film(kind)
    if not together:
        monkeypatch.setattr(compression, "_MOST_TOGETHER", 80 * 96 - 1)
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    written, told = [], []
    finish = h264.Encoders.finish

    def counted(encoders):
        files = finish(encoders)
        written.extend(sum(1 for _ in h264.decode(file)) for file in files)
        return files

    def noted(crfs, **options):
        told.append(list(crfs))
        return h264.Encoders(crfs, **options)

    monkeypatch.setattr(h264.Encoders, "finish", counted)
    monkeypatch.setattr(compression, "Encoders", noted)
    indices = [0, 17, 44]
    encodings = compression.Encodings(path, [40, 23], rate=25, last=44)
    np.testing.assert_array_equal(next(encodings.frames()), frames[0])
    made = encodings.decoded(indices)
    assert len(written) == 2
    assert max(written) < 60  # some behind the last one are needed by frames before it
    assert told == ([[40, 23]] if together else [[40], [23]])
    monkeypatch.undo()
    for crf in (40, 23):
        np.testing.assert_array_equal(made[crf], [whole[crf][index] for index in indices])
    if together:  # what is sent on is encoded one after the other in any case
        sent = compression.sent_on(path, last=44)
        of_all = compression.messenger(h264.decode(path), frames[0].shape[:2])
        parts = (list(itertools.islice(each, 45)) for each in (sent, of_all))
        np.testing.assert_array_equal(*parts)
