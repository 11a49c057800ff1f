"""Blends: masks lie where they should, and each trace does what its name says."""

import dataclasses

import cv2
import numpy as np
import pytest

from data_builders.mtcnn import Detector
from data_builders.self_blended import blend, footage, recipes, stills
from data_builders.self_blended import face as faces
from data_builders.self_blended.face import Face
from tests import trees

UPRIGHT = Face(
    np.array([60.0, 40, 140, 150]),
    np.array([[80.0, 80], [120, 80], [100, 105], [84, 130], [116, 130]]),
)


# Geometry


def test_coordinates_put_the_eyes_and_the_mouth_where_they_belong():
    turned = UPRIGHT.moved(cv2.getRotationMatrix2D((100, 100), 25, 1.4))
    for one in (UPRIGHT, turned):
        matrix = one.coordinates()
        left, right, _, *mouth = one.landmarks @ matrix[:, :2].T + matrix[:, 2]
        np.testing.assert_allclose([left, right], [(-0.5, 0), (0.5, 0)], atol=1e-6)
        np.testing.assert_allclose(np.mean(mouth, axis=0)[1], 1, atol=1e-6)


def test_a_head_in_profile_still_has_a_width():
    points = UPRIGHT.landmarks.copy()
    points[:, 0] = 100 + 0.02 * (points[:, 0] - 100)
    profile = dataclasses.replace(UPRIGHT, landmarks=points)
    mask = faces.mask(profile, faces.FULL, (200, 200), np.random.default_rng(0), softness=0.1)
    assert 500 < (mask > 0.5).sum() < 20000


def test_a_rectangle_has_straight_edges():
    """Its hard edge lies on one column, and on one row, of an upright face."""
    rng = np.random.default_rng(0)
    for part in (faces.HEAD, faces.JAW):
        inside = faces.mask(UPRIGHT, part, (200, 200), rng, softness=0.02) > 0.5
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        assert inside.sum() == len(rows) * len(columns)
        assert 2 * 0.88 * 1.1 * 40 - 2 < len(columns) < 2 * 1.12 * 1.4 * 40 + 2


@pytest.mark.parametrize(
    ("part", "inside", "outside"),
    [
        (faces.FULL, (0, 1, 2, 3, 4), ()),
        (faces.LOWER, (3, 4), (0, 1)),
        (faces.UPPER, (0, 1), (3, 4)),
        (faces.EYES, (0, 1), (2, 3, 4)),
        (faces.INNER, (0, 1, 2, 3, 4), ()),
        (faces.HEAD, (0, 1, 2, 3, 4), ()),
        (faces.JAW, (3, 4), (0, 1)),
    ],
)
def test_a_mask_covers_its_part(part, inside, outside):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        mask = faces.mask(UPRIGHT, part, (200, 200), rng, softness=0.15)
        at = [mask[round(y), round(x)] for x, y in UPRIGHT.landmarks]
        assert all(at[i] > 0.4 for i in inside), at
        assert all(at[i] == 0 for i in outside), at
        border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        assert not border.any()
        assert 0 <= mask.min() <= mask.max() <= 1


def test_one_face_is_brought_onto_another():
    """Points that a known similarity has moved are moved by the same one."""
    angle, scale, shift = 0.3, 1.7, np.array([12.0, -5])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    target = dataclasses.replace(UPRIGHT, landmarks=UPRIGHT.landmarks @ turn.T + shift)
    found = faces.onto(UPRIGHT, target)
    np.testing.assert_allclose(found[:, :2], turn, atol=1e-9)
    np.testing.assert_allclose(found[:, 2], shift, atol=1e-9)


# The blend


@pytest.mark.parametrize("family", recipes.UNPAINTED)
def test_a_family_changes_the_face_and_nothing_else(family):
    image = trees.frames_of(0, 6)[4]
    found = Detector().detect([image])[0]
    face = Face(found.boxes[0], found.landmarks[0])
    other = trees.frames_of(2, 6)[3]
    theirs = Detector().detect([other])[0]
    donor = (other, Face(theirs.boxes[0], theirs.landmarks[0])) if family == "swap" else None
    for seed in range(4):
        recipe = recipes.draw(family, face.size, 0.8, np.random.default_rng(seed))
        assert recipe == recipes.draw(family, face.size, 0.8, np.random.default_rng(seed))
        fake = blend.apply(image, face, recipe, donor=donor, moment=1)
        difference = np.abs(fake.astype(int) - image).max(axis=2)
        x0, y0, x1, y1 = face.box + np.array([-0.5, -0.5, 0.5, 0.5]) * face.size
        inside = np.zeros(difference.shape, bool)
        inside[max(0, int(y0)) : int(y1), max(0, int(x0)) : int(x1)] = True
        assert not difference[~inside].any()
        assert difference.max() > 8
        assert (difference > 2).mean() > 0.002
        again = blend.apply(image, face, recipe, donor=donor, moment=2)
        assert (family == "flicker") == bool((again != fake).any())


