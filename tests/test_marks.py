"""Where a face looks changed: computed, stored with the detector, and shown."""

import dataclasses
import json

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from data_builders.errors import UserError
from qad_jax import models
from qad_jax.detection.detector import Detector
from qad_jax.detection.marks import Marks
from qad_jax.detection.scoring import Scorer, resized
from qad_jax.evaluation.report import model_card
from qad_jax.models import localiser
from qad_jax.models.layers import normalise
from qad_jax.weights import conversion, model_file, pretrained
from tests import tiny_detector
from tests.test_detection import model
from tests.test_verdict_pages import examined, page_of

MEASURED = {"c23": {"right": 0.8123, "found": 0.5678, "false": 0.1234}}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A model file with a localiser."""
    folder = tmp_path_factory.mktemp("marks")
    plain = model_file.read(tiny_detector.write(folder / "plain.safetensors"))
    network = models.create("resnet_least")
    variables = localiser.extended(network, plain.variables, 32, seed=3)
    variables = localiser.apart(variables["params"], variables["batch_stats"])
    measured = {**plain.description.measured, "localisation": MEASURED}
    path = folder / "marks.safetensors"
    model_file.write(path, variables, dataclasses.replace(plain.description, measured=measured))
    return path, variables


def test_the_logits_of_all_maps_are_averaged_at_the_finest():
    fine = np.array([[[1.0, -2.0], [0.5, 3.0]]])
    coarse = np.array([[[4.0]]])
    expected = 1 / (1 + np.exp(-(fine + 4.0) / 2))
    got = localiser.shares([jnp.asarray(fine, jnp.float32), jnp.asarray(coarse, jnp.float32)])
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_model_file_keeps_it_and_torch_gets_none(file):
    path, variables = file
    read = model_file.read(path)
    jax.tree.map(np.testing.assert_array_equal, read.variables, jax.device_get(variables))
    tensors = safetensors.numpy.load_file(path)
    kernel = variables["localiser"]["map_1"]["kernel"]
    np.testing.assert_array_equal(tensors["localiser.map_1.weight"], np.asarray(kernel).T)
    assert not any("localiser" in key for key in conversion.to_torch(variables, "resnet_least"))


def test_a_training_goes_on_with_that_of_a_file(file):
    path, variables = file
    read = pretrained.read(path, "resnet_least").variables
    begun = localiser.extended(models.create("resnet_least"), read, 32, seed=9)
    assert set(begun) == {"params", "batch_stats"}
    jax.tree.map(
        np.testing.assert_array_equal, begun["params"]["localiser"], variables["localiser"]
    )


@pytest.mark.parametrize("fault", ["missing", "shape", "type"])
def test_one_of_another_model_is_refused(file, tmp_path, fault):
    tensors = safetensors.numpy.load_file(file[0])
    key = "localiser.map_0.weight"
    if fault == "missing":
        del tensors[key]
    elif fault == "shape":
        tensors[key] = tensors[key][:, 1:].copy()
    else:
        tensors[key] = tensors[key].astype(np.int32)
    path = tmp_path / "wrong.safetensors"
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(UserError, match="its localiser is not one of this model"):
        pretrained.read(path, "resnet_least")


def test_the_map_of_a_crop_is_that_of_the_features(file):
    _, variables = file
    network = models.create("resnet_least")
    crop = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    got = Scorer("resnet_least", 32, variables).changed(crop)
    image = normalise(resized(crop, 32)[None], network.normalisation)
    features = network.apply(variables, image, train=False).features[2:4]
    logits = [
        np.asarray(one[0], np.float64) @ np.asarray(variables["localiser"][f"map_{i}"]["kernel"])
        + np.asarray(variables["localiser"][f"map_{i}"]["bias"])
        for i, one in enumerate(features)
    ]
    fine, coarse = (one[..., 0] for one in logits)
    assert (fine.shape, coarse.shape) == ((4, 4), (2, 2))
    coarse = cv2.resize(coarse, (4, 4), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(got, 1 / (1 + np.exp(-(fine + coarse) / 2)), atol=1e-5)


def test_a_detector_shows_it_in_place_of_occlusion(file, monkeypatch):
    described = model_file.read(file[0]).description
    shares = np.array([[0.1, 0.9], [0.2, 0.3]])
    one = examined([0.95] * 4, changed=shares, described=described)
    page = page_of(one)
    assert "Where the face looks changed" in page.text
    assert "A mark is no proof that a place was forged." in page.text
    assert "81 of 100 places that it marks were changed, and it marks 57 of 100" in page.text
    assert "In 12 of 100 real images it marks something, too." in page.text
    assert "What the score depends on" not in page.text
    unmeasured = page_of(examined([0.95] * 4, changed=shares))
    assert "Where the face looks changed" in unmeasured.text
    assert "of 100 places" not in unmeasured.text
    faint = page_of(examined([0.95] * 4, changed=shares / 2))
    assert "No place of the crop of frame 0 looks changed" in faint.text
    assert not any("looks changed" in image["alt"] for image in faint.all("img"))


@pytest.mark.parametrize(
    "stored",
    [
        {"c23": {"right": 2, "found": 0, "false": 0}},
        {"c23": {"right": 10**400, "found": 0, "false": 0}},
        {"c23": {"right": "0.5", "found": 0, "false": 0}},
        {"c23": {"right": 0.5}},
        {"c23": "x"},
        [1],
    ],
)
def test_shares_that_are_none_are_refused(stored):
    with pytest.raises(ValueError, match="the shares of marks"):
        Marks.of({"localisation": stored})
    wrong = model()
    described = dataclasses.replace(wrong.description, measured={"localisation": stored})
    with pytest.raises(UserError, match="the model blue cannot be used: ValueError: the shares"):
        Detector(dataclasses.replace(wrong, description=described))


def test_the_card_tells_how_well_it_marks():
    described = json.loads(json.dumps(MEASURED))
    (heading, (words, table)), *_ = model_card._marks(described).items()
    assert heading == "Where a face was changed"
    assert "half and half" in words
    assert table.splitlines()[-1] == "| c23 | 81.2 | 56.8 | 12.3 |"
    assert model_card._marks({}) == {}
