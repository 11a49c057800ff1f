"""The parts of both backbones: convolution, batch norm, pooling, and their output.

Parameters are float32, and convolution kernels are HWIO under the name ``kernel``. The ``dtype`` of
a module is that of its arithmetic. Each model says how it pads: flax's ``'SAME'``, which is
TensorFlow's, differs from torch's symmetric padding at every stride of 2, and with the wrong one,
converted weights would be off by a pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from qad_jax.models.convolution import convolve
from qad_jax.models.depthwise import Padding, depthwise

Init = Callable[..., jax.Array]

#: Top-level module of every backbone that turns the pooled feature into logits.
HEAD = "fc"
#: The six features of a model.
LAYERS = ("stage1", "stage2", "stage3", "stage4", "pooled", "logits")


class Normalisation(NamedTuple):
    """How images become the input of a model: ``(x / 255 - mean) / std`` for each channel.

    Weights are valid only with the constants that they were trained with.

    Attributes:
      mean: Red, green and blue, of values from 0 to 1.
      std: The same.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


#: Mean and standard deviation of ImageNet, which torchvision and its followers train with.
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def normalise(images: jax.Array, constants: Normalisation = IMAGENET) -> jax.Array:
    """Normalises uint8 images on the device, as a backbone expects: `(x / 255 - mean) / std`."""
    mean, std = (255 * jnp.asarray(constant, jnp.float32) for constant in constants)
    return (images.astype(jnp.float32) - mean) / std


class ModelOutput(NamedTuple):
    """The output of every model.

    Attributes:
      logits: (N, num_classes), float32.
      features: Six arrays from shallow to deep: four maps (N, H, W, C), the pooled vector (N, C)
        and the logits (N, num_classes).
    """

    logits: jax.Array
    features: tuple[jax.Array, ...]


def torch_uniform(fan_in: int) -> Init:
    """Makes torch's default initializer of linear and convolution layers, biases included.

    Args:
      fan_in: Number of inputs that one output of the layer sums over.

    Returns:
      Initializer that draws from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
    """
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def same_padding(kernel_size: int, stride: int, size: int) -> Padding:
    """TensorFlow's 'SAME' padding of one axis.

    Args:
      kernel_size: Window length.
      stride: Step of the window.
      size: Length of the axis that the padding is computed for.

    Returns:
      Pixels before and after; the odd one goes after.
    """
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