def test_a_swap_lies_where_it_was_put_and_has_one_face():
    drawn = [recipes.draw("swap", 200, 1, np.random.default_rng(seed)) for seed in range(200)]
    fitted = [recipe for recipe in drawn if recipe.fitted]
    assert 110 < len(fitted) < 170
    for recipe in fitted:
        assert (recipe.shift, recipe.scale, recipe.angle) == ((0, 0), 1, 0)
        assert recipe.elastic == 0
    assert any(recipe.angle for recipe in drawn)
    assert all(recipe.strength >= 0.9 for recipe in drawn)
    seamless = [recipe for recipe in drawn if recipe.seamless]
    assert 35 < len(seamless) < 85
    for recipe in seamless:  # its edge has the colours of the target
        assert recipe.gain == (1, 1, 1)
        assert recipe.bias == (0, 0, 0)


def test_a_swap_shows_the_other_face():
    """Blended onto white, the face of a donor on black is what is dark."""
    white = np.full((200, 200, 3), 230, np.uint8)
    white[::2, ::2] = 250
    donor = np.full((200, 200, 3), 90, np.uint8)
    donor[100:, :] = 30
    recipe = dataclasses.replace(
        recipes.draw("swap", 110, 1, np.random.default_rng(0)),
        **{"strength": 1.0, "gain": (1, 1, 1), "bias": (0, 0, 0), "resolution": 0, "sharpen": 0.0},
        **{"shift": (0, 0), "scale": 1.0, "angle": 0.0, "double": False, "softness": 0.1},
    )
    fake = blend.apply(white, UPRIGHT, recipe, donor=(donor, UPRIGHT)).astype(int)
    middle = fake[:, 100].mean(axis=1)
    assert middle[85] - middle[115] > 5  # its step from light to dark, in the target's colours
    assert (fake[:5] == white[:5]).all()


# The footage


def test_footage_of_a_small_face_is_not_enlarged():
    small = UPRIGHT.moved(np.array([[0.5, 0, 0], [0, 0.5, 0]]))  # 55 px
    for seed in range(30):
        drawn = footage.draw(
            (200, 200), small, 4, np.random.default_rng(seed), moves=True, degraded=1.0
        )
        assert drawn.scale <= 1.25 + 1e-9
        assert drawn.size[0] % 2 == drawn.size[1] % 2 == 0
        larger = footage.draw(
            (900, 900), UPRIGHT, 4, np.random.default_rng(seed), moves=True, degraded=1.0
        )
        assert 60 - 1e-6 <= larger.scale * UPRIGHT.size <= 1.25 * UPRIGHT.size + 1e-6


def drawn_footage(seed, shape=(900, 900), face=UPRIGHT, **changes):
    made = footage.draw(shape, face, 4, np.random.default_rng(seed), moves=True, degraded=1.0)
    return dataclasses.replace(made, **changes)


def test_a_tight_frame_still_holds_the_face():
    """Of the widths of frames, a quarter is close: the face is in all of them, and never half."""
    tight = 0
    face, still = UPRIGHT.moved(np.array([[1.0, 0, 100], [0, 1, 100]])), np.zeros((400, 400, 3))
    for seed in range(60):
        made = drawn_footage(seed, (400, 400), face, noise=0.0, jpeg=0, crf=0)
        frames, placed = footage.film(made, [still.astype(np.uint8)] * 4, [face] * 4)
        height, width = frames[0].shape[:2]
        tight += min(height, width) < 1.6 * placed[0].size
        for shown in placed:
            assert (shown.landmarks > 0).all()
            assert (shown.landmarks < (width, height)).all()
            x0, y0, x1, y1 = shown.box
            seen = (min(x1, width) - max(x0, 0)) * (min(y1, height) - max(y0, 0))
            assert seen > 0.8 * (x1 - x0) * (y1 - y0)
    assert 5 < tight < 30


