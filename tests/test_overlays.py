"""What lies over faces in training: alike for all images, by its seed, and never all of them."""

import itertools

import numpy as np
import pytest

from qad_jax.training import overlays
from qad_jax.training.augmentation import Augmentation, View, finish

SIDE, SEEDS = 64, 400


def laid(value, seed):
    images = np.full((1, SIDE, SIDE, 3), value, np.uint8)
    overlays.lay(images, seed)
    return images[0].astype(float)


@pytest.fixture(scope="module")
def weights():
    """How much of each picture is hidden: black and white differ where something shows through."""
    return np.stack([1 - (laid(255, seed) - laid(0, seed))[..., 0] / 255 for seed in range(SEEDS)])


def test_something_is_hidden_and_a_face_is_left(weights):
    assert weights.min() >= -1 / 255
    assert weights.max() <= 1 + 1 / 255
    share = weights.mean(axis=(1, 2))
    assert np.mean(share > 0.003) > 0.9  # words may begin past the edge
    assert share.max() < 0.5
    assert 0.03 < share.mean() < 0.25


def test_it_lies_anywhere_and_is_opaque_or_translucent(weights):
    often = (weights > 0.2).mean(axis=0)
    assert often.min() > 0.02
    assert often.max() < 0.6
    strongest = weights.max(axis=(1, 2))
    assert np.mean(strongest > 0.98) > 0.4
    assert np.mean((strongest > 0.1) & (strongest < 0.95)) > 0.1


def test_kinds_and_colours_differ():
    pictures = [laid(128, seed) for seed in range(60)]
    for one, other in itertools.combinations(pictures[:20], 2):
        assert (one != other).any()
    shown = np.stack(pictures)
    assert shown.min() < 10
    assert shown.max() > 245
    grey = (shown == shown[..., :1]).all(axis=(1, 2, 3))
    assert 0.2 < grey.mean() < 0.9  # black and white things, and coloured ones


def test_all_images_of_a_tuple_have_the_same_and_it_is_repeated():
    rng = np.random.default_rng(0)
    row = rng.integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    before = row.copy()
    finish(row, View(mirrored=True, overlay=11))
    shown = before[:, :, ::-1].copy()
    black, white = laid(0, 11), laid(255, 11)
    expected = black + shown * (white - black) / 255
    np.testing.assert_allclose(row, expected, atol=1)
    again = before.copy()
    finish(again, View(mirrored=True, overlay=11))
    np.testing.assert_array_equal(again, row)


def test_so_many_tuples_have_one_as_it_is_told_and_the_rest_is_drawn_as_without():
    told = {"crop": 0.8, "colour": 0.2, "turn": 5.0}
    with_it, without = (
        Augmentation(**told, overlay=chance).draw(np.random.default_rng(3), 4000)
        for chance in (0.25, 0.0)
    )
    assert all(view.overlay is None for view in without)
    seeds = [view.overlay for view in with_it if view.overlay is not None]
    assert len(seeds) / 4000 == pytest.approx(0.25, abs=0.03)
    assert len(set(seeds)) > 0.99 * len(seeds)
    for one, other in zip(with_it, without, strict=True):
        assert (one.mirrored, one.window) == (other.mirrored, other.window)
        np.testing.assert_array_equal(one.tone, other.tone)
        assert one.shape.turn == other.shape.turn
