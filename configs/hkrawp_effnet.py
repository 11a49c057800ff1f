"""EfficientNet-B1 on NeuralTextures, with the original project's values."""

import ml_collections

from qad_jax import configs


def get_config() -> ml_collections.ConfigDict:
    """EfficientNet-B1 at 240 px, batches of 32 tuples (on four devices originally)."""
    config = configs.load("common")
    config.dataset.name = "face_forensics/neural_textures"
    config.model.name = "efficientnet_b1"
    config.image_size = 240
    config.batch_size = 32
    config.awp.gamma = 0.006
    return config