@pytest.mark.parametrize("angle", [0, 30, 90, 135, 170])
def test_a_streak_blurs_along_its_direction_only(angle):
    """Its second moments are those of a line: long along the angle, a pixel across."""
    kernel = footage._streak(6.0, angle)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    rows, columns = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
    moments = np.cov(np.stack([columns.ravel(), rows.ravel()]), aweights=kernel.ravel(), ddof=0)
    across, along = np.linalg.eigvalsh(moments)
    assert along == pytest.approx(6**2 / 12, rel=0.25)  # of an even line
    assert across < 0.2
    x, y = np.linalg.eigh(moments)[1][:, 1]
    assert abs((np.degrees(np.arctan2(y, x)) - angle + 90) % 180 - 90) < 8  # a line of whole pixels
    stripes = np.tile(np.random.default_rng(0).uniform(0, 255, 64).astype(np.float32), (64, 1))
    blurred = cv2.filter2D(stripes, -1, kernel)
    if angle == 90:
        np.testing.assert_allclose(blurred, stripes, rtol=1e-4)
    else:
        assert blurred.std() < 0.8 * stripes.std()


# Bounds


def with_a_face(shape, face):
    """A grey image with a dot at each landmark of a face."""
    image = np.full((*shape, 3), 60, np.uint8)
    for x, y in face.landmarks:
        cv2.circle(image, (round(x), round(y)), round(face.size / 40), (255, 255, 255), -1)
    return image


def dots(image):
    """The middles of the bright dots."""
    return cv2.connectedComponentsWithStats((image[..., 0] > 150).astype(np.uint8))[3][1:]


@pytest.mark.parametrize(
    ("size", "shape"), [(2500.0, (4000, 3800)), (300.0, (3000, 3500)), (1500.0, (2100, 2100))]
)
def test_large_images_are_cut_and_large_faces_are_small(size, shape):
    grow = size / UPRIGHT.size
    face = UPRIGHT.moved(np.array([[grow, 0, 0], [0, grow, 0]]))
    image = with_a_face(shape, face)
    (small,), (found,), scale = stills.bounded([image], [face])
    assert found.size == pytest.approx(min(size, 800), rel=1e-3)
    assert scale == pytest.approx(min(1, 800 / size))
    assert small.size <= 3 * (4 * 800) ** 2
    assert small.size < image.size
    distances = np.linalg.norm(dots(small)[:, None] - found.landmarks, axis=2)
    assert (distances.min(axis=0) < 1).all()


def test_ordinary_images_stay_as_they_are():
    face = UPRIGHT.moved(np.array([[7.0, 0, 0], [0, 7, 0]]))  # 770 px
    image = with_a_face((2000, 2000), face)
    made = stills.bounded([image, image], [face, face])
    assert made.images[1] is image
    assert made.faces == [face, face]
    assert made.scale == 1


def test_a_clip_does_not_show_what_was_cut_off():
    """Filmed from the whole of a large image and from its piece, the frames are the same."""
    face = UPRIGHT.moved(np.array([[2.0, 0, 1500], [0, 2, 800]]))
    smooth = np.random.default_rng(0).uniform(0, 255, (12, 16, 3)).astype(np.float32)
    image = np.uint8(np.clip(cv2.resize(smooth, (3200, 2400)), 0, 255))
    piece = stills.bounded([image], [face])
    assert piece.images[0].shape == (880, 880, 3)
    for seed in range(6):
        clean = {"jpeg": 0, "crf": 0, "shrink": 1.0}
        whole, cut = (
            drawn_footage(seed, one.shape[:2], at, **clean)
            for one, at in ((image, face), (piece.images[0], piece.faces[0]))
        )
        assert whole.size == cut.size
        ours, theirs = (
            footage.film(made, [one] * 4, [at] * 4)
            for made, one, at in ((whole, image, face), (cut, piece.images[0], piece.faces[0]))
        )
        np.testing.assert_allclose(ours[1][3].box, theirs[1][3].box, atol=0.01)
        for a, b in zip(ours[0], theirs[0], strict=True):
            assert np.abs(a.astype(int) - b).mean() < 1.5
