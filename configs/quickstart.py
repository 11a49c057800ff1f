"""Minutes on two CPU cores, from nothing: a small ResNet on rendered faces."""

import ml_collections

from qad_jax import configs


def get_config() -> ml_collections.ConfigDict:
    """A small ResNet at 64 px, trained from scratch on `synthetic_faces`."""
    config = configs.load("common")
    config.model.name = "resnet_small"
    config.image_size = 64
    config.batch_size = 16
    config.num_epochs = 4
    config.head_only_epochs = 0  # a random backbone is nothing to build on
    config.learning_rate = 2e-3
    config.one_cycle.pct_start = 0.2
    config.awp.warmup_epochs = 3
    return config
