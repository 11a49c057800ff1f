"""EfficientNet in the geometries of the PyTorch packages ``efficientnet_pytorch`` and ``timm``.

Weights are valid only with the padding that they were trained with. There are three:

- ``efficientnet_pytorch`` pads images of any size as TensorFlow's 'SAME' would pad those of the
  nominal size (240 px for B1).
- ``timm``'s ``efficientnet_b1`` pads symmetrically; its batch norm has torch's own epsilon.
- ``timm``'s ``tf_efficientnet_b1`` pads as TensorFlow's 'SAME' does for the size of the input.
  So do the EfficientNet-Lites, which were trained in TensorFlow.

EfficientNet-Lite is EfficientNet without what small devices compute slowly: no squeeze-and-excite,
ReLU6 in place of swish, and a stem, a head and outer stages that do not grow with the network.

The parameter tree is efficientnet_pytorch's whatever the geometry, with two changes, so that a name
can be mapped mechanically:

- The underscore in front of every name is gone and a number joins the name before it:
  ``_blocks.3._bn1`` is ``blocks_3/bn1``, ``_conv_stem`` is ``conv_stem``, ``_fc`` is ``fc``.
- The leaves are flax's: a convolution or ``fc`` has ``kernel`` (HWIO or IO, torch's ``weight`` is
  OIHW or OI; a depthwise kernel is (k, k, 1, C) for torch's (C, 1, k, k)) and ``bias``; batch norm
  has ``scale`` and ``bias`` in ``params``, ``mean`` and ``var`` in ``batch_stats`` (torch:
  ``weight``, ``bias``, ``running_mean``, ``running_var``).

References:
  Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019.
  EfficientNet-Lite: github.com/tensorflow/tpu, models/official/efficientnet/lite, 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from qad_jax.models.layers import (
    IMAGENET,
    Conv,
    ModelOutput,
    Normalisation,
    Padding,
    batch_norm,
    classifier,
    global_mean,
    run_block,
    same_padding,
    swish,
)

Activation = Callable[[jax.Array], jax.Array]


class Stage(NamedTuple):
    """A sequence of equal blocks; only the first has the stride.

    Attributes:
      blocks: Number of blocks.
      kernel_size: Side of the depthwise windows.
      stride: Step of the first block.
      expand: Factor by which a block widens its input.
      features: Channels of the result.
    """

    blocks: int
    kernel_size: int
    stride: int
    expand: int
    features: int


_B1_STAGES = (
    Stage(2, 3, 1, 1, 16),
    Stage(3, 3, 2, 6, 24),
    Stage(3, 5, 2, 6, 40),
    Stage(4, 3, 2, 6, 80),
    Stage(4, 5, 1, 6, 112),
    Stage(5, 5, 2, 6, 192),
    Stage(2, 3, 1, 6, 320),
)


_LITE0_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def lite_stages(depth: float, width: float) -> tuple[Stage, ...]:
    """The stages of an EfficientNet-Lite: those of Lite0, deeper and wider.

    Args:
      depth: Factor of the numbers of blocks, rounded up; the first and the last stage stay as deep.
      width: Factor of the channels, rounded to a multiple of 8.
    """
    first, *inner, last = _LITE0_STAGES

    def widened(stage: Stage) -> Stage:
        # None of the widths that are in use falls by more than a tenth, where one would round up.
        return stage._replace(features=int(stage.features * width + 4) // 8 * 8)

    deeper = [stage._replace(blocks=math.ceil(stage.blocks * depth)) for stage in inner]
    return tuple(map(widened, (first, *deeper, last)))


class MBConv(nn.Module):
    """Inverted bottleneck: widen, depthwise convolution, squeeze-and-excite, project.

    Attributes:
      features: Channels of the result.
      expand: Factor by which the input is widened; 1 leaves the convolution for it out.
      kernel_size: Side of the depthwise windows.
      stride: Step of the depthwise convolution.
      padding: Padding of the depthwise convolution, as `Conv` has it.
      norm: Makes a batch norm of a name.
      drop_rate: Probability that, in training, a sample goes through the shortcut alone.
      activation: Follows the first two batch norms.
      squeeze_excite: Whether channels are weighed by what the whole map holds.
      dtype: Type of the arithmetic.
    """

    features: int
    expand: int
    kernel_size: int
    stride: int
    padding: Padding | Literal["same"] | None
    norm: Callable[..., nn.BatchNorm]
    drop_rate: float
    activation: Activation
    squeeze_excite: bool
    dtype: Any

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
        """Maps (N, H, W, C) to (N, H', W', features)."""
        conv = partial(Conv, dtype=self.dtype)
        norm = partial(self.norm, train=train)
        channels = inputs.shape[-1]
        wide = channels * self.expand

        x = inputs
        if self.expand > 1:
            x = self.activation(norm(name="bn0")(conv(wide, name="expand_conv")(x)))
        x = conv(
            wide,
            self.kernel_size,
            self.stride,
            padding=self.padding,
            depthwise=True,
            name="depthwise_conv",
        )(x)
        x = self.activation(norm(name="bn1")(x))

        if self.squeeze_excite:
            squeezed = global_mean(x)[:, None, None, :]
            # A quarter of the block's input, not of the widened map.
            squeezed = conv(max(1, channels // 4), use_bias=True, name="se_reduce")(squeezed)
            squeezed = self.activation(squeezed)
            squeezed = conv(wide, use_bias=True, name="se_expand")(squeezed)
            x = nn.sigmoid(squeezed) * x

        x = norm(name="bn2")(conv(self.features, name="project_conv")(x))
        if self.stride == 1 and channels == self.features:
            x = nn.Dropout(self.drop_rate, broadcast_dims=(1, 2, 3), deterministic=not train)(x)
            x = x + inputs
        return x


class EfficientNet(nn.Module):
    """EfficientNet over normalised NHWC images; the defaults are EfficientNet-B1.

    Attributes:
      num_classes: Number of logits.
      dtype: Type of the arithmetic; parameters, statistics, pooled vector and logits are float32.
      axis_name: Mapped axis over which batch norm takes its statistics; None keeps them local.
      remat: Whether the backward pass computes the blocks again, to keep less in memory.
      stages: The runs of blocks.
      feature_blocks: The four blocks, counted from 0, whose outputs are features.
      stem_width: Channels after the first convolution.
      head_width: Channels of the last convolution, which are pooled.
      padding: 'nominal' (efficientnet_pytorch), 'symmetric' or 'same' (timm), see above.
      nominal_size: Side of the images that the nominal padding is computed for.
      momentum: Share of the old running statistics that batch norm keeps.
      epsilon: Of batch norm.
      drop_connect_rate: Stochastic depth: block i of n is dropped at this rate times i / n.
      dropout_rate: Dropout of the pooled vector.
      activation: Follows batch norm.
      squeeze_excite: Whether blocks have squeeze-and-excite.
      normalisation: Of the images that it expects.
    """

    num_classes: int = 2
    dtype: Any = jnp.float32
    axis_name: str | None = None
    remat: bool = False
    stages: tuple[Stage, ...] = _B1_STAGES
    feature_blocks: tuple[int, int, int, int] = (4, 7, 15, 22)
    stem_width: int = 32
    head_width: int = 1280
    padding: Literal["nominal", "symmetric", "same"] = "nominal"
    nominal_size: int = 240
    momentum: float = 0.99
    epsilon: float = 1e-3
    drop_connect_rate: float = 0.2
    dropout_rate: float = 0.2
    activation: Activation = swish
    squeeze_excite: bool = True
    normalisation: Normalisation = IMAGENET

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> ModelOutput:
        """Classifies images.

        Args:
          images: (N, H, W, 3), normalised.
          train: Whether batch norm uses, and updates, the statistics of this batch (the
            collection ``batch_stats`` must then be mutable) and whether dropout and stochastic
            depth act (there must then be a ``dropout`` key).

        Returns:
          Logits, and as features the four maps, the pooled vector before dropout, the logits.
        """
        norm = partial(
            batch_norm,
            momentum=self.momentum,
            epsilon=self.epsilon,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        size = self.nominal_size
        x = Conv(
            self.stem_width,
            3,
            2,
            padding=self._padding(3, 2, size),
            dtype=self.dtype,
            name="conv_stem",
        )(images)
        x = self.activation(norm(train=train, name="bn0")(x))
        size = -(-size // 2)

        maps = []
        total = sum(stage.blocks for stage in self.stages)
        index = 0
        for stage in self.stages:
            for stride in (stage.stride,) + (1,) * (stage.blocks - 1):
                block = MBConv(
                    stage.features,
                    stage.expand,
                    stage.kernel_size,
                    stride,
                    padding=self._padding(stage.kernel_size, stride, size),
                    norm=norm,
                    drop_rate=self.drop_connect_rate * index / total,
                    activation=self.activation,
                    squeeze_excite=self.squeeze_excite,
                    dtype=self.dtype,
                    name=f"blocks_{index}",
                )
                x = run_block(block, x, train=train, remat=self.remat)
                size = -(-size // stride)
                if index in self.feature_blocks:
                    maps.append(x)
                index += 1

        x = Conv(self.head_width, dtype=self.dtype, name="conv_head")(x)
        pooled = global_mean(self.activation(norm(train=train, name="bn1")(x)))
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(pooled)
        logits = classifier(self.num_classes, self.head_width)(x)
        return ModelOutput(logits, (*maps, pooled, logits))

    def _padding(
        self, kernel_size: int, stride: int, size: int
    ) -> Padding | Literal["same"] | None:
        """Padding of a convolution whose input has this size for a nominal image."""
        if self.padding == "nominal":
            return same_padding(kernel_size, stride, size)
        return None if self.padding == "symmetric" else "same"
