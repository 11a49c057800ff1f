"""Writes torch_<model>.npz: what torch's own ResNet and EfficientNet give for tiny models.

The reference code is torchvision's and efficientnet_pytorch's; the tests need neither. In an
environment of its own:

    pip install torch==2.13.0 numpy pillow
    pip install --no-deps torchvision==0.28.0 efficientnet_pytorch==0.7.1
    python tests/data/make_torch_fixtures.py

With qad-jax and its test extra installed beside them, ``--full`` compares ResNet-50 and
EfficientNet-B1 at full size and writes nothing.

Keys of a fixture, in torch's names and layouts:

    state/NAME            the weights and statistics before anything runs
    images_CASE           uint8 (N, H, W, 3); the input is images / 64 - 2
    eval_CASE/0..5        the six features in eval mode, maps NHWC
    train/0..5            the same in train mode, images_odd
    train_state/NAME      running statistics after that pass
    count/NAME            values per channel that went into each batch norm
    grad/NAME             gradient of the mean cross-entropy of that pass, labels 0 and 1
"""

import argparse
import pathlib
import sys
import types

import numpy as np
import torch
from torch import nn

# A torchvision from PyPI looks here for operators that only exist beside its own torch build. The
# models need none of them.
sys.modules["torchvision._meta_registrations"] = types.ModuleType("_meta_registrations")

import efficientnet_pytorch  # noqa: E402
import torchvision  # noqa: E402
from efficientnet_pytorch.utils import BlockArgs, Conv2dStaticSamePadding  # noqa: E402
from torchvision.models.resnet import BasicBlock, Bottleneck  # noqa: E402


