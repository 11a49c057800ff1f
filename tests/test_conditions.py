"""How a face looks, and whether that is within what was measured."""

import math

import cv2
import numpy as np
import pytest

from qad_jax.detection.conditions import Appearance, Conditions, sharpness, tilt, turn


def seen(yaw, roll=0.0, scale=40.0):
    """The landmarks of a head, in centimetres, that turns and is seen from far away."""
    head = np.array([(-3, 0, 0), (3, 0, 0), (0, 3.5, 2.4), (-2.4, 6.5, 0.5), (2.4, 6.5, 0.5)])
    x = head[:, 0] * math.cos(yaw) + head[:, 2] * math.sin(yaw)
    points = np.stack([x, head[:, 1]], axis=1)
    spin = np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    return points @ spin.T * scale + 300


@pytest.mark.parametrize("degrees", [0, 10, 25, 45, 70])
def test_a_turn_is_the_tangent_of_the_yaw_times_the_depth_of_the_nose(degrees):
    yaw = math.radians(degrees)
    for roll in (0.0, 0.4, -1.2):
        for sign in (1, -1):
            found = turn(seen(sign * yaw, roll)[None])
            assert found == pytest.approx(2.4 / 3 * math.tan(yaw), abs=1e-9)


def test_a_turn_is_the_median_over_the_frames_with_landmarks():
    nowhere = np.full((5, 2), np.nan)
    frames = np.stack([seen(0.1), nowhere, seen(0.5), seen(0.2), nowhere])
    assert turn(frames) == pytest.approx(0.8 * math.tan(0.2))
    assert math.isnan(turn(frames[1:2]))
    assert math.isnan(turn(None))


@pytest.mark.parametrize("degrees", [0, 10, 31, 45, 90, 135, 180])
def test_a_tilt_is_the_angle_within_the_picture(degrees):
    nowhere = np.full((5, 2), np.nan)
    for yaw, error in ((0.0, 1e-9), (0.6, 2), (-0.6, 2)):  # a mouth aside looks like a tilt
        for sign in (1, -1):
            frames = np.stack([seen(yaw, sign * math.radians(degrees)), nowhere])
            assert tilt(frames) == pytest.approx(degrees, abs=error)
    assert math.isnan(tilt(frames[1:]))
    assert math.isnan(tilt(None))


def test_the_sharpness_of_white_noise():
    """A Gaussian of 1 pixel leaves 1 - 2 w0 + sum(w^2) of the variance; |x| is 0.798 of it."""
    rng = np.random.default_rng(0)
    noise = np.repeat(np.clip(rng.normal(128, 25, (224, 224, 1)), 0, 255), 3, axis=2)
    left = math.sqrt(1 - 2 / (2 * math.pi) + 1 / (4 * math.pi)) * math.sqrt(2 / math.pi)
    assert sharpness([np.uint8(np.rint(noise))]) == pytest.approx(left, rel=0.02)


def test_blur_and_enlarging_take_sharpness():
    rng = np.random.default_rng(1)
    image = np.uint8(rng.integers(0, 256, (224, 224, 3)))
    blurred = [cv2.GaussianBlur(image, (0, 0), sigma) for sigma in (0.6, 1.5, 4)]
    values = [sharpness([one]) for one in (image, *blurred)]
    assert values == sorted(values, reverse=True)
    small = cv2.resize(image, (56, 56), interpolation=cv2.INTER_AREA)
    assert sharpness([small]) < 0.6 * sharpness([image])
    assert sharpness([image, blurred[2], blurred[1]]) == values[2]
    assert sharpness([np.full((30, 30, 3), 7, np.uint8)]) == 0


def test_each_condition_is_told_by_name():
    conditions = Conditions(60, 0.1, 0.8, 48)
    usual = {"side": 100, "sharpness": 0.2, "turn": 0.3, "compression": 30}
    assert conditions.broken_by(Appearance(**usual)) == ""
    assert conditions.broken_by(Appearance(**usual | {"turn": math.nan})) == ""
    for change, word in [
        ({"side": 59}, "59 pixels, and nothing was measured below 60"),
        ({"sharpness": 0.09}, "blurred more"),
        ({"turn": 0.81}, "turned farther"),
        ({"tilt": 31}, "tilted by 31 degrees"),
        ({"compression": 49}, "compressed as by CRF 49, and nothing was measured above 48"),
    ]:
        assert word in conditions.broken_by(Appearance(**usual | change))


def test_conditions_come_from_a_description():
    stored = {"conditions": {"least_sharpness": 0.05, "largest_turn": 1, "added_later": 3}}
    read = Conditions.of(stored)
    assert (read.least_sharpness, read.largest_turn, read.smallest_face) == (0.05, 1.0, 60.0)
    assert Conditions.of({}) == Conditions()
    for wrong in ({"conditions": {"largest_turn": "far"}}, {"conditions": 5}):
        with pytest.raises(ValueError, match=r"no finite number|no numbers"):
            Conditions.of(wrong)
