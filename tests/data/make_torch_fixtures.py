"""Writes torch_*: what torch's own ResNets and EfficientNets give for tiny models, and its files.

The reference code is torchvision's, efficientnet_pytorch's and timm's; the tests need none of them.
In an environment of its own:

    pip install torch==2.13.0 numpy pillow safetensors==0.8.0
    pip install --no-deps torchvision==0.28.0 efficientnet_pytorch==0.7.1 timm==1.0.31
    python tests/data/make_torch_fixtures.py

With qad-jax and its test extra installed beside them, ``--full`` compares every backbone at full
size, in inference and in training, at four sizes of picture, and both ways through a file. It
writes nothing, and fails where a difference is too large; ``--full resnet50`` compares one.

Besides the arrays below: ``torch_checkpoint.pth`` is a training checkpoint around the weights of
torch_resnet_tiny.npz, ``torch_kinds*.pth`` are tensors of every kind in both formats of torch.save.

Keys of a fixture, in torch's names and layouts:

    state/NAME            the weights and statistics before anything runs
    images_CASE           uint8 (N, H, W, 3); the input is images / 64 - 2
    eval_CASE/0..5        the six features in eval mode, maps NHWC
    fake_odd              probability of class 1, images_odd normalised as the model's
    train/0..5            the same in train mode, images_odd
    train_state/NAME      running statistics after that pass
    count/NAME            values per channel that went into each batch norm
    grad/NAME             gradient of the mean cross-entropy of that pass, labels 0 and 1
"""

import argparse
import functools
import pathlib
import sys
import tempfile
import types

import numpy as np
import torch
from torch import nn

# A torchvision from PyPI looks here for operators that only exist beside its own torch build. The
# models need none of them.
sys.modules["torchvision._meta_registrations"] = types.ModuleType("_meta_registrations")

import efficientnet_pytorch  # noqa: E402
import timm  # noqa: E402
import torchvision  # noqa: E402
from efficientnet_pytorch.utils import BlockArgs, Conv2dStaticSamePadding  # noqa: E402
from timm.models import _efficientnet_builder, efficientnet  # noqa: E402
from torchvision.models.resnet import BasicBlock, Bottleneck  # noqa: E402

# A difference may be this large: in logits, and in any feature or statistic by its range.
LOGITS, RANGE = 1e-4, 1e-3


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
        BlockArgs(1, 3, [2], 6, 4, 8, **shared),
        BlockArgs(2, 5, [2], 6, 8, 8, **shared),
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


def tiny_timm(pad_type, epsilon, lite=False):
    """timm's EfficientNet, or its Lite, with the widths of our efficientnet_tiny."""
    excite = "" if lite else "_se0.25"
    stages = [
        [f"ds_r2_k3_s1_e1_c4{excite}"],
        [f"ir_r1_k3_s2_e6_c8{excite}"],
        [f"ir_r2_k5_s2_e6_c8{excite}"],
    ]
    return efficientnet.EfficientNet(
        _efficientnet_builder.decode_arch_def(stages),
        num_classes=2,
        num_features=32,
        stem_size=8,
        fix_stem=True,
        pad_type=pad_type,
        act_layer=nn.ReLU6 if lite else nn.SiLU,
        norm_layer=functools.partial(nn.BatchNorm2d, eps=epsilon),
        round_chs_fn=lambda width: width,
    )


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
    elif isinstance(model, efficientnet.EfficientNet):
        blocks = [block for stage in model.blocks for block in stage]
        modules = [blocks[i] for i in feature_blocks] + [model.global_pool, model.classifier]
    else:
        pool = model.avgpool if hasattr(model, "avgpool") else model.global_pool
        modules = [model.layer1, model.layer2, model.layer3, model.layer4, pool, model.fc]
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


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LITE = (127 / 255,) * 3, (128 / 255,) * 3


