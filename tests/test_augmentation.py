"""Changes of training images: the same at all qualities, within their bounds, nothing where off."""

import itertools

import cv2
import numpy as np
import pytest

from data_builders.errors import UserError
from qad_jax import configs
from qad_jax.runs import configuration
from qad_jax.training.augmentation import Augmentation, Shape, View, cut, finish
from qad_jax.training.input_pipeline import TrainBatches, TupleSource

QUALITIES = ("raw", "c23", "c40")


def test_windows_lie_in_the_crop_and_are_of_all_allowed_sizes():
    views = Augmentation(crop=0.7).draw(np.random.default_rng(0), 2000)
    left, top, side = np.array([view.window for view in views]).T
    assert min(left.min(), top.min()) >= 0
    assert max((left + side).max(), (top + side).max()) <= 1
    assert 0.7 <= side.min() < 0.71
    assert 0.99 < side.max() <= 1
    # They lie anywhere between the edges, however far across for any place down.
    across, down = left / (1 - side), top / (1 - side)
    for part in (across, down):
        assert part.min() < 0.01
        assert part.max() > 0.99
        assert part.mean() == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(across, down)[0, 1]) < 0.1
    assert 0.45 < np.mean([view.mirrored for view in views]) < 0.55
    assert all(view.tone is None for view in views)


def test_a_window_is_cut_by_whole_pixels():
    image = np.arange(10 * 20 * 3, dtype=np.uint8).reshape(10, 20, 3)
    np.testing.assert_array_equal(cut(image, View(window=(0.25, 0.5, 0.5))), image[5:10, 5:15])
    np.testing.assert_array_equal(cut(image, View()), image)
    assert cut(image[:1, :1], View(window=(0.3, 0.3, 0.5))).shape == (1, 1, 3)
    assert cut(image, View(window=(0.99, 0.99, 0.01))).shape == (1, 1, 3)


def test_a_tone_is_a_gain_and_a_gamma_of_each_colour():
    views = Augmentation(colour=0.2).draw(np.random.default_rng(1), 500)
    # 255 shows the gain alone, and a value in the middle the gamma then.
    for view in views:
        gain = view.tone[0, 255] / 255
        assert (gain >= 0.8 - 1 / 255).all()
        free = gain < 0.99  # what is clipped at 255 hides the gain
        gamma = np.log(view.tone[0, 128][free] / 255 / gain[free]) / np.log(128 / 255)
        assert ((np.exp(-0.2) - 0.02 < gamma) & (gamma < np.exp(0.2) + 0.02)).all()
        assert (np.diff(view.tone[0].astype(int), axis=0) >= 0).all()
    assert len({tuple(view.tone[0, 100]) for view in views}) > 400
    # From two values that nothing clips come both numbers, up to the rounding of the values.
    tones = np.stack([view.tone[0] for view in views]) / 255
    gammas = np.log2(tones[:, 128] / tones[:, 64])
    gains = tones[:, 128] / (128 / 255) ** gammas
    assert gammas.min() == pytest.approx(np.exp(-0.2), abs=0.04)
    assert gammas.max() == pytest.approx(np.exp(0.2), abs=0.04)
    assert gains.min() == pytest.approx(0.8, abs=0.03)
    assert gains.max() == pytest.approx(1.2, abs=0.03)


def test_a_lens_enlarges_the_middle_and_leaves_the_corners():
    """In ramps, values are places; by hand, at the middle and 40 px from it."""
    side, half = 201, 100
    ramp = np.tile(np.arange(side, dtype=np.uint8), (side, 1))
    row = np.stack([ramp, ramp.T, ramp], axis=-1)[None].copy()
    still = np.zeros((5, 5, 2), np.float32)
    finish(row, View(shape=Shape(0.2, 0.0, 0.0, still)))
    from_x, from_y, _ = row[0].astype(float).transpose(2, 0, 1)
    near = np.exp(-((40 / (side / 2)) ** 2) / 0.55**2)
    assert from_x[half, half] == half
    assert from_x[half, half + 40] == pytest.approx(half + 40 * (1 - 0.2 * near), abs=1)
    assert from_y[half + 40, half] == pytest.approx(half + 40 * (1 - 0.2 * near), abs=1)
    np.testing.assert_allclose(from_x[0], np.arange(side), atol=1)
    wide = np.stack([ramp] * 3, axis=-1)[None].copy()
    finish(wide, View(shape=Shape(0.0, 0.25, 0.0, still)))
    inner = wide[0, half, 20:180, 0]  # the borders are mirrored where it is shrunk
    np.testing.assert_allclose(inner, half + (np.arange(20, 180) - half) / 1.25, atol=1)


def test_a_turn_and_a_movement():
    """A dot right of the middle goes where a rotation by hand puts it; even steps move it."""
    row = np.zeros((2, 101, 101, 3), np.uint8)
    row[:, 48:53, 78:83] = 255  # 30 px to the right of the middle

    def centre_of(image):
        weight = image[..., 0].astype(float)
        rows, columns = np.mgrid[:101, :101]
        return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum() - 50

    still = np.zeros((5, 5, 2), np.float32)
    turned = row.copy()
    finish(turned, View(shape=Shape(0.0, 0.0, 20.0, still)))
    angle = np.deg2rad(20)
    for image in turned:
        expected = 30 * np.array([np.cos(angle), np.sin(angle)])
        np.testing.assert_allclose(centre_of(image), expected, atol=0.3)
    moved = row.copy()
    finish(moved, View(shape=Shape(0.0, 0.0, 0.0, still + np.float32([0.05, -0.1]))))
    np.testing.assert_allclose(centre_of(moved[0]), [30 - 5.05, 10.1], atol=0.3)


