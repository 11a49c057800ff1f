"""What each trace of a blend and of a past does: whatever is not even in an even image is its."""

import dataclasses

import cv2
import numpy as np
import pytest

from data_builders.mtcnn import Detector
from data_builders.self_blended import blend, footage, recipes
from data_builders.self_blended import face as faces
from data_builders.self_blended.face import Face
from tests import trees
from tests.test_blends import UPRIGHT

EVEN = np.full((200, 200, 3), 128, np.uint8)
PLAIN = footage.Past(
    smooth=(0.0, 2),
    skin=False,
    resolution=1.0,
    noise=0.0,
    blur=0.0,
    background=0.0,
    sharpen=(0.0, 1.5),
    jpeg=0,
    seed=1,
)
MIDDLE, CORNER = np.s_[85:120, 85:115], np.s_[:30, :30]


def plain_recipe(**changes):
    """A blend that changes nothing but for what is given."""
    nothing = {"part": faces.FULL, "softness": 0.1, "strength": 1.0, "shift": (0.0, 0.0)}
    nothing |= {"scale": 1.0, "angle": 0.0, "gain": (1.0, 1.0, 1.0), "bias": (0.0, 0.0, 0.0)}
    nothing |= {"resolution": 0, "elastic": 0.0, "clean": False, "jpeg": 0, "sharpen": 0.0}
    nothing |= {"double": False, "flicker": 0.0, "grid": 0.0, "smooth": 0.0}
    return dataclasses.replace(
        recipes.draw("full_face", 110, 1, np.random.default_rng(0)), **nothing | changes
    )


def aged(image, past):
    return footage.aged(image, past, UPRIGHT)


def test_a_past_has_the_noise_that_it_says():
    past = dataclasses.replace(PLAIN, noise=6.0)
    one, again = aged(EVEN, past), aged(EVEN, past)
    np.testing.assert_array_equal(one, again)  # real and fake have one past
    assert one.std() == pytest.approx(6, rel=0.05)
    assert abs(one.mean() - 128) < 0.2
    assert (aged(EVEN, dataclasses.replace(past, seed=2)) != one).any()
    np.testing.assert_array_equal(aged(EVEN, PLAIN), EVEN)
    blurred = aged(one, dataclasses.replace(PLAIN, blur=1.0))
    sharp = aged(one, dataclasses.replace(PLAIN, sharpen=(1.0, 1.5)))
    assert blurred.std() < 0.5 * one.std()
    assert sharp.std() > 1.3 * one.std()


def test_a_smooth_past_takes_the_noise_and_leaves_the_edges():
    step = EVEN.copy()
    step[:, 100:] = 228
    noisy = aged(step, dataclasses.replace(PLAIN, noise=6.0))
    smooth = aged(noisy, dataclasses.replace(PLAIN, smooth=(40.0, 3)))
    assert smooth[:, :90].std() < 0.4 * noisy[:, :90].std()
    columns = smooth.mean(axis=(0, 2))
    assert columns[100] - columns[99] > 90  # of 100


def test_a_smooth_skin_leaves_the_rest():
    noisy = aged(EVEN, dataclasses.replace(PLAIN, noise=6.0))
    smooth = aged(noisy, dataclasses.replace(PLAIN, smooth=(40.0, 3), skin=True))
    assert smooth[MIDDLE].std() < 0.4 * noisy[MIDDLE].std()
    np.testing.assert_array_equal(smooth[CORNER], noisy[CORNER])


def test_a_background_is_blurred_behind_the_person():
    noisy = aged(EVEN, dataclasses.replace(PLAIN, noise=6.0))
    portrait = aged(noisy, dataclasses.replace(PLAIN, background=2.0))
    hair, shoulder = np.s_[30:50, 90:110], np.s_[185:, 60:140]
    for sharp in (MIDDLE, hair, shoulder):
        np.testing.assert_array_equal(portrait[sharp], noisy[sharp])
    # White noise after a Gaussian of sigma s has 1 / (2 s sqrt(pi)) of its deviation.
    assert portrait[CORNER].std() == pytest.approx(6 / (4 * np.sqrt(np.pi)), rel=0.2)


def test_light_changes_slowly_over_the_frame():
    """On an even image, what is seen is the light: of a mean of 0 in the logarithm, and smooth."""
    face = UPRIGHT.moved(np.array([[1.0, 0, 100], [0, 1, 100]]))
    made = footage.draw((400, 400), face, 1, np.random.default_rng(0), moves=False, degraded=0.0)
    plain = {"gain": (1.0, 1.0, 1.0), "gamma": 1.0, "saturation": 1.0, "noise": 0.0, "sharpen": 0.0}
    even = np.full((400, 400, 3), 128, np.uint8)

    def seen(**light):
        (frame,), _ = footage.film(dataclasses.replace(made, **plain, **light), [even], [face])
        return np.log(frame / 128)

    assert not seen(light=(0.0, 0.0)).any()
    grey, coloured = seen(light=(0.15, 0.0)), seen(light=(0.0, 0.05))
    for field, least in ((grey, 0.05), (coloured, 0.015)):
        assert abs(field.mean()) < 0.25 * field.std()
        assert least < field.std() < 4 * least
        steps = np.abs(np.diff(field[::8, ::8, 1], axis=1))
        assert steps.max() < field.max() - field.min()
        assert np.abs(np.diff(field, axis=1)).max() < 0.02
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    assert np.abs(coloured[..., 0] - coloured[..., 2]).max() > 0.02


