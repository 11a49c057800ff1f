"""Whether a face stands in the picture or lies: of a photograph that is turned by quarters."""

import re

import cv2
import numpy as np
import pytest
from skimage import data

from data_builders import faces
from qad_jax.detection import upright
from qad_jax.detection.conditions import Appearance, Conditions
from qad_jax.detection.detector import Detector

#: The face of the photograph of 512 px, read off by eye.
FACE = np.array([173.0, 60, 277, 190])


def turned(image, box, quarters):
    """An image and a box in it, turned counterclockwise."""
    side = len(image)
    for _ in range(quarters):
        x0, y0, x1, y1 = box
        box = np.array([y0, side - x1, y1, side - x0])
    return np.ascontiguousarray(np.rot90(image, quarters)), box


@pytest.mark.parametrize("size", [512, 256])
def test_a_face_that_lies_is_seen_and_told_how_to_turn(size):
    image = cv2.resize(data.astronaut(), (size, size), interpolation=cv2.INTER_AREA)
    box = FACE * size / 512
    for quarters in range(4):
        shown, where = turned(image, box, quarters)
        found = upright.quarters([shown, shown], np.stack([where, where]), faces.detector())
        assert found == -quarters % 4


def test_where_nothing_looks_like_a_face_nothing_lies():
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    assert upright.quarters([noise], np.array([[60.0, 60, 140, 140]]), faces.detector()) == 0


def test_a_lying_face_is_like_none_that_was_measured():
    assert Conditions().broken_by(Appearance(100.0, tilt=3.0)) == ""
    for quarters, words in ((1, "lies on its side"), (2, "stands upside down"), (3, "on its side")):
        said = Conditions().broken_by(Appearance(100.0, tilt=3.0, quarters=quarters))
        assert words in said
        assert "turn the picture upright" in said


def test_a_file_of_a_lying_face_is_not_judged_and_says_why(tmp_path):
    """Turned once, no face is found in it, and turned thrice, one that is none."""
    detector = Detector.from_pretrained()
    said = []
    for quarters in range(4):
        path = tmp_path / f"{quarters}.png"
        cv2.imwrite(str(path), np.rot90(data.astronaut(), quarters)[..., ::-1])
        said.append(detector(path))
    assert said[0].verdict == "real"
    assert {one.verdict for one in said[1:]} == {"no_face", "inconclusive"}
    for one in said[1:]:
        assert re.search("turn (it|the picture) upright", one.reason)
    blank = tmp_path / "blank.png"
    cv2.imwrite(str(blank), np.full((200, 300, 3), 90, np.uint8))
    assert detector(blank).reason == "no face was found"


def test_what_is_shown_of_a_face_is_the_same_in_a_larger_frame():
    """Its middle is that of the box, and what lies far from it changes nothing."""
    image = data.astronaut()
    alone = upright._around(image, FACE)
    large = np.zeros((900, 1200, 3), np.uint8)
    large[100:612, 300:812] = image
    there = upright._around(large, FACE + np.array([300, 100, 300, 100]))
    inside = slice(20, 108)  # the top of the hair lies beyond the edge of the photograph
    np.testing.assert_allclose(there[40:108, inside], alone[40:108, inside].astype(int), atol=2)
    middle = image[115:136, 215:236].mean(axis=(0, 1))
    np.testing.assert_allclose(alone[60:68, 60:68].mean(axis=(0, 1)), middle, atol=12)
