"""The shipped detector: EfficientNet-Lite0 on `self_blended`, from ImageNet's weights.

What a processor can learn in a few hours comes in two runs: one at 128 px, which sees three times
as many images in the same time, then one of full size that begins with its weights
(`--config.model.pretrained=RUN`). See `weights/README.md`.
"""

import ml_collections

from qad_jax import configs


def get_config() -> ml_collections.ConfigDict:
    """A fake beside its original, where it was changed, and averaged weights, at 224 px."""
    config = configs.load("common")
    config.model.name = "efficientnet_lite0"
    config.model.pretrained = "imagenet"
    config.dataset.name = "self_blended"
    config.image_size = 224
    config.qualities_at_once = 1
    config.batch_size = 48
    config.sampling = "twins"
    config.localise.weight = 1.0
    config.augment.crop = 0.8
    config.augment.colour = 0.2
    config.augment.lens = 0.2
    config.augment.turn = 15.0
    config.augment.warp = 0.015
    config.augment.overlay = 0.25
    config.num_epochs = 3
    config.head_only_epochs = 0
    config.learning_rate = 5e-4
    config.ema_decay = 0.995
    config.awp.gamma = 0.0
    config.hsic.weight = 0.0
    config.checkpoint_every_steps = 100
    return config