def make(model, feature_blocks=None, more=(), normalisation=IMAGENET):
    """Runs one model through all cases.

    Args:
      model: A tiny model with its weights.
      feature_blocks: For an EfficientNet, the blocks whose outputs are features.
      more: Pairs (case, model) evaluated on the even images with the same weights.
      normalisation: Mean and standard deviation of the images.

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
    mean, std = (np.float32(constants) for constants in normalisation)
    logits = run(model, (images["odd"] / np.float32(255) - mean) / std, feature_blocks)[5]
    arrays["fake_odd"] = logits.softmax(1)[:, 1].detach().numpy()
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
    """Writes all files."""
    tiny = TinyResNet(Bottleneck, (2, 1, 1, 1), (4, 4, 6, 8), 8, small_stem=False)
    write_checkpoint(folder / "torch_checkpoint.pth", randomize(tiny, 1))
    write_kinds(folder)
    tiny = TinyResNet(Bottleneck, (2, 1, 1, 1), (4, 4, 6, 8), 8, small_stem=False)
    basic = TinyResNet(BasicBlock, (1, 2, 1, 1), (4, 4, 6, 8), 4, small_stem=True)
    other_padding = [("nominal60", tiny_efficientnet(60))]
    fixtures = {
        "resnet_tiny": make(randomize(tiny, 1)),
        "resnet_basic": make(randomize(basic, 2)),
        "efficientnet_tiny": make(
            randomize(tiny_efficientnet(240), 3), (1, 2, 3, 4), other_padding
        ),
        "timm_efficientnet_tiny": make(randomize(tiny_timm("", 1e-5), 4), (1, 2, 3, 4)),
        "tf_efficientnet_tiny": make(randomize(tiny_timm("same", 1e-3), 5), (1, 2, 3, 4)),
        "efficientnet_lite_tiny": make(
            randomize(tiny_timm("same", 1e-3, lite=True), 6), (1, 2, 3, 4), (), LITE
        ),
    }
    for name, arrays in fixtures.items():
        path = folder / f"torch_{name}.npz"
        np.savez_compressed(path, **arrays)
        print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size} bytes")


def write_checkpoint(path, model):
    """Writes weights the way that training code does, with much around them."""
    state = {f"module.{key}": value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.fc.parameters())
    nn.functional.cross_entropy(model(torch.ones(2, 3, 32, 32)), torch.tensor([0, 1])).backward()
    optimizer.step()
    content = {
        "epoch": 3,
        "best": np.float64(0.75),
        "args": argparse.Namespace(lr=0.1, name="tiny"),
        "model": {"state_dict": state},
        "optimizer": optimizer.state_dict(),
    }
    torch.save(content, path)


def write_kinds(folder):
    """Writes tensors of many types, views of each other and parameters, in both formats."""
    base = torch.arange(24, dtype=torch.float32)
    floats = {
        str(kind)[6:]: base.to(kind) / 4 for kind in (torch.float64, torch.bfloat16, torch.half)
    }
    integers = {str(kind)[6:]: base.to(kind) for kind in (torch.int64, torch.uint8)}
    kinds = {
        "all": base,
        "transposed": base.view(4, 6).T,
        "slice": base.view(4, 6)[1:3, ::2],
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "parameter": nn.Parameter(base[:2].clone()),
        "size": base.shape,
        "type": torch.float32,
        "bool": base > 20,
        **floats,
        **integers,
    }
    torch.save(kinds, folder / "torch_kinds.pth")
    torch.save(kinds, folder / "torch_kinds_legacy.pth", _use_new_zipfile_serialization=False)


# The ends of the stages before the map is halved, and of the last.
LITE_BLOCKS = {
    "efficientnet_lite0": (2, 4, 10, 15),
    "efficientnet_lite1": (3, 6, 14, 20),
    "efficientnet_lite2": (3, 6, 14, 20),
}


def full_size_models():
    """Pairs (our name, torch's model), without the layers that act by chance."""
    b1 = efficientnet_pytorch.EfficientNet.from_name(
        "efficientnet-b1", num_classes=2, dropout_rate=0.0, drop_connect_rate=0.0
    )
    return {
        "resnet50 (torchvision)": ("resnet50", torchvision.models.resnet50(num_classes=2)),
        "resnet50 (timm)": ("resnet50", timm.create_model("resnet50", num_classes=2)),
        "efficientnet_b1": ("efficientnet_b1", b1),
        "timm_efficientnet_b1": (
            "timm_efficientnet_b1",
            timm.create_model("efficientnet_b1", num_classes=2),
        ),
        "tf_efficientnet_b1": (
            "tf_efficientnet_b1",
            timm.create_model("tf_efficientnet_b1", num_classes=2),
        ),
        **{
            f"{name} (timm)": (name, timm.create_model(f"tf_{name}", num_classes=2))
            for name in LITE_BLOCKS
        },
    }


def compare_full_size(only):
    """Prints the largest differences of the full-size models; returns whether all are small."""
    good = True
    for label, (name, model) in full_size_models().items():
        if only in ("all", name):
            good &= compare(label, name, model)
    return good


def compare(label, name, model):
    """Compares one model with ours, the weights being handed over in a file."""
    import jax
    import safetensors.numpy
    from flax import traverse_util

    from qad_jax.models import create
    from qad_jax.weights import conversion, pretrained, state_dicts

    blocks = None if name == "resnet50" else LITE_BLOCKS.get(name, (4, 7, 15, 22))
    random = np.random.RandomState(0)
    randomize(model, 0)
    batch_norms = {n: m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    momentum = {n: m.momentum for n, m in batch_norms.items()}
    counts = {}
    for key, module in batch_norms.items():
        module.momentum = 1.0  # one pass sets the statistics to those of the weights
        module.register_forward_pre_hook(
            lambda m, args, key=key: counts.update({key: args[0].numel() // m.num_features})
        )
    with torch.no_grad():
        run(model.train(), random.standard_normal((4, 224, 224, 3)).astype(np.float32), blocks)
    for key, module in batch_norms.items():
        module.momentum = momentum[key]

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "weights.pth"
        torch.save(model.state_dict(), path)
        variables = pretrained.load(path, name)
        back = safetensors.numpy.save(conversion.to_torch(variables, name))
        if name not in LITE_BLOCKS:  # exported in efficientnet_pytorch's names, which has no Lite
            model.load_state_dict(
                {k: torch.from_numpy(v.copy()) for k, v in safetensors.numpy.load(back).items()},
                strict=True,
            )
    ours = create(name)
    if blocks:
        # The Lites keep TensorFlow's momentum for training on, which timm's do not.
        kept = 1 - next(iter(momentum.values())) if name in LITE_BLOCKS else ours.momentum
        ours = ours.clone(dropout_rate=0.0, drop_connect_rate=0.0, momentum=kept)
    apply = jax.jit(
        lambda v, x, train: ours.apply(v, x, train=train, mutable=["batch_stats"]),
        static_argnums=2,
    )

    good = True
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for size in (224, 240, 255, 299):
        images = random.standard_normal((2, size, size, 3)).astype(np.float32)
        for train in (False, True):
            model.load_state_dict(before)
            with torch.no_grad():
                expected = [f.numpy() for f in run(model.train(train), images, blocks)]
            output, updates = apply(variables, images, train)
            worst = [difference(*pair) for pair in zip(output.features, expected, strict=True)]
            logits = float(np.abs(output.logits - expected[5]).max())
            text = f"logits {logits:.1e}, features by their range {max(worst):.1e}"
            if train:
                state = model.state_dict()
                for key in batch_norms:  # torch stores the unbiased variance, flax the biased one
                    share, count = momentum[key], counts[key]
                    old = (1 - share) * before[f"{key}.running_var"]
                    new = state[f"{key}.running_var"]
                    state[f"{key}.running_var"] = old + (new - old) * (count - 1) / count
                arrays = state_dicts.find({k: v.numpy() for k, v in state.items()}).state
                wanted = conversion.to_flax(arrays, name, 2).variables["batch_stats"]
                pairs = traverse_util.flatten_dict(wanted), updates["batch_stats"]
                pairs = pairs[0], traverse_util.flatten_dict(pairs[1])
                statistics = max(difference(pairs[1][k], v) for k, v in pairs[0].items())
                worst.append(statistics)
                text += f", statistics {statistics:.1e}"
            good &= logits < LOGITS and max(worst) < RANGE
            print(f"{label} {size} {'train' if train else 'eval'}: {text}", flush=True)
    return good


def difference(actual, expected):
    """Largest difference over the range of what is expected."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    return float(np.abs(actual - expected).max() / np.ptp(expected))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--full", nargs="?", const="all", metavar="NAME", help="compare full-size models instead"
    )
    if only := parser.parse_args().full:
        sys.exit(0 if compare_full_size(only) else "differences are too large")
    write_fixtures(pathlib.Path(__file__).parent)
