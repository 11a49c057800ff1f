"""The backbones against torch's own, and what the rest of the project relies on."""

import functools
import math
import pathlib
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from jax import lax

from qad_jax.models import NAMES, create
from qad_jax.models.depthwise import depthwise
from qad_jax.models.layers import max_pool, same_padding
from qad_jax.models.resnet import ResNet
from qad_jax.weights import conversion

DATA = pathlib.Path(__file__).parent / "data"
TINY = ("resnet_tiny", "efficientnet_tiny")
TIMM = ("timm_efficientnet_tiny", "tf_efficientnet_tiny", "efficientnet_lite_tiny")


def variables_from_torch(arrays):
    """The rule of the module docstrings: torch names and layouts to ours."""
    flat = {}
    for name, value in arrays.items():
        *path, leaf = re.sub(r"(^|\.)_", r"\1", name).split(".")
        path = re.sub(r"/(\d+)", r"_\1", "/".join(path)).split("/")
        collection = "batch_stats" if leaf.startswith("running") else "params"
        if leaf == "weight":
            leaf = "scale" if value.ndim == 1 else "kernel"
        axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[value.ndim]
        flat[collection, *path, leaf.removeprefix("running_")] = jnp.asarray(value.transpose(axes))
    return traverse_util.unflatten_dict(flat)


def variables_of(name, arrays):
    """A whole state dict as variables; timm's names follow no rule that is short."""
    if name in TIMM:
        return conversion.to_flax(arrays, name, num_classes=2).variables
    return variables_from_torch(arrays)


def fixture(name):
    """A fixture's arrays as {'state': {NAME: array}, 'images_odd': array, ...}."""
    with np.load(DATA / f"torch_{name}.npz", allow_pickle=False) as file:
        return traverse_util.unflatten_dict({tuple(k.split("/", 1)): file[k] for k in file.files})


def tiny(name, **fields):
    """The model of a fixture; dropout acts by chance, so a comparison does without."""
    if name == "resnet_basic":
        small_stem = {"stem_width": 4, "stem_kernel": 3, "stem_pool": False}
        sizes = {"stage_sizes": (1, 2, 1, 1), "widths": (4, 4, 6, 8), "bottleneck": False}
        return ResNet(**small_stem, **sizes)
    if name in ("efficientnet_tiny", *TIMM):
        fields = {"dropout_rate": 0.0, "drop_connect_rate": 0.0, **fields}
    if name == "efficientnet_lite_tiny":
        fields = {"momentum": 0.9, **fields}  # the fixture has torch's, the model TensorFlow's
    return create(name).clone(**fields)


def assert_close(actual, expected, what, tolerance=2e-5):
    """Compares relative to the largest value: small entries of a map carry its rounding error."""
    assert actual.shape == expected.shape, what
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale, err_msg=what)


@functools.cache
def shapes(name, num_classes=2, dtype=jnp.float32):
    """Shapes of the variables of a model and of its output, without running anything."""
    init = functools.partial(create(name, num_classes, dtype=dtype).init_with_output, train=False)
    images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    output, variables = jax.eval_shape(init, jax.random.key(0), images)
    return variables, output


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet50", 23_512_130),
        ("efficientnet_b1", 6_515_746),
        ("timm_efficientnet_b1", 6_515_746),
        ("tf_efficientnet_b1", 6_515_746),
        # Of ImageNet's thousand classes 4 652 008, 5 416 680 and 6 092 072 (timm); two are left.
        ("efficientnet_lite0", 4_652_008 - 998 * 1281),
        ("efficientnet_lite1", 5_416_680 - 998 * 1281),
        ("efficientnet_lite2", 6_092_072 - 998 * 1281),
    ],
)
def test_number_of_parameters_is_that_of_torch(name, count):
    variables, _ = shapes(name)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) == count


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50", [(56, 256), (28, 512), (14, 1024), (7, 2048)]),
        ("efficientnet_b1", [(56, 24), (28, 40), (14, 112), (7, 320)]),
        ("efficientnet_lite0", [(56, 24), (28, 40), (14, 112), (7, 320)]),
        ("efficientnet_lite2", [(56, 24), (28, 48), (14, 120), (7, 352)]),
    ],
)
def test_six_features(name, expected):
    _, output = shapes(name, num_classes=3)
    *maps, pooled, logits = output.features
    assert [m.shape for m in maps] == [(2, side, side, width) for side, width in expected]
    assert pooled.shape == (2, 2048 if name == "resnet50" else 1280)
    assert logits.shape == output.logits.shape == (2, 3)


