"""The backbones, by name.

Example::

    model = create("resnet50")
    variables = model.init(jax.random.key(0), images, train=False)
    output, updates = model.apply(
        variables,
        images,  # (N, H, W, 3), normalised
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": key},  # used by the EfficientNets alone
    )
    output.logits  # (N, 2), float32
    output.features  # four maps, the pooled vector, the logits
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from data_builders.errors import nearest
from data_builders.patches import jax_cache_entries
from qad_jax.models.efficientnet import EfficientNet, Stage, lite_stages
from qad_jax.models.layers import ModelOutput, Normalisation
from qad_jax.models.resnet import ResNet

_efficientnet_tiny = partial(
    EfficientNet,
    stages=(
        Stage(2, 3, 1, 1, 4),
        Stage(1, 3, 2, 6, 8),
        Stage(2, 5, 2, 6, 8),
    ),
    feature_blocks=(1, 2, 3, 4),
    stem_width=8,
    head_width=32,
)
# How timm's two differ from efficientnet_pytorch's; their momentum is torch's own.
_TIMM: dict[str, Any] = {"padding": "symmetric", "momentum": 0.9, "epsilon": 1e-5}
_TIMM_TF: dict[str, Any] = {"padding": "same", "momentum": 0.9}

# What EfficientNet-Lite leaves out, and the constants (x - 127) / 128 of its weights.
_LITE: dict[str, Any] = {
    "padding": "same",
    "activation": nn.relu6,
    "squeeze_excite": False,
    "normalisation": Normalisation((127 / 255,) * 3, (128 / 255,) * 3),
}

_MODELS: dict[str, Callable[..., nn.Module]] = {
    "resnet50": ResNet,
    "efficientnet_b1": EfficientNet,  # efficientnet_pytorch's
    "timm_efficientnet_b1": partial(EfficientNet, **_TIMM),  # timm's efficientnet_b1
    "tf_efficientnet_b1": partial(EfficientNet, **_TIMM_TF),  # timm's tf_efficientnet_b1
    "efficientnet_lite0": partial(
        EfficientNet, stages=lite_stages(1.0, 1.0), feature_blocks=(2, 4, 10, 15), **_LITE
    ),
    "efficientnet_lite1": partial(
        EfficientNet, stages=lite_stages(1.1, 1.0), feature_blocks=(3, 6, 14, 20), **_LITE
    ),
    "efficientnet_lite2": partial(
        EfficientNet, stages=lite_stages(1.2, 1.1), feature_blocks=(3, 6, 14, 20), **_LITE
    ),
    # From scratch on a CPU, images of 64 to 96 px: ResNet-18 at a quarter of its width, with a stem
    # that halves the image once, not twice. Pairs of 3x3 train faster there than bottlenecks.
    "resnet_small": partial(
        ResNet,
        stage_sizes=(2, 2, 2, 2),
        widths=(16, 32, 64, 128),
        bottleneck=False,
        stem_width=16,
        stem_kernel=3,
        stem_stride=2,
        stem_pool=False,
    ),
    # For tests: every kind of block, compiled in a second or two.
    "resnet_tiny": partial(
        ResNet,
        stage_sizes=(2, 1, 1, 1),
        widths=(4, 4, 6, 8),
        stem_width=8,
    ),
    # The least network of four stages, for tests of all that is around a network.
    "resnet_least": partial(
        ResNet,
        stage_sizes=(1, 1, 1, 1),
        widths=(4, 4, 6, 8),
        bottleneck=False,
        stem_width=4,
        stem_kernel=3,
        stem_pool=False,
    ),
    "efficientnet_tiny": _efficientnet_tiny,
    "efficientnet_lite_tiny": partial(_efficientnet_tiny, **_LITE),
    "timm_efficientnet_tiny": partial(_efficientnet_tiny, **_TIMM),
    "tf_efficientnet_tiny": partial(_efficientnet_tiny, **_TIMM_TF),
}

NAMES: tuple[str, ...] = tuple(_MODELS)

__all__ = ["NAMES", "ModelOutput", "create"]


def create(
    name: str,
    num_classes: int = 2,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
    remat: bool = False,
) -> nn.Module:
    """Makes a backbone with its classification head.

    Args:
      name: One of ``NAMES``.
      num_classes: Number of logits.
      dtype: Type of the arithmetic, float32 or bfloat16. Parameters, batch statistics, the pooled
        vector and the logits are float32 in either case.
      axis_name: Mapped axis over which batch norm takes its statistics; None keeps them per
        device.
      remat: Whether the backward pass computes each block again instead of keeping what happened
        inside it.

    Returns:
      A module whose ``apply(variables, images, train=...)`` gives a ``ModelOutput``. The head is
      its top-level module ``fc``.

    Raises:
      ValueError: If there is no model of that name.
    """
    if name not in _MODELS:
        raise ValueError(f"no model is called {name!r}: {nearest(name, NAMES)}")
    jax_cache_entries.mend()  # what is compiled of it is kept between commands
    return _MODELS[name](num_classes=num_classes, dtype=dtype, axis_name=axis_name, remat=remat)
