"""The QAD training step written plainly in PyTorch, as the other side of `speed.py`.

Runs in a process of its own, under an interpreter that has torch and efficientnet_pytorch, on a GPU
where torch sees one. Reads one JSON object a line from standard input and answers with one:

- ``{"do": "open", "file", "model", "dtype", "compile"}``: takes weights, images and labels from
  an npz file; answers with the two losses of the batch, without dropout.
- ``{"do": "time", "what", "steps"}``: seconds of so many runs of 'forward', 'plain' (no HSIC, no
  AWP), 'step' (HSIC) or 'awp' (HSIC and AWP).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import efficientnet_pytorch
import numpy as np
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from qad_jax import cpu  # needs no jax

# The values of configs/common.py, handed over in the npz file.
Settings = dict[str, Any]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Bottleneck(nn.Module):
    """torchvision's block, by its names."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or channels != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, C, H, W) to (N, 4 width, H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(nn.Module):
    """torchvision's, by its names: a torchvision that does not fit its torch cannot be imported."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for number, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
            stage = []
            for index in range(blocks):
                stage.append(Bottleneck(channels, width, 2 if number and not index else 1))
                channels = 4 * width
            self.add_module(f"layer{number + 1}", nn.Sequential(*stage))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, 2)


def lite0() -> nn.Module:
    """EfficientNet-Lite0: B0 without squeeze-and-excite, with ReLU6 in place of swish."""
    blocks, settings = efficientnet_pytorch.utils.get_model_params(
        "efficientnet-b0", {"num_classes": 2}
    )
    net = efficientnet_pytorch.EfficientNet([b._replace(se_ratio=None) for b in blocks], settings)
    for module in (net, *net._blocks):
        module._swish = nn.ReLU6(inplace=True)
    return net


class Features(nn.Module):
    """A backbone that returns its logits and four maps."""

    def __init__(self, name: str, feature_blocks: Sequence[int]) -> None:
        super().__init__()
        if name == "resnet50":
            self.net = ResNet50()
        elif name == "efficientnet_lite0":
            self.net = lite0()
        else:
            self.net = efficientnet_pytorch.EfficientNet.from_name("efficientnet-b1", num_classes=2)
        self.name, self.feature_blocks = name, feature_blocks

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Maps (N, 3, H, W) to the logits and the maps."""
        net: Any = self.net
        maps = []
        if self.name == "resnet50":
            x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
            for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
                x = stage(x)
                maps.append(x)
            return net.fc(torch.flatten(net.avgpool(x), 1)), maps
        x = net._swish(net._bn0(net._conv_stem(x)))
        for index, block in enumerate(net._blocks):
            rate = net._global_params.drop_connect_rate * index / len(net._blocks)
            x = block(x, drop_connect_rate=rate)
            if index in self.feature_blocks:
                maps.append(x)
        x = net._swish(net._bn1(net._conv_head(x)))
        return net._fc(net._dropout(torch.flatten(net._avg_pooling(x), 1))), maps


def kernels(maps: torch.Tensor, sigma: float) -> list[torch.Tensor]:
    """U-centred unit kernel matrices of `(m, Q, ...)` maps, one a quality."""
    m = len(maps)
    diagonal = torch.eye(m, dtype=torch.bool, device=maps.device)
    found = []
    for quality in maps.flatten(2).float().unbind(1):
        quality = quality - quality.mean(0).detach()
        gram = quality @ quality.T
        squares = gram.diagonal()
        distances = (squares[:, None] + squares[None] - 2 * gram).clamp_min(0)
        kernel = torch.expm1(-distances / (2 * sigma**2 * quality.shape[1]))
        kernel = kernel.masked_fill(diagonal, 0)
        rows = kernel.sum(0) / (m - 2)
        kernel = kernel - rows[:, None] - rows[None] + rows.sum() / (m - 1)
        kernel = kernel.masked_fill(diagonal, 0)
        found.append(kernel / kernel.norm())
    return found


