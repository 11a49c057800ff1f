"""Closed eyes: what moves, what stays, and that real and fake share it."""

import collections
import dataclasses

import numpy as np
import pytest

from data_builders.clips import VideoFiles
from data_builders.self_blended import clip, expression
from data_builders.self_blended.expression import Lids
from data_builders.self_blended.stills import Stills
from tests.test_blends import UPRIGHT

LEFT, RIGHT = UPRIGHT.landmarks[:2].astype(int)
ACROSS, DOWN = 40, 50  # pixels from eye to eye, and from the eyes to the mouth


@pytest.fixture
def eyes():
    """Grey skin, with a dark eye at each landmark."""
    image = np.full((200, 200, 3), 128, np.uint8)
    for x, y in (LEFT, RIGHT):
        image[y - 5 : y + 5, x - 3 : x + 4] = 20
    return image


def opening(image, x):
    """How many pixels of a column are dark."""
    return int((image[:, x, 0] < 74).sum())


def test_lids_come_together_as_far_as_they_are_told(eyes):
    half, closed = (expression.shown(eyes, UPRIGHT, Lids(by, by)) for by in (0.5, 1.0))
    for x, _ in (LEFT, RIGHT):
        whole = opening(eyes, x)
        assert opening(half, x) == pytest.approx(0.56 * whole, abs=1)  # 1 - 0.5 * (1 - 0.12)
        assert opening(closed, x) <= 0.12 * whole + 1
    rows = np.flatnonzero(half[:, LEFT[0], 0] < 74)
    assert rows.mean() > LEFT[1]  # the upper lid comes down


def test_one_eye_closes_alone(eyes):
    wink = expression.shown(eyes, UPRIGHT, Lids(1.0, 0.0))
    assert opening(wink, LEFT[0]) < opening(wink, RIGHT[0]) == opening(eyes, RIGHT[0])
    middle = (LEFT[0] + RIGHT[0]) // 2
    np.testing.assert_array_equal(wink[:, middle:], eyes[:, middle:])


def test_brow_cheek_and_the_rest_stay_where_they_are():
    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    closed = expression.shown(image, UPRIGHT, Lids(1.0, 1.0))
    moved = np.argwhere((closed != image).any(axis=2))
    assert len(moved) > 100
    (top, left), (bottom, right) = moved.min(axis=0), moved.max(axis=0)
    assert LEFT[1] - 0.35 * DOWN < top < bottom < LEFT[1] + 0.35 * DOWN
    assert LEFT[0] - 0.4 * ACROSS < left < right < RIGHT[0] + 0.4 * ACROSS


def test_open_eyes_are_the_same_image(eyes):
    assert expression.shown(eyes, UPRIGHT, Lids()) is eyes


def test_lids_follow_a_head_that_is_tilted(eyes):
    turn = np.array([[0.0, -1.0, 199.0], [1.0, 0.0, 0.0]])  # a quarter, clockwise
    lying = expression.shown(np.rot90(eyes, -1).copy(), UPRIGHT.moved(turn), Lids(1.0, 1.0))
    upright = expression.shown(eyes, UPRIGHT, Lids(1.0, 1.0))
    difference = np.abs(np.rot90(lying, 1).astype(int) - upright)
    assert difference.max() <= 2


def test_eyes_at_the_edge_or_outside_of_the_image_are_borne(eyes):
    for x, y in ((-100.0, 0.0), (0.0, -85.0), (0.0, 115.0), (-500.0, 300.0)):
        face = UPRIGHT.moved(np.array([[1.0, 0.0, x], [0.0, 1.0, y]]))
        assert expression.shown(eyes, face, Lids(1.0, 1.0)).shape == eyes.shape


def test_a_fifth_of_the_faces_close_an_eye():
    rng = np.random.default_rng(0)
    drawn = [expression.draw(rng) for _ in range(4000)]
    kinds = collections.Counter((lids.left > 0, lids.right > 0) for lids in drawn)
    assert kinds[True, True] / 4000 == pytest.approx(0.15, abs=0.02)
    for one in ((True, False), (False, True)):
        assert kinds[one] / 4000 == pytest.approx(0.025, abs=0.01)
    assert all(lids.left in (0.0, lids.right) or lids.right == 0.0 for lids in drawn)
    assert min(max(lids) for lids in drawn if any(lids)) >= 0.5


def test_real_and_fake_share_the_eyes_and_a_donor_has_its_own(monkeypatch, eyes):
    asked = []

    def shown(image, face, lids):
        asked.append((image[0, 0, 0], lids))
        return image

    monkeypatch.setattr(expression, "shown", shown)
    monkeypatch.setattr(expression, "draw", lambda rng: Lids(float(rng.random()), 0.0))
    donor = eyes.copy()
    donor[0, 0] = 77
    monkeypatch.setattr(
        clip,
        "read_stills",
        lambda path, frames, start: Stills([donor if path == "donor" else eyes], [UPRIGHT]),
    )
    recipe = clip.BlendRecipe(("raw",), families=("swap",))
    files = VideoFiles("swap", "a-0", "a", "fake", {"raw": "own"})
    source = clip.BlendSource(files, recipe, ("donor",))
    clip.read(source)
    (own, lids), (other, others) = asked
    assert (own, other) == (128, 77)
    assert 0 < lids.left != others.left > 0
    asked.clear()
    clip.read(dataclasses.replace(source, files=dataclasses.replace(files, video="a-1")))
    assert asked[0][1] != lids  # drawn for each pair