@pytest.mark.parametrize("name", NAMES)
def test_head_is_called_fc(name):
    variables, output = shapes(name, num_classes=3)
    assert set(variables) == {"params", "batch_stats"}
    assert len(output.features) == 6
    assert variables["params"]["fc"]["kernel"].shape == (output.features[4].shape[-1], 3)
    assert variables["params"]["fc"]["bias"].shape == (3,)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="no model is called 'resnet5': did you mean 'resnet50'"):
        create("resnet5")


@pytest.mark.parametrize("name", ["resnet_tiny", "resnet_basic", "efficientnet_tiny", *TIMM])
def test_eval_equals_torch(name):
    arrays = fixture(name)
    variables = variables_of(name, arrays["state"])
    for case in sorted(key for key in arrays if key.startswith("eval_")):
        # Padding is static: another nominal size is another geometry with the same weights.
        model = tiny(name, nominal_size=60) if case == "eval_nominal60" else tiny(name)
        images = arrays["images_odd" if case == "eval_odd" else "images_even"]
        images = images.astype(np.float32) / 64 - 2
        output = jax.jit(lambda v, x, model=model: model.apply(v, x, train=False))(
            variables, images
        )
        for i, feature in enumerate(output.features):
            assert_close(feature, arrays[case][str(i)], f"{case}, feature {i}")
        np.testing.assert_array_equal(output.logits, output.features[5])


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("resnet_tiny", 1),
        ("resnet_basic", 1),
        ("efficientnet_tiny", 1),
        ("timm_efficientnet_tiny", 1),
        ("tf_efficientnet_tiny", 1),
        ("efficientnet_lite_tiny", 1),
        ("resnet_tiny", 2),
        ("efficientnet_tiny", 2),
    ],
)
def test_training_pass_equals_torch(name, devices):
    """Features, gradients and new statistics; on two devices with the batch norm of both."""
    arrays = fixture(name)
    model = tiny(name, axis_name="batch") if devices > 1 else tiny(name)
    variables = variables_of(name, arrays["state"])
    images = arrays["images_odd"].astype(np.float32) / 64 - 2
    labels = np.array([0, 1])

    def step(params, images, labels):
        def loss(params):
            output, updates = model.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            log_p = jax.nn.log_softmax(output.logits)
            loss = -jnp.mean(jnp.take_along_axis(log_p, labels[:, None], axis=1))
            return loss, (output.features, updates["batch_stats"])

        return jax.grad(loss, has_aux=True)(params)

    if devices == 1:
        gradients, (features, statistics) = jax.jit(step)(variables["params"], images, labels)
    else:
        spread = jax.pmap(
            step, axis_name="batch", in_axes=(None, 0, 0), devices=jax.devices()[:devices]
        )
        gradients, (features, statistics) = spread(
            variables["params"], images[:, None], labels[:, None]
        )
        gradients = jax.tree.map(lambda g: g.mean(0), gradients)
        features = [f[:, 0] for f in features]
        first, statistics = (jax.tree.map(lambda s, i=i: s[i], statistics) for i in (0, 1))
        jax.tree.map(np.testing.assert_array_equal, first, statistics)

    for i, feature in enumerate(features):
        assert_close(feature, arrays["train"][str(i)], f"feature {i}", 1e-4)

    expected = variables_of(name, arrays["state"] | arrays["grad"])["params"]
    expected = traverse_util.flatten_dict(expected)
    largest = max(np.abs(g).max() for g in expected.values())
    for path, gradient in traverse_util.flatten_dict(gradients).items():
        np.testing.assert_allclose(
            gradient, expected[path], rtol=2e-3, atol=1e-4 * largest, err_msg="/".join(path)
        )

    # torch stores the unbiased variance, flax the biased one.
    share = 0.01 if name == "efficientnet_tiny" else 0.1
    after = {}
    for path, value in arrays["train_state"].items():
        after[path] = value
        if path.endswith("var"):
            count = arrays["count"][path.removesuffix(".running_var")]
            old = (1 - share) * arrays["state"][path]
            after[path] = old + (value - old) * (count - 1) / count
    expected = variables_of(name, arrays["state"] | after)["batch_stats"]
    expected = traverse_util.flatten_dict(expected)
    actual = traverse_util.flatten_dict(statistics)
    assert actual.keys() == expected.keys()
    for path, statistic in actual.items():
        assert_close(statistic, expected[path], "/".join(path))


@pytest.mark.parametrize("name", TINY)
def test_bfloat16_keeps_parameters_statistics_and_logits_in_float32(name):
    created, _ = shapes(name, dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(created)} == {jnp.dtype("float32")}

    arrays = fixture(name)
    variables = variables_from_torch(arrays["state"])
    model = tiny(name, dtype=jnp.bfloat16)
    images = arrays["images_odd"].astype(np.float32) / 64 - 2
    output, updates = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))(
        variables, images
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("float32")}
    assert [f.dtype for f in output.features] == [jnp.bfloat16] * 4 + [jnp.float32] * 2
    assert output.logits.dtype == jnp.float32
    assert_close(output.features[0], arrays["train"]["0"], "first map", 0.03)
    assert_close(output.features[4], arrays["train"]["4"], "pooled vector", 0.1)