class Twin:
    """One model, its batch and its optimiser."""

    def __init__(self, file: str, model: str, dtype: str, compiled: bool) -> None:
        arrays = dict(np.load(file))
        self.settings: Settings = json.loads(str(arrays.pop("settings")))
        self.images = torch.from_numpy(arrays.pop("images")).to(DEVICE)
        self.labels = torch.from_numpy(arrays.pop("labels")).long().to(DEVICE)
        self.model = Features(model, self.settings["feature_blocks"])
        state = {name: torch.from_numpy(value) for name, value in arrays.items()}
        missing, unexpected = self.model.net.load_state_dict(state, strict=False)
        if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
            raise ValueError(f"weights do not fit: {missing} {unexpected}")
        self.model.to(DEVICE, memory_format=torch.channels_last)
        self.apply = torch.compile(self.model) if compiled else self.model
        self.half = dtype == "bfloat16"
        self.optimiser = torch.optim.Adam(
            self.model.parameters(),
            lr=self.settings["learning_rate"],
            weight_decay=self.settings["weight_decay"],
            fused=DEVICE != "cpu",
        )
        self.mean, self.std = (
            255 * torch.tensor(self.settings[name], device=DEVICE) for name in ("mean", "std")
        )

    def _run(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        flat = self.images.flatten(0, 1)
        images = ((flat.float() - self.mean) / self.std).permute(0, 3, 1, 2)  # NHWC in memory
        autocast = torch.autocast(DEVICE, torch.bfloat16) if self.half else contextlib.nullcontext()
        with autocast:
            return self.apply(images)

    def losses(self, with_hsic: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy and HSIC of the batch."""
        logits, maps = self._run()
        tuples, qualities = self.images.shape[:2]
        labels = self.labels.repeat_interleave(qualities)
        entropy = functional.cross_entropy(logits.float(), labels)
        total = torch.zeros((), device=DEVICE)
        for layer, weight in zip(maps, self.settings["layer_weights"], strict=False):
            if with_hsic and weight:
                found = kernels(layer.unflatten(0, (tuples, qualities)), self.settings["sigma"])
                pairs = [(a * b).sum() for a, b in itertools.combinations(found, 2)]
                total = total + weight * torch.stack(pairs).mean()
        return entropy, total

    def _gradients(self, with_hsic: bool) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        entropy, dependence = self.losses(with_hsic)
        (entropy - self.settings["hsic_weight"] * dependence).backward()

    def step(self, *, with_hsic: bool, awp: bool) -> None:
        """One update of the weights."""
        self.model.train()
        self._gradients(with_hsic)
        if awp:
            clean: list[tuple[nn.Parameter, torch.Tensor]] = []
            with torch.no_grad():
                for weight in self.model.parameters():
                    if weight.ndim > 1 and weight.grad is not None:
                        clean.append((weight, weight.detach().clone()))
                        scale = self.settings["gamma"] * weight.norm() / weight.grad.norm()
                        weight.add_(scale * weight.grad)
            self._gradients(with_hsic)
            with torch.no_grad():
                for weight, value in clean:
                    weight.copy_(value)
        self.optimiser.step()

    def forward(self) -> None:
        """Prediction, as in evaluation."""
        self.model.eval()
        with torch.inference_mode():
            self._run()

    def check(self) -> list[float]:
        """The losses of the batch by its own statistics, without dropout and stochastic depth."""
        self.model.eval()
        norms = [m for m in self.model.modules() if isinstance(m, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.train()
            norm.momentum = 0.0
        with torch.no_grad():
            values = [float(value) for value in self.losses()]
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return values


def wait() -> None:
    """Waits until the device has done what it was given."""
    if DEVICE != "cpu":
        torch.cuda.synchronize()


def main() -> None:
    """Answers until the input ends."""
    cpu.keep_freed_memory()  # as for the other side: it speeds torch up, too
    torch.manual_seed(0)
    # What a GPU does fastest, as on the other side: products in TF32, and kernels that were tried.
    if DEVICE != "cpu":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    twin: Twin | None = None
    for line in sys.stdin:
        ask = json.loads(line)
        if ask["do"] == "open":
            twin = Twin(ask["file"], ask["model"], ask["dtype"], ask["compile"])
            answer: Any = {"losses": twin.check(), "version": torch.__version__}
        else:
            assert twin is not None, "open first"
            works: dict[str, Callable[[], None]] = {
                "forward": twin.forward,
                "plain": lambda t=twin: t.step(with_hsic=False, awp=False),
                "step": lambda t=twin: t.step(with_hsic=True, awp=False),
                "awp": lambda t=twin: t.step(with_hsic=True, awp=True),
            }
            wait()
            begin = time.perf_counter()
            for _ in range(ask["steps"]):
                works[ask["what"]]()
            wait()
            answer = {"seconds": time.perf_counter() - begin}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