def test_shapes_are_drawn_within_their_bounds():
    views = Augmentation(lens=0.2, turn=15, warp=0.02).draw(np.random.default_rng(3), 2000)
    shapes = [view.shape for view in views]
    for name, bound in (("middle", 0.2), ("width", 0.1), ("turn", 15)):
        drawn = np.array([getattr(shape, name) for shape in shapes])
        assert bound > np.abs(drawn).max() > 0.99 * bound
        assert abs(drawn.mean()) < 0.05 * bound
    steps = np.stack([shape.steps for shape in shapes])
    assert steps.std() == pytest.approx(0.02, rel=0.02)
    assert all(
        view.shape is None for view in Augmentation(colour=0.1).draw(np.random.default_rng(), 9)
    )


def test_the_change_is_the_same_at_every_quality(dataset):
    source = TupleSource(dataset, "train", QUALITIES, 40)
    view = Augmentation(crop=0.6, colour=0.3).draw(np.random.default_rng(5), 1)[0]
    row = np.empty(source.shape, np.uint8)
    source.fill(3, row, view=view)
    plain = np.stack([source[3]["image"][q] for q in range(len(QUALITIES))])
    assert not np.array_equal(row, plain)
    stored = dataset.as_data_source("train")[3]["image"]
    for shown, quality in zip(row, QUALITIES, strict=True):
        part = cut(stored[quality], view)
        how = cv2.INTER_AREA if part.shape[0] > 40 else cv2.INTER_CUBIC
        expected = part if len(part) == 40 else cv2.resize(part, (40, 40), interpolation=how)
        expected = expected[:, ::-1] if view.mirrored else expected
        toned = np.stack([view.tone[0, expected[..., c], c] for c in range(3)], axis=-1)
        np.testing.assert_array_equal(shown, toned)


def test_what_is_off_leaves_the_stream_as_it_was(dataset):
    source = TupleSource(dataset, "train", QUALITIES, 32)

    def first(**options):
        batches = TrainBatches(source, 8, seed=2, **options)
        return np.concatenate([batch.images for batch in itertools.islice(batches, 3)])

    plain = first()
    np.testing.assert_array_equal(plain, first(augmentation=Augmentation(1.0, 0.0)))
    changed = first(augmentation=Augmentation(0.8, 0.1))
    assert (changed != plain).any(axis=(1, 2, 3, 4)).all()
    np.testing.assert_array_equal(changed, first(augmentation=Augmentation(0.8, 0.1), threads=3))


def test_memory_that_is_kept_is_changed_in_colour_and_stays_as_it_is(dataset):
    kept, read = (TupleSource(dataset, "train", ("raw",), 24, in_memory=on) for on in (True, False))
    view = View(True, tone=np.tile(np.uint8(np.arange(256) // 2)[None, :, None], (1, 1, 3)))
    for _ in range(2):
        rows = [np.empty(source.shape, np.uint8) for source in (kept, read)]
        for source, row in zip((kept, read), rows, strict=True):
            source.fill(1, row, view=view)
        np.testing.assert_array_equal(*rows)


def test_finish_changes_the_given_memory():
    row = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    before = row.copy()
    finish(row, View(True))
    np.testing.assert_array_equal(row, before[:, :, ::-1])


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("crop", 0.0, r"config\.augment\.crop: is 0\.0, must be in \(0, 1\]"),
        ("crop", 1.5, r"config\.augment\.crop: is 1\.5"),
        ("crop", float("nan"), r"config\.augment\.crop: is nan"),
        ("colour", -0.1, r"config\.augment\.colour: is -0\.1, must not be negative"),
        ("colour", 1.0, r"config\.augment\.colour: is 1\.0, must be below 1"),
        ("lens", -0.1, r"config\.augment\.lens: is -0\.1, must not be negative"),
        ("turn", 181.0, r"config\.augment\.turn: is 181\.0, must be at most 180"),
        ("warp", -0.1, r"config\.augment\.warp: is -0\.1, must not be negative"),
        ("lens", 0.6, r"config\.augment\.lens: is 0\.6, must be at most 0\.5"),
        ("overlay", -0.1, r"config\.augment\.overlay: is -0\.1, must not be negative"),
        ("overlay", 1.5, r"config\.augment\.overlay: is 1\.5, must be at most 1"),
    ],
)
def test_wrong_numbers_are_refused(field, value, problem):
    config = configs.load("common")
    config.augment[field] = value
    with pytest.raises(UserError, match=problem):
        configuration.check(config)


def test_a_window_of_images_in_memory_is_refused():
    config = configs.load("common")
    config.augment.crop, config.dataset.in_memory = 0.8, True
    with pytest.raises(UserError, match=r"config\.dataset\.in_memory: images are kept"):
        configuration.check(config)
