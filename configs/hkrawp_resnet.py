"""ResNet-50 on NeuralTextures, with the original project's values."""

import ml_collections

from qad_jax import configs


def get_config() -> ml_collections.ConfigDict:
    """ResNet-50 at 224 px, one device, batches of 64 tuples."""
    config = configs.load("common")
    config.dataset.name = "face_forensics/neural_textures"
    return config