class Conv(nn.Module):
    """A convolution with square windows over NHWC maps.

    Attributes:
      features: Output channels.
      kernel_size: Side of the window.
      stride: Step in both directions.
      padding: Pixels before and after, the same for both axes; None pads ``kernel_size // 2`` on
        either side; 'same' pads each axis as TensorFlow would for the size of the input.
      depthwise: Whether each channel has a filter of its own; the kernel is (k, k, 1, features).
      use_bias: Whether to add a bias.
      kernel_init: Initializer of the kernel; None is torch's default, which the bias always has.
      dtype: Type of the arithmetic and of the result.
    """

    features: int
    kernel_size: int = 1
    stride: int = 1
    padding: Padding | Literal["same"] | None = None
    depthwise: bool = False
    use_bias: bool = False
    kernel_init: Init | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolves.

        Args:
          x: (N, H, W, C).

        Returns:
          (N, H', W', features).

        Raises:
          ValueError: If a depthwise convolution is asked to change the number of channels.
        """
        channels = x.shape[-1]
        if self.depthwise and channels != self.features:
            raise ValueError(f"a depthwise convolution of {channels} channels gives {channels}")
        side = self.kernel_size
        shape = (side, side, 1 if self.depthwise else channels, self.features)
        default_init = torch_uniform(side * side * shape[2])
        kernel = self.param("kernel", self.kernel_init or default_init, shape, jnp.float32)
        x = x.astype(self.dtype)
        if self.padding == "same":
            height, width = (same_padding(side, self.stride, size) for size in x.shape[1:3])
            x = jnp.pad(x, ((0, 0), height, width, (0, 0)))
            pad = (0, 0)
        else:
            pad = (side // 2, side // 2) if self.padding is None else self.padding

        if self.depthwise:
            x = depthwise(x, kernel[:, :, 0], self.stride, pad)
        else:
            x = convolve(x, kernel, self.stride, pad)
        if self.use_bias:
            bias = self.param("bias", default_init, (self.features,), jnp.float32)
            x = x + bias.astype(self.dtype)
        return x


def swish(x: jax.Array) -> jax.Array:
    """``x * sigmoid(x)``, computed in float32 and returned in the type of ``x``.

    In 16 bits, XLA for CPU would round after each operation, which takes twice the time. The
    backward pass keeps ``x`` alone.

    Args:
      x: Of any shape.
    """
    if x.dtype == jnp.float32:
        return nn.swish(x)
    result: jax.Array = _swish(x)
    return result


@jax.custom_vjp
def _swish(x: jax.Array) -> jax.Array:
    return nn.swish(x.astype(jnp.float32)).astype(x.dtype)


def _swish_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _swish(x), x


def _swish_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    _, pull = jax.vjp(nn.swish, x.astype(jnp.float32))
    (result,) = pull(gradient.astype(jnp.float32))
    return (result.astype(x.dtype),)


_swish.defvjp(_swish_forward, _swish_backward)


def max_pool(x: jax.Array) -> jax.Array:
    """3x3 max-pooling with stride 2 and one pixel of -inf around, as torch has it.

    It takes maxima of strided slices, of rows and then of columns: on CPU, the gradient of
    ``flax.linen.max_pool`` takes three to seven times longer. Equal maxima share the gradient. In
    16 bits, XLA for CPU would round it after each operation, which takes five times longer: there,
    it is float32 inside.

    Args:
      x: (N, H, W, C).

    Returns:
      (N, ceil(H / 2), ceil(W / 2), C).
    """
    if x.dtype == jnp.float32:
        return _maxima(x)
    result: jax.Array = lax.platform_dependent(
        x,
        cpu=lambda x: _maxima(x.astype(jnp.float32)).astype(x.dtype),
        default=_maxima,
    )
    return result


def _maxima(x: jax.Array) -> jax.Array:
    rows, columns = (x.shape[1] + 1) // 2, (x.shape[2] + 1) // 2
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    first, middle, last = (x[:, i : i + 2 * rows - 1 : 2] for i in range(3))
    x = jnp.maximum(jnp.maximum(first, middle), last)
    first, middle, last = (x[:, :, i : i + 2 * columns - 1 : 2] for i in range(3))
    return jnp.maximum(jnp.maximum(first, middle), last)


def batch_norm(
    *,
    train: bool,
    momentum: float,
    epsilon: float,
    dtype: Any,
    axis_name: str | None,
    name: str,
) -> nn.BatchNorm:
    """Batch norm over N, H and W, with float32 statistics whatever the ``dtype``.

    Args:
      train: Whether to use (and store) the statistics of the batch.
      momentum: Share of the old running statistics that is kept (torch counts the new share).
      epsilon: Added to the variance.
      dtype: Type of the result.
      axis_name: Mapped axis over which the statistics are those of all devices; None keeps them
        per device.
      name: Name in the parameter tree.

    Returns:
      A module of the parent that is being traced.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=momentum,
        epsilon=epsilon,
        dtype=dtype,
        axis_name=axis_name,
        name=name,
    )


def run_block(block: nn.Module, x: jax.Array, *, train: bool, remat: bool) -> jax.Array:
    """Calls a block of a model.

    The barrier makes XLA keep the output. Without it, XLA would compute the output again from the
    outputs of all the blocks before, wherever it is used.

    Args:
      block: A module of the parent that is being traced.
      x: Its input.
      train: Given to the block.
      remat: Whether to keep only the input for the backward pass, which then computes the block
        again: less memory, more time.

    Returns:
      The block's output, the same in either case.
    """

    def run(block: nn.Module, x: jax.Array) -> jax.Array:
        output: jax.Array = block(x, train=train)
        return output

    return lax.optimization_barrier((nn.remat(run) if remat else run)(block, x))


def global_mean(x: jax.Array) -> jax.Array:
    """Averages over the positions of a map, in float32.

    Args:
      x: (N, H, W, C).

    Returns:
      (N, C), float32.
    """
    return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


def classifier(num_classes: int, fan_in: int) -> nn.Dense:
    """The linear head, named ``fc`` in every model and float32 in every dtype.

    Args:
      num_classes: Number of logits.
      fan_in: Length of the pooled vector.

    Returns:
      A module of the parent that is being traced: (N, fan_in) to (N, num_classes).
    """
    init = torch_uniform(fan_in)
    return nn.Dense(num_classes, dtype=jnp.float32, kernel_init=init, bias_init=init, name=HEAD)