def test_dropout_acts_in_training_alone():
    model = create("efficientnet_tiny").clone(drop_connect_rate=0.9)
    kept = ("blocks_0", "bn2", "Dropout_0")
    variables = variables_from_torch(fixture("efficientnet_tiny")["state"])
    images = jax.random.normal(jax.random.key(1), (4, 33, 33, 3))

    @jax.jit
    @jax.vmap
    def train(key):
        output, changed = model.apply(
            variables,
            images,
            train=True,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: module.name in kept,
            rngs={"dropout": key},
        )
        return output, changed["intermediates"]

    draws = 100
    output, inner = train(jax.vmap(jax.random.key)(jnp.arange(draws) // 2))
    np.testing.assert_array_equal(output.logits[0], output.logits[1])  # of one key
    assert not np.allclose(output.logits[0], output.logits[2])
    maps = [inner["blocks_0"]["__call__"][0], *output.features[:4]]
    # The first skip is block 1 of 5, the last block 4 of 5. Where a block was dropped, the map of
    # the block before it comes through unchanged; else what it adds is larger for those dropped.
    for block, rate in ((1, 0.9 * 1 / 5), (4, 0.9 * 4 / 5)):
        added = np.asarray(maps[block] - maps[block - 1])
        branch = np.asarray(inner[f"blocks_{block}"]["bn2"]["__call__"][0])
        dropped = (added == 0).all(axis=(2, 3, 4))  # of a draw and an image
        assert dropped[::2].mean() == pytest.approx(rate, abs=0.12)  # of 200
        assert_close(added[~dropped], (branch / (1 - rate))[~dropped], f"block {block}")
    # Of the pooled vector, single numbers are dropped.
    seen, pooled = np.asarray(inner["Dropout_0"]["__call__"][0]), np.asarray(output.features[4])
    assert (seen == 0).mean() == pytest.approx(0.2, abs=0.02)
    assert_close(seen[seen != 0], pooled[seen != 0] / 0.8, "pooled vector")
    head = variables["params"]["fc"]
    assert_close(output.logits, seen @ head["kernel"] + head["bias"], "logits")


@pytest.mark.parametrize(
    ("height", "width", "side", "stride", "padding"),
    [(8, 9, 3, 1, (1, 1)), (8, 9, 3, 2, (0, 1)), (9, 8, 5, 2, (1, 2)), (7, 10, 5, 2, (2, 2))],
)
def test_depthwise_equals_the_grouped_convolution(height, width, side, stride, padding):
    random = np.random.RandomState(0)
    x = random.standard_normal((2, height, width, 6)).astype(np.float32)
    kernel = random.standard_normal((side, side, 6)).astype(np.float32)

    def grouped(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel[:, :, None],
            (stride, stride),
            (padding, padding),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=6,
        )

    @jax.jit
    def compare(x, kernel):
        expected, pull_expected = jax.vjp(grouped, x, kernel)
        actual, pull = jax.vjp(lambda x, k: depthwise(x, k, stride, padding), x, kernel)
        weights = jnp.sin(jnp.arange(expected.size, dtype=jnp.float32)).reshape(expected.shape)
        return (actual, *pull(weights)), (expected, *pull_expected(weights))

    for actual, expected in zip(*compare(x, kernel), strict=True):
        assert_close(actual, expected, "value or gradient", 1e-5)


@pytest.mark.parametrize("size", [8, 9])
def test_max_pool_equals_the_window_maximum(size):
    x = jax.random.normal(jax.random.key(0), (2, size, size + 3, 4)) - 5  # zeros would win

    @jax.jit
    def compare(x):
        padding = ((1, 1), (1, 1))
        expected, pull_expected = jax.vjp(lambda x: nn.max_pool(x, (3, 3), (2, 2), padding), x)
        actual, pull = jax.vjp(max_pool, x)
        return (actual, *pull(actual)), (expected, *pull_expected(expected))

    for actual, expected in zip(*compare(x), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_static_padding_of_b1():
    # Stem, the four strided depthwise convolutions of B1, one of stride 1.
    cases = [(3, 2, 240), (3, 2, 120), (5, 2, 60), (3, 2, 30), (5, 2, 15), (5, 1, 8)]
    expected = [(0, 1), (0, 1), (1, 2), (0, 1), (2, 2), (2, 2)]
    assert [same_padding(*case) for case in cases] == expected
