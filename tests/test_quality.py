"""The quality of a stranger's file: what its codec says, what the pixels say, which is nearest."""

import dataclasses
import json
import math

import cv2
import numpy as np
import pytest

from data_builders import h264
from data_builders.errors import UserError
from data_builders.synthetic_faces.builder import SyntheticVideo, film
from qad_jax.detection import quality
from qad_jax.detection.codec_numbers import CodecNumbers, codec_numbers
from qad_jax.detection.pixel_features import FEATURES, pixel_features
from qad_jax.detection.quality import RAW, USUAL, WORST, Quality, estimate, nearest
from tests.faces import astronaut

CRFS = (15, 25, 35, 45)
UNKNOWN = Quality(USUAL, RAW, WORST, "")


def photographed(frames=12, size=176):
    """A camera with some noise moves over a photograph: (frames, size, size, 3)."""
    rng = np.random.default_rng(0)
    image = astronaut().astype(np.float32)
    parts = [image[i : i + size, i : i + size] for i in range(frames)]
    noisy = [part + rng.normal(0, 2, part.shape) for part in parts]
    return [np.clip(part, 0, 255).round().astype(np.uint8) for part in noisy]


def rendered():
    """A face that talks, at twice the size."""
    frames = film(SyntheticVideo(0, 6, "original", 0, 1))
    return [cv2.resize(f, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for f in frames]


@pytest.fixture(scope="module", params=[photographed, rendered])
def clip(request):
    return request.param()


@pytest.fixture(scope="module")
def files(clip):
    return {crf: h264.encode(clip, crf=crf) for crf in CRFS}


@pytest.fixture(scope="module")
def crops(files):
    return {crf: list(h264.decode(file))[2::4] for crf, file in files.items()}


def test_the_quantisers_tell_the_crf(files):
    found = {crf: estimate([], codec_numbers(file)) for crf, file in files.items()}
    for crf, made in found.items():
        assert made.crf == pytest.approx(crf, abs=5)
        assert "the quantiser of the file's codec, h264" in made.reason
    assert sorted(found.values(), key=lambda made: made.crf) == list(found.values())


def test_the_pixels_tell_more_compression_from_less(clip, crops):
    found = [estimate(clip[2::4]).crf, *(estimate(crops[crf]).crf for crf in CRFS)]
    assert found == sorted(found)
    assert found[-1] - found[0] > 15


def test_the_pixels_are_near_the_crf(crops):
    errors = [estimate(crops[crf]).crf - crf for crf in CRFS]
    assert np.abs(errors).mean() < 6


def test_the_worse_of_two_encodings_counts(crops):
    """A file of CRF 45 that was encoded again, hardly with loss."""
    again = h264.encode(_every_frame(crops[45]), crf=16)
    numbers = codec_numbers(again)
    decoded = list(h264.decode(again))
    assert estimate([], numbers).crf < 23
    both = estimate(decoded, numbers)
    assert both.crf > 35
    assert nearest(both, ("raw", "c23", "c40")) == "c40"
    assert "was encoded before" in both.reason
    assert both.encoded_before is True
    assert estimate([], numbers).encoded_before is None


def _every_frame(few):
    return [frame for frame in few for _ in range(3)]


def test_a_worse_last_encoding_counts(crops):
    numbers = CodecNumbers("h264", 40.0, 42.0, 12)
    assert estimate(crops[15], numbers).crf == estimate([], numbers).crf > 35


@pytest.mark.parametrize(
    ("crf", "expected"),
    [(10, "raw"), (16.4, "raw"), (16.6, "c23"), (31.4, "c23"), (31.6, "c40"), (51, "c40")],
)
def test_the_nearest_of_the_usual_qualities(crf, expected):
    assert nearest(Quality(crf, crf, crf, ""), ("raw", "c23", "c40")) == expected


@pytest.mark.parametrize(
    ("crf", "qualities", "expected"),
    [
        (30, ("c23", "c40"), "c23"),
        (31.5, ("c40", "c23"), "c40"),  # equally near: the one of more compression
        (10, ("c23", "c40"), "c23"),
        (30, ("raw", "random", "c30"), "c30"),
        (51, ("c1",), "c1"),
        (20, ("random",), "random"),
        (20, ("any",), "any"),
        (35, ("raw", "messenger", "c48"), "messenger"),
    ],
)
def test_the_nearest_of_others(crf, qualities, expected):
    assert nearest(Quality(crf, crf, crf, ""), qualities) == expected


@pytest.mark.parametrize("qualities", [(), ("random", "any")])
def test_no_quality_says_how_it_is_compressed(qualities):
    with pytest.raises(UserError, match="none says how it is compressed"):
        nearest(UNKNOWN, qualities)


def _noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    "crops",
    [
        [],
        [np.zeros((1, 1, 3), np.uint8)],
        [np.zeros((0, 0, 3), np.uint8)],
        [_noise(31, 500, 3)],
        [np.full((200, 200, 3), 128, np.uint8)],
        [np.zeros((200, 200, 3), np.uint8)] * 3,
    ],
    ids=["none", "a pixel", "no pixel", "flat", "grey", "black"],
)
def test_crops_that_say_nothing(crops):
    made = estimate(crops)
    assert dataclasses.astuple(made)[:3] == (USUAL, RAW, WORST)
    assert made.reason.startswith("a guess")
    numbers = CodecNumbers("h264", 30.0, 30.0, 1)
    assert estimate(crops, numbers) == estimate([], numbers)
    assert estimate(crops, CodecNumbers("vp9", frames=9)) == made


