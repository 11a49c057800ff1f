"""Painted faces: without a change by the network, nothing is changed, and outside it never is."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from tests.test_blends import UPRIGHT

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import painted_faces


def test_pixels_become_channels_and_come_back():
    picture = np.arange(2 * 8 * 8 * 3, dtype=np.float32).reshape(2, 8, 8, 3)
    folded = painted_faces._fold(picture, 4)
    assert folded.shape == (2, 2, 2, 48)
    np.testing.assert_array_equal(folded[1, 1, 0].reshape(4, 4, 3), picture[1, 4:, :4])
    np.testing.assert_array_equal(painted_faces._unfold(folded, 4), picture)


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "astronaut.png"
    cv2.imwrite(str(path), data.astronaut()[..., ::-1])
    return path


def test_a_painter_that_copies_changes_little():
    """Only its resolution is lost: a smooth image stays as it is."""
    smooth = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, (200, 200, 3)), (0, 0), 9)
    image = np.uint8(cv2.normalize(smooth, None, 40, 210, cv2.NORM_MINMAX))
    copied = painted_faces.paint(lambda square: square, image, UPRIGHT).astype(int)
    assert np.abs(copied - image).max() <= 3
    grey = painted_faces.paint(np.zeros_like, image, UPRIGHT).astype(int)
    np.testing.assert_allclose(grey[90:110, 90:110], 127.5, atol=1)
    np.testing.assert_array_equal(grey[:10], image[:10])


def test_a_pair_differs_in_the_face_alone(photograph):
    real, fake = painted_faces.pair(photograph, np.zeros_like, 0)
    assert real.keys() == fake.keys() == {"raw", *painted_faces.CRFS}
    assert real["raw"].shape == fake["raw"].shape == real["c40"].shape
    change = np.abs(real["raw"].astype(int) - fake["raw"]).max(axis=2)
    side = len(change)
    assert change[2 * side // 5 : 3 * side // 5, 2 * side // 5 : 3 * side // 5].mean() > 10
    assert not change[: side // 12].any()
    same = painted_faces.pair(photograph, np.zeros_like, 0)
    np.testing.assert_array_equal(next(same)["c40"], real["c40"])
