"""ResNet-50 on NeuralTextures, with the original project's values."""

import ml_collections

from configs import common


def get_config() -> ml_collections.ConfigDict:
    """ResNet-50 at 224 px, one device, batches of 64 tuples."""
    config = common.get_config()
    config.dataset.name = "face_forensics/neural_textures"
    return config