@pytest.mark.parametrize(
    "crop",
    [
        _noise(32, 32, 3),
        _noise(33, 700, 3),
        np.tile(np.uint8([[0, 255], [255, 0]])[..., None], (50, 50, 3)),
        np.repeat(np.uint8([0, 255]), 30 * 60 * 3).reshape(60, 60, 3),
        np.broadcast_to(np.arange(250, dtype=np.uint8)[:, None, None], (250, 250, 3)),
    ],
    ids=["small", "wide", "chequered", "two halves", "ramp"],
)
def test_odd_crops_give_numbers(crop):
    features = pixel_features([crop])
    assert features.shape == (1, FEATURES)
    assert np.isfinite(features).all()
    made = estimate([crop])
    assert RAW <= made.low <= made.crf <= made.high <= WORST


@pytest.mark.parametrize("quantiser", [-1e9, 0.0, 51.0, 1e9])
@pytest.mark.parametrize("codec", ["h264", "jpeg", "mpeg4", "flv1"])
def test_any_quantiser_gives_a_crf(codec, quantiser):
    made = estimate([], CodecNumbers(codec, quantiser, quantiser, 1))
    assert RAW <= made.low <= made.crf <= made.high <= WORST
    assert math.isfinite(made.crf)


def test_many_crops_take_no_longer(monkeypatch):
    seen = []
    monkeypatch.setattr(quality, "pixel_features", lambda c: seen.extend(c) or np.zeros((0, 25)))
    crops = [np.full((1, 1, 3), i, np.uint8) for i in range(200)]
    estimate(crops)
    assert len(seen) == quality.MOST_CROPS
    assert (seen[0].max(), seen[-1].max()) == (0, 199)


def test_a_tree_by_hand():
    """One tree of depth 3, that asks feature 1, then 0, then 1 again."""
    tree = {
        "constant": 100.0,
        "feature": [1, 0, 0, 1, 1, 1, 1],
        "threshold": [0.0, -5.0, 5.0, -1.0, -2.0, 1.0, 2.0],
        "leaves": [1, 2, 3, 4, 5, 6, 7, 8],
    }
    features = np.array([[-6, -1.5], [-6, -0.5], [0, -3], [0, 0], [5, 1], [9, 2], [9, 2.5]])
    assert quality.by_trees(features, tree).tolist() == [101, 102, 103, 104, 105, 107, 108]


def test_the_fitted_numbers_are_small_and_whole():
    text = quality._MODEL.read_text()
    assert len(text) < 64_000
    model = json.loads(text)
    trees = model["trees"]
    count = len(trees["leaves"]) // 8
    assert len(trees["feature"]) == len(trees["threshold"]) == 7 * count
    assert max(trees["feature"]) < FEATURES
    assert 28 < model["messenger"] < 40  # it is encoded at 28 and at 32
