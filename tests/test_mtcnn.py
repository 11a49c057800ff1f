"""The networks of the face detector against plain ones in numpy, and the canvas of a pyramid."""

import cv2
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from data_builders.mtcnn import networks, weights
from data_builders.mtcnn.pyramid import pyramid

# Height, width, smallest face: odd and even sides, a level that is the image itself (12 px), an
# image that is higher than wide.
IMAGES = [(61, 83, 20.0), (48, 62, 12.0), (97, 40, 14.5)]
FRAMES = [(360, 640, 22.5), (640, 360, 22.5), (480, 640, 30.0), (21, 640, 20.0), (12, 12, 12.0)]


@pytest.fixture(scope="module")
def loaded():
    return weights.load()


@pytest.fixture(scope="module")
def prepared(loaded):
    return networks.prepared(loaded)


def noise(*shape):
    """Smooth enough that P-Net's answers are of all kinds."""
    rough = np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)
    return cv2.blur(rough, (5, 5)) if len(shape) == 3 else rough


# Plain formulations, in float64


def convolved(x, kernel, bias, slope):
    windows = sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    x = np.tensordot(windows, kernel.astype(np.float64), ((3, 4, 5), (2, 0, 1))) + bias
    return np.where(x > 0, x, slope * x)


def pooled(x, window, *, same):
    """The maximum of squares at steps of 2; `same`: those at the end may reach over it."""
    outputs = [-(-n // 2) if same else (n - window) // 2 + 1 for n in x.shape[1:3]]
    rows = [
        np.stack(
            [
                x[:, 2 * i : 2 * i + window, 2 * j : 2 * j + window].max((1, 2))
                for j in range(outputs[1])
            ],
            axis=1,
        )
        for i in range(outputs[0])
    ]
    return np.stack(rows, axis=1)


def normalised(image):
    return (image.astype(np.float64) - 127.5) / 128


def dense(x, kernel, bias, slope):
    x = x.transpose(0, 2, 1, 3).reshape(len(x), -1) @ kernel.astype(np.float64) + bias
    return np.where(x > 0, x, slope * x)


def probability(logits):
    return 1 / (1 + np.exp(logits[..., 0] - logits[..., 1]))


@pytest.mark.parametrize(("height", "width", "min_face"), IMAGES)
def test_each_level_is_scored_as_an_image_of_its_own(loaded, prepared, height, width, min_face):
    image, w = noise(height, width, 3), loaded.proposal
    plan = pyramid((height, width), min_face)
    result = np.asarray(
        networks.compiled().proposal(prepared.proposal, plan.drawn(image), plan.pooled)
    )
    assert len(plan.sizes) > 1
    for i, size in enumerate(plan.sizes):
        level = cv2.resize(image.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
        x = pooled(convolved(normalised(level[None]), *w[0:3]), 2, same=True)
        x = convolved(convolved(x, *w[3:6]), *w[6:9])[0]
        rows, columns = np.nonzero(plan.level[: result.shape[0], : result.shape[1]] == i)
        assert len(rows) == x.shape[0] * x.shape[1] == np.sum(plan.level == i)
        found = result[rows, columns].reshape(*x.shape[:2], 5)
        np.testing.assert_allclose(found[..., :4], x @ w[9][0, 0] + w[10], atol=1e-4)
        expected = probability(x @ w[11][0, 0] + w[12])
        np.testing.assert_allclose(1 / (1 + np.exp(-found[..., 4])), expected, atol=1e-5)
        assert np.ptp(expected) > 1e-3 or expected.size < 4


def test_r_net_is_the_plain_one(loaded, prepared):
    crops, w = normalised(noise(16, 24, 24, 3)), loaded.refinement
    x = pooled(convolved(crops, *w[0:3]), 3, same=True)
    x = pooled(convolved(x, *w[3:6]), 3, same=False)
    x = dense(convolved(x, *w[6:9]), *w[9:12])
    offsets, scores = networks.compiled().refinement(prepared.refinement, crops.astype(np.float32))
    np.testing.assert_allclose(offsets, x @ w[12] + w[13], atol=1e-4)
    np.testing.assert_allclose(scores, probability(x @ w[14] + w[15]), atol=1e-5)
    assert np.ptp(offsets) > 0.1


def test_o_net_is_the_plain_one(loaded, prepared):
    crops, w = normalised(noise(16, 48, 48, 3)), loaded.output
    x = pooled(convolved(crops, *w[0:3]), 3, same=True)
    x = pooled(convolved(x, *w[3:6]), 3, same=False)
    x = pooled(convolved(x, *w[6:9]), 2, same=True)
    x = dense(convolved(x, *w[9:12]), *w[12:15])
    result = networks.compiled().output(prepared.output, crops.astype(np.float32))
    offsets, scores, landmarks = result
    np.testing.assert_allclose(offsets, x @ w[15] + w[16], atol=1e-4)
    np.testing.assert_allclose(scores, probability(x @ w[19] + w[20]), atol=1e-5)
    places = (x @ w[17] + w[18]).reshape(-1, 2, 5)
    np.testing.assert_allclose(landmarks, places.swapaxes(1, 2), atol=1e-4)
    assert np.ptp(landmarks) > 0.1


@pytest.mark.parametrize("rows", [1, 2])
def test_a_widened_kernel_gives_the_outputs_of_a_block(rows):
    rng = np.random.default_rng(0)
    kernel, block = rng.normal(size=(3, 3, 2, 5)), rng.normal(size=(2 + rows, 4, 2))
    each = [
        np.einsum("ijc,ijco->o", block[y : y + 3, x : x + 3], kernel)
        for y in range(rows)
        for x in (0, 1)
    ]
    wide = networks.widened(kernel.astype(np.float32), rows, 2)
    found = np.einsum("ijc,ijco->o", block, wide)
    np.testing.assert_allclose(found, np.concatenate(each), atol=1e-5)


# The canvas


@pytest.mark.parametrize(
    ("height", "width", "min_face"),
    [*IMAGES, *FRAMES],
)
def test_levels_share_the_canvas(height, width, min_face):
    plan = pyramid((height, width), min_face)
    # Half the area from one to the next, down to the size of a window.
    expected = 12 / min_face * 0.709 ** np.arange(len(plan.sizes) + 1)
    np.testing.assert_allclose(plan.scales, expected[:-1])
    assert min(height, width) * expected[-2] >= 12 > min(height, width) * expected[-1]
    taken = np.zeros(plan.canvas, int)
    for (high, wide), (y, x), scale in zip(plan.sizes, plan.corners, plan.scales, strict=True):
        assert (high, wide) == (int(height * scale), int(width * scale))
        assert y % 2 == x % 2 == 0
        assert y + high <= plan.canvas[0]
        assert x + wide <= plan.canvas[1]
        # A cell of 2x2 px belongs to one level.
        taken[y : y + high + high % 2, x : x + wide + wide % 2] += 1
    assert taken.max() == 1
    assert plan.canvas[0] % 16 == plan.canvas[1] % 32 == 0


def test_most_of_the_canvas_of_a_film_is_used():
    for size in ((360, 640), (480, 640), (640, 360), (270, 640), (640, 640)):
        plan = pyramid(size, min(size) / 16)
        used = sum(high * wide for high, wide in plan.sizes)
        assert used > 0.75 * plan.canvas[0] * plan.canvas[1]


def test_no_pyramid_of_what_is_smaller_than_a_face():
    assert pyramid((19, 300), 20.0) is None
    assert pyramid((20, 300), 20.0) is not None


@pytest.mark.parametrize(("height", "width", "min_face"), IMAGES)
def test_levels_are_means_of_areas(height, width, min_face):
    image = noise(height, width, 3)
    plan = pyramid((height, width), min_face)
    canvas = plan.drawn(image)
    assert canvas.dtype == np.float32
    assert canvas.shape == (*plan.canvas, 3)
    for (high, wide), (y, x) in zip(plan.sizes, plan.corners, strict=True):
        # Pixels are parted until a whole number of the parts makes a mean; both sides in turn.
        level = np.repeat(image.astype(np.float64), high, axis=0)
        level = level.reshape(high, height, width, 3).mean(1)
        level = np.repeat(level, wide, axis=1).reshape(high, wide, width, 3).mean(2)
        np.testing.assert_allclose(canvas[y : y + high, x : x + wide], level, atol=1e-3)