class TinyResNet(torchvision.models.ResNet):
    """torchvision's ResNet with widths that can be chosen."""

    def __init__(self, block, sizes, widths, stem_width, small_stem):
        nn.Module.__init__(self)
        self._norm_layer = nn.BatchNorm2d
        self.inplanes, self.dilation, self.groups, self.base_width = stem_width, 1, 1, 64
        side = 3 if small_stem else 7
        self.conv1 = nn.Conv2d(3, stem_width, side, stride=2, padding=side // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small_stem else nn.MaxPool2d(3, stride=2, padding=1)
        for i, (size, width) in enumerate(zip(sizes, widths, strict=True)):
            layer = self._make_layer(block, width, size, stride=1 if i == 0 else 2)
            setattr(self, f"layer{i + 1}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1] * block.expansion, 2)


def tiny_efficientnet(nominal_size):
    """efficientnet_pytorch's EfficientNet with the widths of our efficientnet_tiny."""
    shared = {"id_skip": True, "se_ratio": 0.25}
    blocks = [
        BlockArgs(2, 3, [1], 1, 8, 4, **shared),
        BlockArgs(1, 3, [2], 6, 4, 6, **shared),
        BlockArgs(2, 5, [2], 6, 6, 8, **shared),
    ]
    options = efficientnet_pytorch.utils.GlobalParams(
        image_size=nominal_size,
        batch_norm_momentum=0.99,
        batch_norm_epsilon=1e-3,
        dropout_rate=0.0,
        drop_connect_rate=0.0,
        num_classes=2,
        include_top=True,
    )
    model = efficientnet_pytorch.EfficientNet(blocks, options)
    # The package has no option for these widths.
    model._conv_stem = Conv2dStaticSamePadding(3, 8, 3, 2, image_size=nominal_size, bias=False)
    model._bn0 = nn.BatchNorm2d(8, momentum=0.01, eps=1e-3)
    model._conv_head = Conv2dStaticSamePadding(8, 32, 1, image_size=8, bias=False)
    model._bn1 = nn.BatchNorm2d(32, momentum=0.01, eps=1e-3)
    model._fc = nn.Linear(32, 2)
    return model


def randomize(model, seed):
    """Gives every parameter and statistic a value that a mistake would not leave unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data.normal_(0, module.weight[0].numel() ** -0.5, generator=generator)
            if module.bias is not None:
                module.bias.data.normal_(0, 0.2, generator=generator)
    return model


def run(model, images, feature_blocks=None):
    """Runs a model over NHWC float images and returns its six features, maps as NHWC."""
    if isinstance(model, efficientnet_pytorch.EfficientNet):
        modules = [model._blocks[i] for i in feature_blocks] + [model._avg_pooling, model._fc]
    else:
        modules = [model.layer1, model.layer2, model.layer3, model.layer4, model.avgpool, model.fc]
    seen = []
    hooks = [m.register_forward_hook(lambda _m, _i, out: seen.append(out)) for m in modules]
    model(torch.from_numpy(images).permute(0, 3, 1, 2))
    for hook in hooks:
        hook.remove()
    seen[4] = seen[4].flatten(1)
    return [f.permute(0, 2, 3, 1) if f.ndim == 4 else f for f in seen]


def to_arrays(prefix, tensors):
    """Copies tensors into a dict of float32 arrays."""
    items = tensors.items() if isinstance(tensors, dict) else enumerate(tensors)
    return {f"{prefix}/{k}": v.detach().numpy().astype(np.float32).copy() for k, v in items}


def state_of(model):
    """State dict without the counters."""
    return {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}


def make(model, feature_blocks=None, more=()):
    """Runs one model through all cases.

    Args:
      model: A tiny model with its weights.
      feature_blocks: For an EfficientNet, the blocks whose outputs are features.
      more: Pairs (case, model) evaluated on the even images with the same weights.

    Returns:
      Dict of arrays, the content of a fixture.
    """
    random = np.random.RandomState(0)
    images = {
        "even": random.randint(0, 256, (1, 34, 36, 3), np.uint8),
        "odd": random.randint(0, 256, (2, 33, 35, 3), np.uint8),
    }
    inputs = {case: array.astype(np.float32) / 64 - 2 for case, array in images.items()}
    arrays = {f"images_{case}": array for case, array in images.items()}
    arrays |= to_arrays("state", state_of(model))

    model.eval()
    for case, array in inputs.items():
        arrays |= to_arrays(f"eval_{case}", run(model, array, feature_blocks))
    for case, other in more:
        other.load_state_dict(model.state_dict())
        arrays |= to_arrays(f"eval_{case}", run(other.eval(), inputs["even"], feature_blocks))

    model.train()
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(
                lambda m, args, name=name: arrays.update(
                    {f"count/{name}": np.int32(args[0].numel() // m.num_features)}
                )
            )
    features = run(model, inputs["odd"], feature_blocks)
    nn.functional.cross_entropy(features[5], torch.tensor([0, 1])).backward()
    arrays |= to_arrays("train", features)
    statistics = {k: v for k, v in state_of(model).items() if "running" in k}
    arrays |= to_arrays("train_state", statistics)
    return arrays | to_arrays("grad", {k: v.grad for k, v in model.named_parameters()})


def write_fixtures(folder):
    """Writes the three files."""
    tiny = TinyResNet(Bottleneck, (2, 1, 1, 1), (4, 4, 6, 8), 8, small_stem=False)
    basic = TinyResNet(BasicBlock, (1, 2, 1, 1), (4, 4, 6, 8), 4, small_stem=True)
    other_padding = [("nominal60", tiny_efficientnet(60))]
    fixtures = {
        "resnet_tiny": make(randomize(tiny, 1)),
        "resnet_basic": make(randomize(basic, 2)),
        "efficientnet_tiny": make(
            randomize(tiny_efficientnet(240), 3), (1, 2, 3, 4), other_padding
        ),
    }
    for name, arrays in fixtures.items():
        path = folder / f"torch_{name}.npz"
        np.savez_compressed(path, **arrays)
        print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size} bytes")


def compare_full_size():
    """Prints the largest differences of the full-size models in eval mode."""
    import jax

    sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
    from test_models import variables_from_torch

    from qad_jax.models import create

    models = {
        "resnet50": (torchvision.models.resnet50(num_classes=2), None),
        "efficientnet_b1": (
            efficientnet_pytorch.EfficientNet.from_name("efficientnet-b1", num_classes=2),
            (4, 7, 15, 22),
        ),
    }
    random = np.random.RandomState(0)
    for name, (model, feature_blocks) in models.items():
        randomize(model, 0)
        # One pass sets the statistics to those of the weights: activations stay near 1.
        batch_norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        for module in batch_norms:
            module.momentum = 1.0
        with torch.no_grad():
            images = random.standard_normal((4, 224, 224, 3)).astype(np.float32)
            run(model.train(), images, feature_blocks)
            model.eval()
            state = {k: v.numpy() for k, v in state_of(model).items()}
            variables = variables_from_torch(state)
            apply = jax.jit(create(name).apply, static_argnames="train")
            for size in (224, 240, 255, 299):
                images = random.standard_normal((2, size, size, 3)).astype(np.float32)
                expected = [f.numpy() for f in run(model, images, feature_blocks)]
                actual = apply(variables, images, train=False).features
                pairs = list(zip(actual, expected, strict=True))
                absolute = [np.abs(a - e).max() for a, e in pairs]
                relative = max(np.abs(a - e).max() / np.abs(e).max() for a, e in pairs)
                print(
                    f"{name} {size}: features {' '.join(f'{d:.1e}' for d in absolute)}, "
                    f"largest relative to the feature's maximum {relative:.1e}"
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="compare full-size models instead")
    if parser.parse_args().full:
        compare_full_size()
    else:
        write_fixtures(pathlib.Path(__file__).parent)
