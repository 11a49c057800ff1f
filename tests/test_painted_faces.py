"""Painted faces: outside of them nothing is changed."""

import sys
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from skimage import data

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import painted_faces

from data_builders.self_blended.painter import Loaded

#: Paints every face grey.
GREY = Loaded(np.zeros_like, 128)


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "astronaut.png"
    cv2.imwrite(str(path), data.astronaut()[..., ::-1])
    return path


@pytest.mark.parametrize("lessons", painted_faces.PAINTERS.values(), ids=painted_faces.PAINTERS)
def test_painters_paint_squares_of_their_size(lessons):
    square = jax.ShapeDtypeStruct((2, lessons.side, lessons.side, 3), np.float32)
    made, _ = jax.eval_shape(lessons.network.init_with_output, jax.random.key(0), square)
    assert made.shape == square.shape


def test_a_pair_differs_in_the_face_alone(photograph):
    real, fake = painted_faces.pair(photograph, GREY, 0)
    assert real.keys() == fake.keys() == {"raw", *painted_faces.CRFS}
    assert real["raw"].shape == fake["raw"].shape == real["c40"].shape
    change = np.abs(real["raw"].astype(int) - fake["raw"]).max(axis=2)
    side = len(change)
    assert change[2 * side // 5 : 3 * side // 5, 2 * side // 5 : 3 * side // 5].mean() > 10
    assert not change[: side // 12].any()
    same = painted_faces.pair(photograph, GREY, 0)
    np.testing.assert_array_equal(next(same)["c40"], real["c40"])
