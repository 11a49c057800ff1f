"""Corruptions against other libraries, hand formulas, and what must hold of all of them."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from qad_jax.evaluation.corruptions import CORRUPTIONS, blur, jpeg, noise, resize


@pytest.fixture(scope="module")
def image():
    """Edges, a ramp and texture; odd sides, kept off 0 and 255."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:75, :91]
    base = np.stack([60 + x, 60 + y, 120 + 50 * ((x // 9 + y // 7) % 2)], -1)
    return (base + rng.integers(-15, 16, base.shape)).astype(np.uint8)


def generator():
    return np.random.default_rng(7)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_shape_type_and_input_are_kept_and_strength_is_strength(name, image):
    corruption = CORRUPTIONS[name]
    before = image.copy()
    made = [corruption.apply(image, s, generator()) for s in corruption.strengths]
    np.testing.assert_array_equal(image, before)
    assert len(made) >= 5
    assert {(one.shape, one.dtype) for one in made} == {(image.shape, np.dtype(np.uint8))}
    distances = [psnr(image, one) for one in made]
    assert all(np.diff(distances) < 0), distances
    assert distances[0] > 25
    again = corruption.apply(image, corruption.strengths[0], generator())
    np.testing.assert_array_equal(made[0], again)


def test_jpeg_goes_from_95_to_10():
    assert (CORRUPTIONS["jpeg"].strengths[0], CORRUPTIONS["jpeg"].strengths[-1]) == (95, 10)


@pytest.mark.parametrize("quality", [95, 50, 10])
def test_jpeg_is_that_of_another_encoder(quality, image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg", quality=quality, subsampling="4:2:0")
    expected = np.asarray(Image.open(file)).astype(int)
    difference = np.abs(jpeg(image, quality, generator()).astype(int) - expected)
    # Two builds of libjpeg may round otherwise.
    assert difference.mean() < 0.3
    assert np.percentile(difference, 99) <= 2


@pytest.mark.parametrize("sigma", [0.5, 1, 3])
def test_blur_is_a_gaussian(sigma, image):
    got = blur(image, sigma, generator()).astype(float)
    expected = ndimage.gaussian_filter(
        image.astype(float), (sigma, sigma, 0), mode="mirror", truncate=6
    )
    assert np.abs(got - expected).max() < 2.5
    assert np.abs(got - expected).mean() < 0.6


@pytest.mark.parametrize("sigma", [2, 10, 25])
def test_noise_has_the_variance_that_was_asked_for(sigma):
    grey = np.full((200, 200, 3), 128, np.uint8)
    got = noise(grey, sigma, generator()).astype(float) - 128
    count = got.size
    variance = sigma**2 + 1 / 12  # of rounding
    assert abs(got.mean()) < 4 * np.sqrt(variance / count)
    assert abs(got.var() / variance - 1) < 4 * np.sqrt(2 / count)
    neighbours = np.mean(got[:, 1:] * got[:, :-1]) / variance
    assert abs(neighbours) < 4 / np.sqrt(count)
    other = noise(grey, sigma, np.random.default_rng(8))
    assert (other != noise(grey, sigma, generator())).mean() > 0.5


def test_noise_is_clipped_not_wrapped():
    dark, light = (np.full((50, 50, 3), value, np.uint8) for value in (0, 255))
    assert noise(dark, 5, generator()).max() < 50
    assert noise(light, 5, generator()).min() > 205


def test_resizing_by_two_is_bicubic_interpolation_of_the_means_of_blocks(image):
    even = image[:74, :90]
    got = resize(even, 2, generator())
    assert got.shape == even.shape
    means = even.astype(float).reshape(37, 2, 45, 2, 3).mean((1, 3))
    # A new pixel lies a quarter of an old one from the nearest. Keys' kernel with a = -3/4, as
    # OpenCV has it, weighs the four around by their distances of 1 1/4, 1/4, 3/4 and 1 3/4.
    a, far, near = -0.75, np.array([1.25, 1.75]), np.array([0.25, 0.75])
    outer = a * far**3 - 5 * a * far**2 + 8 * a * far - 4 * a
    inner = (a + 2) * near**3 - (a + 3) * near**2 + 1
    weights = np.array([outer[0], inner[0], inner[1], outer[1]])
    assert weights.sum() == pytest.approx(1)
    enlarged = means
    for axis in (0, 1):
        right = sum(w * np.roll(enlarged, 1 - i, axis) for i, w in enumerate(weights))
        left = sum(w * np.roll(enlarged, i - 1, axis) for i, w in enumerate(weights))
        both = np.stack([left, right], axis=axis + 1)
        enlarged = both.reshape(*(n * (1 + (d == axis)) for d, n in enumerate(enlarged.shape)))
    difference = got - np.clip(enlarged, 0, 255)  # the means and the result are rounded
    assert np.abs(difference)[8:-8, 8:-8].max() < 2
    flat = np.full((31, 40, 3), 90, np.uint8)
    np.testing.assert_array_equal(resize(flat, 6, generator()), flat)


def test_resizing_takes_away_what_is_finer_than_the_small_image():
    """The mean over four pixels of a wave of that period is nothing; of a long wave, the wave."""
    x = np.tile(np.arange(96), (96, 1))
    fine, coarse = (
        np.repeat((128 + 100 * np.sin(2 * np.pi * x / period)).astype(np.uint8)[..., None], 3, -1)
        for period in (4, 32)
    )
    assert resize(fine, 4, generator()).std() < 0.02 * fine.std()
    assert resize(coarse, 4, generator()).std() > 0.9 * coarse.std()
