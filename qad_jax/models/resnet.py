"""ResNet in torchvision's geometry (v1.5: a bottleneck's stride sits on its 3x3 convolution).

The parameter tree is torchvision's with two changes, so that a name can be mapped mechanically:

- ``layer1.0.downsample.1`` is ``layer1_0/downsample_1``: a number joins the name before it.
- The leaves are flax's: a convolution or ``fc`` has ``kernel`` (HWIO or IO, torch's ``weight`` is
  OIHW or OI) and ``bias``; batch norm has ``scale`` and ``bias`` in ``params``, ``mean`` and
  ``var`` in ``batch_stats`` (torch: ``weight``, ``bias``, ``running_mean``, ``running_var``).

References:
  He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from qad_jax.models.layers import (
    IMAGENET,
    Conv,
    ModelOutput,
    Normalisation,
    batch_norm,
    classifier,
    global_mean,
    max_pool,
    run_block,
)

# torch draws from a plain normal distribution; flax's he_normal is truncated and uses the fan-in.
_kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
#: Of batch norm.
EPSILON = 1e-5
_norm = partial(batch_norm, momentum=0.9, epsilon=EPSILON)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or a 1x1-3x3-1x1 bottleneck, around a shortcut.

    Attributes:
      width: Channels inside the block.
      features: Channels of the result.
      stride: Step of the block.
      bottleneck: Whether it is a bottleneck; if not, ``features`` equals ``width``.
      dtype: Type of the arithmetic.
      axis_name: Mapped axis of the batch statistics, or None.
    """

    width: int
    features: int
    stride: int
    bottleneck: bool
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps (N, H, W, C) to (N, ceil(H / stride), ceil(W / stride), features)."""
        conv = partial(Conv, kernel_init=_kaiming_normal, dtype=self.dtype)
        norm = partial(_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)

        shortcut = x
        if self.stride > 1 or x.shape[-1] != self.features:
            shortcut = conv(self.features, 1, self.stride, name="downsample_0")(x)
            shortcut = norm(name="downsample_1")(shortcut)

        if self.bottleneck:
            x = nn.relu(norm(name="bn1")(conv(self.width, 1, name="conv1")(x)))
            x = nn.relu(norm(name="bn2")(conv(self.width, 3, self.stride, name="conv2")(x)))
            x = norm(name="bn3")(conv(self.features, 1, name="conv3")(x))
        else:
            x = nn.relu(norm(name="bn1")(conv(self.width, 3, self.stride, name="conv1")(x)))
            x = norm(name="bn2")(conv(self.features, 3, name="conv2")(x))
        return nn.relu(x + shortcut)


class ResNet(nn.Module):
    """ResNet over normalised NHWC images; the defaults are ResNet-50.

    Attributes:
      num_classes: Number of logits.
      dtype: Type of the arithmetic; parameters, statistics, pooled vector and logits are float32.
      axis_name: Mapped axis over which batch norm takes its statistics; None keeps them local.
      remat: Whether the backward pass computes the blocks again, to keep less in memory.
      stage_sizes: Blocks in each of the four stages; all but the first stage begin with stride 2.
      widths: Channels inside the blocks of each stage.
      bottleneck: Bottleneck blocks, which give four times their width, or pairs of 3x3.
      stem_width: Channels after the first convolution.
      stem_kernel: Side of the first convolution.
      stem_stride: Stride of the first convolution.
      stem_pool: Whether a max-pool with stride 2 follows.
      normalisation: Of the images that it expects.
    """

    num_classes: int = 2
    dtype: Any = jnp.float32
    axis_name: str | None = None
    remat: bool = False
    stage_sizes: tuple[int, int, int, int] = (3, 4, 6, 3)
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    bottleneck: bool = True
    stem_width: int = 64
    stem_kernel: int = 7
    stem_stride: int = 2
    stem_pool: bool = True
    normalisation: Normalisation = IMAGENET

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> ModelOutput:
        """Classifies images.

        Args:
          images: (N, H, W, 3), normalised.
          train: Whether batch norm uses, and updates, the statistics of this batch; the
            collection ``batch_stats`` must then be mutable.

        Returns:
          Logits, and as features the outputs of the four stages, the pooled vector, the logits.
        """
        x = Conv(
            self.stem_width,
            self.stem_kernel,
            self.stem_stride,
            kernel_init=_kaiming_normal,
            dtype=self.dtype,
            name="conv1",
        )(images)
        x = _norm(train=train, dtype=self.dtype, axis_name=self.axis_name, name="bn1")(x)
        x = nn.relu(x)
        if self.stem_pool:
            x = max_pool(x)

        maps = []
        for stage, (blocks, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            for block in range(blocks):
                residual = ResidualBlock(
                    width,
                    width * 4 if self.bottleneck else width,
                    stride=2 if stage > 0 and block == 0 else 1,
                    bottleneck=self.bottleneck,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    name=f"layer{stage + 1}_{block}",
                )
                x = run_block(residual, x, train=train, remat=self.remat)
            maps.append(x)

        pooled = global_mean(x)
        logits = classifier(self.num_classes, pooled.shape[-1])(pooled)
        return ModelOutput(logits, (*maps, pooled, logits))
