"""Frames between others that were searched wholly: the same boxes at a part of the cost."""

import cv2
import numpy as np
import pytest
import skimage.data

from data_builders.mtcnn import Detector, detector
from data_builders.mtcnn.pyramid import levels, pyramid
from qad_jax.detection.looking import searched_wholly


def moving(count, *, side=480, face=1.0):
    """A photographed head that moves, turns and comes nearer."""
    image, frames = skimage.data.astronaut(), []
    for i in range(count):
        matrix = cv2.getRotationMatrix2D((224, 110), 3 * np.sin(i / 5), face * (1 + i / 200))
        matrix[:, 2] += side / 2 - 224 + 12 * np.sin(i / 4), side / 2 - 110 + 8 * np.cos(i / 6)
        frames.append(cv2.warpAffine(image, matrix, (side, side), borderValue=(90, 90, 90)))
    return np.stack(frames)


@pytest.fixture
def skipped(monkeypatch):
    """How many levels were left out, of each search."""
    seen = []

    def watched(size, min_face, without=0):
        seen.append(without)
        return pyramid(size, min_face, without)

    monkeypatch.setattr(detector, "pyramid", watched)
    return seen


@pytest.mark.parametrize(("face", "without"), [(0.7, 1), (1.0, 2), (2.0, 4)])
def test_boxes_are_those_of_a_whole_search(skipped, face, without):
    frames, found = moving(9, face=face), Detector()
    whole = found.detect(frames)
    assert set(skipped) == {0}
    skipped.clear()
    parted = found.detect(frames, wholly=[0, 8])
    assert skipped == [0, without]
    for one, other in zip(whole, parted, strict=True):
        assert len(one.boxes) == len(other.boxes) == 1
        np.testing.assert_allclose(other.boxes, one.boxes, atol=0.01)
        np.testing.assert_allclose(other.landmarks, one.landmarks, atol=0.01)
        np.testing.assert_allclose(other.scores, one.scores, atol=1e-4)


def test_frames_between_different_ones_are_searched_wholly(skipped):
    frames = moving(7)
    frames[4:] = 90  # the head is gone
    parted = Detector().detect(frames, wholly=[1, 5])
    assert skipped == [0] * 4  # the two, those before, those between, those behind
    assert [len(one.boxes) for one in parted] == [1, 1, 1, 1, 0, 0, 0]


def test_levels_that_are_left_are_as_they_would_be():
    image = np.random.default_rng(0).integers(0, 256, (97, 140, 3), np.uint8)
    whole, part = pyramid((97, 140), 20.0), pyramid((97, 140), 20.0, 2)
    np.testing.assert_array_equal(part.scales, whole.scales[2:])
    assert part.sizes == whole.sizes[2:]
    for (y, x), (v, u), (high, wide) in zip(
        part.corners, whole.corners[2:], part.sizes, strict=True
    ):
        level = part.drawn(image)[y : y + high, x : x + wide]
        np.testing.assert_array_equal(level, whole.drawn(image)[v : v + high, u : u + wide])
    assert len(pyramid((97, 140), 20.0, 99).scales) == 1
    # Each level is 0.709 of the one before: three make 0.356.
    assert [levels(growth) for growth in (0.5, 1, 1.4, 1.42, 2.8, 2.9)] == [0, 0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("indices", "cuts", "wholly"),
    [
        ([0], (), [0]),
        (range(0, 40, 4), (), [0, 8, 9]),
        (range(0, 68, 4), (), [0, 8, 16]),
        (range(0, 310, 31), (), list(range(10))),  # a second apart
        ([0, 4, 8, 50, 54, 58, 62], (), [0, 2, 3, 6]),
        (range(0, 40, 4), (3,), [0, 2, 3, 9]),
    ],
)
def test_which_frames_are_searched_wholly(indices, cuts, wholly):
    assert searched_wholly(list(indices), cuts, 30) == wholly
