"""A model file whose network is as small as one can be, with weights that nobody has trained."""

import dataclasses

import jax
import numpy as np

from data_builders.faces import Detected
from qad_jax import models
from qad_jax.weights import model_file
from tests.test_detection import model


def write(path, sources=()):
    """Writes it; every description is one that a real model file could have."""
    network = models.create("resnet_least")
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), image)
    draw = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda leaf: np.float32(draw.normal(0.05, 0.3, leaf.shape)),
        {"params": shapes["params"]},
    )
    variables["batch_stats"] = jax.tree.map(
        lambda leaf: np.float32(draw.uniform(0.5, 1.5, leaf.shape)), shapes["batch_stats"]
    )
    described = dataclasses.replace(
        model().description,
        crop=Detected().recipe,
        normalisation={
            name: list(values) for name, values in network.normalisation._asdict().items()
        },
        sources=sources,
    )
    model_file.write(path, variables, described)
    return path
