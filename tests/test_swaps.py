"""Another person's face: it lies where the face was, and has the colours of its surroundings."""

import cv2
import numpy as np
import pytest

from data_builders.self_blended import swaps
from data_builders.self_blended.face import Face
from tests.test_blends import UPRIGHT, dots, with_a_face

SHAPE = (200, 200)


def donor_of(landmarks):
    """An image of a face with a dot on each landmark."""
    face = Face(UPRIGHT.box, landmarks)
    return with_a_face(SHAPE, face), face


def farthest(image, face):
    """How far the nearest dot is from each landmark, the largest in pixels."""
    distances = np.linalg.norm(dots(image)[:, None] - face.landmarks, axis=2)
    return distances.min(axis=0).max()


def test_landmarks_come_to_the_same_pixels_where_they_are_fitted():
    """A longer face with a wide mouth: no similarity brings it onto the other."""
    landmarks = np.add(UPRIGHT.landmarks, [[0, -3], [0, -3], [2, 0], [-5, 4], [5, 4]])
    turned = donor_of(UPRIGHT.landmarks)[1].moved(cv2.getRotationMatrix2D((100, 100), 10, 1.2))
    for target in (UPRIGHT, turned):
        donor = donor_of(landmarks)
        apart, fitted = (
            swaps.worn(donor, target, SHAPE, fitted=fitted) for fitted in (False, True)
        )
        assert apart.shape == fitted.shape == (*SHAPE, 3)
        assert farthest(apart, target) > 1.5
        assert farthest(fitted, target) < 1
        # Far from the face nothing moves.
        np.testing.assert_allclose(apart[:5], fitted[:5], atol=1e-3)


def test_a_head_that_is_turned_in_another_way_is_not_bent():
    landmarks = np.add(UPRIGHT.landmarks, [[0, 0], [0, 0], [40, 0], [0, 0], [0, 0]])
    apart, fitted = (
        swaps.worn(donor_of(landmarks), UPRIGHT, SHAPE, fitted=fitted) for fitted in (False, True)
    )
    np.testing.assert_array_equal(apart, fitted)


def test_no_face_is_folded():
    """On a donor whose colours are places, the map's determinant is positive everywhere."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:200, :200]
    places = np.float32(np.stack([columns, rows, 0 * rows], axis=2))  # no rounding
    turned = UPRIGHT.landmarks * [0.3, 1] + [70, 0]  # a head in profile
    bent = 0
    for start in [turned] * 20 + [UPRIGHT.landmarks] * 20:
        donor, target = (Face(UPRIGHT.box, start + rng.normal(0, 3, (5, 2))) for _ in range(2))
        target = target.moved(np.array([[2.0, 0, -100], [0, 2, -100]]))  # enlarged, so not shrunk
        apart, fitted = (
            swaps.worn((places, donor), target, SHAPE, fitted=fitted)[60:140, 70:130]
            for fitted in (False, True)
        )
        bent += np.abs(fitted - apart).max() > 1
        (across_x, across_y), (down_x, down_y) = (
            np.diff(fitted[..., :2], axis=axis)[:79, :59].transpose(2, 0, 1) for axis in (1, 0)
        )
        assert (across_x * down_y - across_y * down_x).min() > 0
    assert bent > 20


def test_a_larger_donor_is_shrunk_without_skipping_pixels():
    """The mean of 16 pixels has a quarter of their noise; one of them has all of it."""
    noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), dtype=np.uint8)
    large = UPRIGHT.moved(np.array([[4.0, 0, 1.5], [0, 4, 1.5]]))
    made = swaps.worn((noise, large), UPRIGHT, SHAPE, fitted=False)
    assert made.std() == pytest.approx(noise.std() / 4, rel=0.1)
    dots_of = swaps.worn((with_a_face((800, 800), large), large), UPRIGHT, SHAPE, fitted=False)
    assert farthest(dots_of, UPRIGHT) < 0.5


@pytest.fixture
def mask():
    inside = np.zeros(SHAPE, np.float32)
    cv2.ellipse(inside, (100, 100), (50, 60), 0, 0, 360, 1, -1)
    return cv2.GaussianBlur(inside, (0, 0), 3)


def test_a_seamless_face_has_the_colours_of_the_edge_and_its_own_detail(mask):
    """Of a wave in other colours on an even image, Poisson's equation leaves the wave."""
    rows, columns = np.mgrid[:200, :200]
    wave = 15 * np.sin(columns / 4) * np.exp(-((columns - 100) ** 2 + (rows - 100) ** 2) / 800)
    donor = np.float32([170, 90, 60] + wave[..., None])
    target = np.full((*SHAPE, 3), [110, 120, 130], np.uint8)
    made = swaps.seamless(donor, target, mask)
    np.testing.assert_allclose(made, target + wave[..., None], atol=3)


def test_a_seamless_face_follows_light_from_one_side(mask):
    """The target is darker to the right: so becomes the face, which colours alone do not give."""
    target = np.broadcast_to(np.linspace(190, 90, 200)[None, :, None], (*SHAPE, 3))
    target = np.uint8(np.rint(target))
    even = np.full((*SHAPE, 3), 100, np.float32)
    middle = np.s_[95:105]
    for suited, slope in ((swaps.seamless, -0.5), (swaps.matched, 0.0)):
        row = suited(even, target, mask)[middle, 60:140].mean(axis=(0, 2))
        assert np.polyfit(np.arange(80), row, 1)[0] == pytest.approx(slope, abs=0.06)


def test_colours_are_matched_in_mean_and_spread(mask):
    noise = np.random.default_rng(0).standard_normal((*SHAPE, 1))
    donor = np.float32([150, 140, 120] + 6 * noise)
    target = np.uint8(np.clip([90, 80, 70] + 9 * noise, 0, 255))
    made = swaps.matched(donor, target, mask)[mask > 0.5]
    wanted = target[mask > 0.5]
    np.testing.assert_allclose(made.mean(axis=0), wanted.mean(axis=0), atol=1.5)
    np.testing.assert_allclose(made.std(axis=0), wanted.std(axis=0), rtol=0.15)


def test_where_nothing_is_replaced_nothing_happens():
    nothing = np.zeros(SHAPE, np.float32)
    image = np.full((*SHAPE, 3), 90, np.float32)
    for suited in (swaps.seamless, swaps.matched):
        np.testing.assert_array_equal(suited(image, np.uint8(image + 50), nothing), image)
