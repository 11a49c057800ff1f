"""The graph of a detector in ONNX, for runtimes that know neither JAX nor Python.

It is written node by node from the structure of the two families of models. The one kept converter
from JAX, jax2onnx, cannot be installed beside this package: its release 0.17.1 wants an older orbax
(below 0.11.37), and brings equinox, netron and huggingface-hub along. It would also turn each
depthwise convolution, which is a sum of shifted maps here, into dozens of nodes in place of one.

Maps are NCHW, as operators of ONNX have them, and kernels are therefore OIHW. The input is NHWC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np
import numpy.typing as npt
import onnx
from flax import traverse_util
from onnx import TensorProto, helper, numpy_helper

from qad_jax import __version__
from qad_jax.models import resnet
from qad_jax.models.efficientnet import EfficientNet, Stage
from qad_jax.models.layers import HEAD, Normalisation, same_padding, swish
from qad_jax.models.resnet import ResNet

#: Old enough for every runtime of the last years; it has all that is used here.
OPSET, IR_VERSION = 17, 8
IMAGES, PROBABILITY, LOGITS = "images", "probability", "logits"
_BATCH = "n"
# Of ReLU6: names of the constants, and their values.
_BOUNDS = {"zero": 0, "six": 6}

Array = npt.NDArray[Any]
_Size = tuple[int, int]  # height and width of a map
_Padding = tuple[tuple[int, int], tuple[int, int]]


class Graph:
    """Nodes and weights of a graph that grows."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        """Makes an empty graph.

        Args:
          variables: `{'params', 'batch_stats'}` of the model.
        """
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        leaves = traverse_util.flatten_dict(variables, sep="/")
        self._leaves = {path.partition("/")[2]: np.asarray(leaf) for path, leaf in leaves.items()}
        #: Weights that no node has taken yet.
        self.left = set(self._leaves)

    def node(self, operator: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Adds a node with one output, and returns the name of both."""
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: Array) -> str:
        """Adds a constant, and returns its name."""
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def has(self, name: str) -> bool:
        """Whether the model has a convolution of this name."""
        return f"{name}/kernel" in self._leaves

    def kernel_shape(self, name: str) -> tuple[int, ...]:
        """Height, width, inputs for each filter and outputs of a convolution."""
        shape: tuple[int, ...] = self._leaves[f"{name}/kernel"].shape
        return shape

    def weight(self, path: str) -> str:
        """Adds a leaf of the variables as a constant, kernels in the layout of ONNX."""
        self.left.remove(path)
        leaf = self._leaves[path].astype(np.float32)
        return self.constant(path, leaf.transpose(3, 2, 0, 1) if leaf.ndim == 4 else leaf)

    def conv(
        self,
        x: str,
        name: str,
        stride: int = 1,
        padding: _Padding | None = None,
        *,
        depthwise: bool = False,
    ) -> str:
        """Adds a convolution, see `qad_jax.models.layers.Conv`.

        Args:
          x: Its input.
          name: Of the module.
          stride: Step in both directions.
          padding: Zeros before and after, of each axis; None: half a window.
          depthwise: Whether each channel has a filter of its own.
        """
        side, _, _, features = self.kernel_shape(name)
        (top, bottom), (left, right) = padding or ((side // 2, side // 2),) * 2
        weights = [self.weight(f"{name}/kernel")]
        if f"{name}/bias" in self._leaves:
            weights.append(self.weight(f"{name}/bias"))
        return self.node(
            "Conv",
            x,
            *weights,
            name=name,
            kernel_shape=[side, side],
            strides=[stride, stride],
            pads=[top, left, bottom, right],
            group=features if depthwise else 1,
        )

    def norm(self, x: str, name: str, epsilon: float) -> str:
        """Adds a batch norm with the running statistics."""
        weights = [self.weight(f"{name}/{leaf}") for leaf in ("scale", "bias", "mean", "var")]
        return self.node("BatchNormalization", x, *weights, name=name, epsilon=epsilon)

    def relu(self, x: str) -> str:
        """Adds a ReLU."""
        return self.node("Relu", x, name=f"{x}/relu")


def build(
    model: nn.Module, variables: Mapping[str, Any], size: _Size, about: Mapping[str, str]
) -> bytes:
    """Writes a model as ONNX: from crops in bytes to the probability of fake.

    Args:
      model: A backbone with two logits, see `qad_jax.models.create`.
      variables: `{'params', 'batch_stats'}` of it.
      size: Height and width of the crops, in pixels.
      about: What the metadata of the file say.

    Returns:
      The file. Its input is `images`, `(n, height, width, 3)` uint8 RGB for any n; its outputs are
      `probability`, `(n,)`, of fake, and `logits`, `(n, 2)`, of real and fake, float32.

    Raises:
      ValueError: The model is of another family, or has parts that are not known here.
    """
    graph = Graph(variables)
    if isinstance(model, ResNet):
        x = _resnet(graph, model, _normalised(graph, model.normalisation))
    elif isinstance(model, EfficientNet):
        x = _efficientnet(graph, model, _normalised(graph, model.normalisation), size)
    else:
        raise ValueError(f"{type(model).__name__} cannot be written as ONNX")
    _head(graph, x)
    if graph.left:
        raise ValueError(f"weights of no known part: {', '.join(sorted(graph.left))}")
    made = helper.make_graph(
        graph.nodes,
        "detector",
        [_value(IMAGES, TensorProto.UINT8, [_BATCH, *size, 3])],
        [
            _value(PROBABILITY, TensorProto.FLOAT, [_BATCH]),
            _value(LOGITS, TensorProto.FLOAT, [_BATCH, 2]),
        ],
        graph.constants,
    )
    file = helper.make_model(
        made,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="qad-jax",
        producer_version=__version__,
    )
    helper.set_model_props(file, dict(about))
    data: bytes = file.SerializeToString(deterministic=True)
    return data


def _value(name: str, kind: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _normalised(graph: Graph, constants: Normalisation) -> str:
    """From bytes, NHWC, to the input of a backbone, see `qad_jax.models.layers.normalise`."""
    mean, std = (255 * np.asarray(constant, np.float32) for constant in constants)
    x = graph.node("Cast", IMAGES, name="float", to=TensorProto.FLOAT)
    x = graph.node("Sub", x, graph.constant("mean", mean), name="centred")
    x = graph.node("Div", x, graph.constant("std", std), name="normalised")
    return graph.node("Transpose", x, name="channels_first", perm=[0, 3, 1, 2])


def _head(graph: Graph, x: str) -> None:
    """From the last map to both outputs."""
    x = graph.node("GlobalAveragePool", x, name="averaged")
    x = graph.node("Flatten", x, name="pooled")
    weights = [graph.weight(f"{HEAD}/{leaf}") for leaf in ("kernel", "bias")]
    logits = graph.node("Gemm", x, *weights, name=LOGITS)
    both = graph.node("Softmax", logits, name="probabilities", axis=1)
    fake = graph.constant("fake", np.array(1, np.int64))
    graph.node("Gather", both, fake, name=PROBABILITY, axis=1)


def _resnet(graph: Graph, model: ResNet, x: str) -> str:
    x = graph.conv(x, "conv1", model.stem_stride)
    x = graph.relu(graph.norm(x, "bn1", resnet.EPSILON))
    if model.stem_pool:
        window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        x = graph.node("MaxPool", x, name="maxpool", **window)
    for stage, blocks in enumerate(model.stage_sizes):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _residual(graph, x, f"layer{stage + 1}_{block}", stride, model.bottleneck)
    return x


def _residual(graph: Graph, x: str, name: str, stride: int, bottleneck: bool) -> str:
    shortcut = x
    if graph.has(f"{name}/downsample_0"):
        shortcut = graph.conv(x, f"{name}/downsample_0", stride)
        shortcut = graph.norm(shortcut, f"{name}/downsample_1", resnet.EPSILON)
    strides = (1, stride, 1) if bottleneck else (stride, 1)
    for index, step in enumerate(strides, start=1):
        x = graph.conv(x, f"{name}/conv{index}", step)
        x = graph.norm(x, f"{name}/bn{index}", resnet.EPSILON)
        if index < len(strides):
            x = graph.relu(x)
    return graph.relu(graph.node("Add", x, shortcut, name=f"{name}/sum"))


def _efficientnet(graph: Graph, model: EfficientNet, x: str, size: _Size) -> str:
    if model.activation is nn.relu6:
        for name, bound in _BOUNDS.items():
            graph.constant(name, np.array(bound, np.float32))
    if model.padding == "nominal":
        size = (model.nominal_size, model.nominal_size)
    x = graph.conv(x, "conv_stem", 2, _padding(model, 3, 2, size))
    x = _activated(graph, model, graph.norm(x, "bn0", model.epsilon))
    size = _strided(size, 2)
    index = 0
    for stage in model.stages:
        for stride in (stage.stride,) + (1,) * (stage.blocks - 1):
            x = _inverted(graph, model, stage, x, f"blocks_{index}", stride, size)
            size = _strided(size, stride)
            index += 1
    x = graph.norm(graph.conv(x, "conv_head"), "bn1", model.epsilon)
    return _activated(graph, model, x)


def _inverted(
    graph: Graph, model: EfficientNet, stage: Stage, x: str, name: str, stride: int, size: _Size
) -> str:
    """A block, see `qad_jax.models.efficientnet.MBConv`, of a map of this size."""
    inputs = x
    if graph.has(f"{name}/expand_conv"):
        x = graph.norm(graph.conv(x, f"{name}/expand_conv"), f"{name}/bn0", model.epsilon)
        x = _activated(graph, model, x)
    padding = _padding(model, stage.kernel_size, stride, size)
    x = graph.conv(x, f"{name}/depthwise_conv", stride, padding, depthwise=True)
    x = _activated(graph, model, graph.norm(x, f"{name}/bn1", model.epsilon))
    if model.squeeze_excite:
        squeezed = graph.node("GlobalAveragePool", x, name=f"{name}/averaged")
        squeezed = _activated(graph, model, graph.conv(squeezed, f"{name}/se_reduce"))
        squeezed = graph.conv(squeezed, f"{name}/se_expand")
        weight = graph.node("Sigmoid", squeezed, name=f"{name}/channel_weights")
        x = graph.node("Mul", x, weight, name=f"{name}/excited")
    x = graph.norm(graph.conv(x, f"{name}/project_conv"), f"{name}/bn2", model.epsilon)
    # The depthwise kernel has as many outputs as the block is wide.
    channels = graph.kernel_shape(f"{name}/depthwise_conv")[3] // stage.expand
    if stride == 1 and channels == stage.features:
        x = graph.node("Add", x, inputs, name=f"{name}/sum")
    return x


def _strided(size: _Size, stride: int) -> _Size:
    height, width = size
    return -(-height // stride), -(-width // stride)


def _padding(model: EfficientNet, side: int, stride: int, size: _Size) -> _Padding | None:
    if model.padding == "symmetric":
        return None
    height, width = size
    return same_padding(side, stride, height), same_padding(side, stride, width)


def _activated(graph: Graph, model: EfficientNet, x: str) -> str:
    if model.activation is nn.relu6:
        return graph.node("Clip", x, *_BOUNDS, name=f"{x}/relu6")
    if model.activation in (swish, nn.swish):
        gate = graph.node("Sigmoid", x, name=f"{x}/gate")
        return graph.node("Mul", x, gate, name=f"{x}/swish")
    raise ValueError(f"the activation {model.activation} cannot be written as ONNX")