def test_a_low_resolution_averages_over_its_pixels():
    noisy = aged(EVEN, dataclasses.replace(PLAIN, noise=6.0))
    soft = aged(noisy, dataclasses.replace(PLAIN, resolution=0.25))
    assert soft.shape == noisy.shape
    middles = soft[2::4, 2::4].std()  # each stands for 16 pixels, so for a quarter of the noise
    assert middles == pytest.approx(6 / 4, rel=0.25)
    assert soft.mean() == pytest.approx(noisy.mean(), abs=0.1)


def test_a_clean_face_lacks_the_noise_around_it():
    old = aged(EVEN, dataclasses.replace(PLAIN, noise=6.0))
    fake = blend.apply(old, UPRIGHT, plain_recipe(clean=True), clean=EVEN)
    assert fake[MIDDLE].std() < 0.5
    assert fake[CORNER].std() == pytest.approx(6, rel=0.1)
    np.testing.assert_array_equal(fake[CORNER], old[CORNER])
    noisy = blend.apply(old, UPRIGHT, plain_recipe(), clean=EVEN)
    np.testing.assert_array_equal(noisy, old)


def test_an_elastic_movement_is_in_the_face_only():
    """In a ramp, values are places: their changes are the movement in pixels."""
    ramp = np.repeat(np.tile(np.arange(400, dtype=np.float32), (400, 1))[..., None], 3, axis=2)
    face = UPRIGHT.moved(np.array([[1.0, 0, 100], [0, 1, 100]]))
    moved = blend._stretched(ramp, face, plain_recipe(elastic=0.02))[..., 0] - ramp[..., 0]
    inside = moved[150:240, 170:230]
    assert 0.3 < inside.std() / (0.02 * face.size) < 1.5
    assert np.abs(np.diff(inside, axis=1)).max() < 0.5  # nothing is folded
    border = np.concatenate([moved[:10].ravel(), moved[-10:].ravel(), moved[:, :10].ravel()])
    assert not border.any()
    image = trees.frames_of(0, 6)[4]
    own = Detector().detect([image])[0]
    fake = blend.apply(
        image, Face(own.boxes[0], own.landmarks[0]), plain_recipe(elastic=0.02)
    ).astype(int)
    edges = np.s_[:20], np.s_[:, :20], np.s_[:, -20:]
    assert all((fake[edge] == image[edge]).all() for edge in edges)
    assert np.abs(fake - image).max() > 8


def test_a_jpeg_of_the_new_face_only_changes_the_face():
    image = trees.frames_of(0, 6)[4]
    own = Detector().detect([image])[0]
    face = Face(own.boxes[0], own.landmarks[0])
    recipe = plain_recipe(jpeg=30)
    fake = blend.apply(image, face, recipe)
    shown = cv2.imdecode(
        cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR
    )[..., ::-1]
    mask = faces.mask(
        face, faces.FULL, image.shape[:2], np.random.default_rng(recipe.seed), softness=0.1
    )
    np.testing.assert_array_equal(fake[mask == 0], image[mask == 0])
    np.testing.assert_array_equal(fake[mask == 1], shown[mask == 1])
    assert 0.02 < (mask == 1).mean() < 0.5
    assert (fake != image).any()


def test_a_generator_leaves_a_pattern_of_four_of_its_pixels():
    """At half of the resolution four pixels are eight: the even face repeats after eight."""
    recipe = plain_recipe(resolution=55, grid=0.03, enlarging=cv2.INTER_LINEAR)
    fake = blend.apply(EVEN, UPRIGHT, recipe).astype(int)
    here = fake[84:116, 84:108]
    assert 1 < here.std() < 8
    for step in (np.s_[92:124, 84:108], np.s_[84:116, 92:116]):
        np.testing.assert_array_equal(fake[step], here)
    assert (fake[88:120, 84:108] != here).mean() > 0.5
    moved = UPRIGHT.moved(np.array([[1.0, 0, 6], [0, 1, 10]]))
    there = blend.apply(EVEN, moved, recipe)[94:126, 90:114]
    np.testing.assert_array_equal(there, here)  # it goes with the face
    np.testing.assert_array_equal(fake[CORNER], EVEN[CORNER])


def test_a_smooth_new_face_has_no_noise_and_keeps_its_edges():
    step = EVEN.copy()
    step[:, 100:] = 228
    noisy = aged(step, dataclasses.replace(PLAIN, noise=6.0))
    fake = blend.apply(noisy, UPRIGHT, plain_recipe(smooth=60.0))
    left, right = fake[85:120, 85:97].astype(float), fake[85:120, 103:115].astype(float)
    assert max(left.std(), right.std()) < 3
    assert right.mean() - left.mean() == pytest.approx(100, abs=2)
    np.testing.assert_array_equal(fake[CORNER], noisy[CORNER])


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_change_is_measured_over_a_sixteenth_of_the_face(scale):
    """In a square of that side a step of 16 is 16; one pixel in it is little."""
    face = UPRIGHT.moved(np.array([[1.6, 0, 0], [0, 1.6, 0]]))  # of 176 px: a sixteenth is 11
    at = (slice(100, 124), slice(100, 124))
    square, pixel = EVEN.copy(), EVEN.copy()
    square[at] += 16
    pixel[110, 110] = 255
    assert blend.change(EVEN, EVEN, face, scale) == 0
    assert blend.change(EVEN, square, face, scale) == pytest.approx(16, abs=0.1)
    assert blend.change(square, EVEN, face, scale) == pytest.approx(16, abs=0.1)
    assert blend.change(EVEN, pixel, face, scale) < 2
    stripes = EVEN.copy()
    stripes[::2] = 148  # seen in full size, and gone in half of it
    seen = blend.change(EVEN, stripes, face, scale)
    assert seen == pytest.approx(10 if scale < 1 else 20 * 6 / 11, abs=1)
