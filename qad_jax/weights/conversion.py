"""Names and layouts: torch state dicts to the trees of our models, and back.

One table serves both ways: it has torch's name for each leaf of a model. A state dict holds nothing
else but batch counters, which these models do not use.

A convolution's kernel is OIHW in torch and HWIO here, a linear layer's OI and IO; a depthwise
kernel (C, 1, k, k) is (k, k, 1, C) by the same rule. Batch norm's scale is torch's ``weight``.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import numpy.typing as npt
from flax import traverse_util

from qad_jax.models import create
from qad_jax.models.efficientnet import EfficientNet, Stage
from qad_jax.models.layers import HEAD, classifier
from qad_jax.models.localiser import LOCALISER, MAPS

Array = npt.NDArray[Any]
Path = tuple[str, ...]

TORCHVISION, EFFICIENTNET_PYTORCH, TIMM = "torchvision", "efficientnet_pytorch", "timm"
COUNTER = "num_batches_tracked"

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_TO_FLAX = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
_TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}

# Names in timm's EfficientNet by our names: outside the blocks, in a block, and in a block that
# does not widen its input.
_TIMM_TOP = {"bn0": "bn1", "bn1": "bn2", HEAD: "classifier"}
_TIMM_BLOCK = {
    "expand_conv": "conv_pw",
    "bn0": "bn1",
    "depthwise_conv": "conv_dw",
    "bn1": "bn2",
    "se_reduce": "se.conv_reduce",
    "se_expand": "se.conv_expand",
    "project_conv": "conv_pwl",
    "bn2": "bn3",
}
_TIMM_NARROW_BLOCK = _TIMM_BLOCK | {"bn1": "bn1", "project_conv": "conv_pw", "bn2": "bn2"}

# How names of each layout begin; a name that several layouts could have counts for none.
_SIGNS = {
    EFFICIENTNET_PYTORCH: re.compile(r"_(conv_stem|bn\d|blocks|conv_head|fc)\."),
    TIMM: re.compile(r"(conv_stem|blocks|conv_head|classifier)\."),
    TORCHVISION: re.compile(r"(conv1|layer\d|fc)\."),
}


class MismatchError(Exception):
    """A state dict is not that of the model; the message names every wrong key."""


class Leaf(NamedTuple):
    """The place of a tensor of a state dict in the model.

    Attributes:
      path: Collection, modules and name in the variables of the model.
      shape: In torch's layout.
    """

    path: Path
    shape: tuple[int, ...]


class Converted(NamedTuple):
    """A state dict as variables.

    Attributes:
      variables: ``{'params', 'batch_stats'}``, float32.
      dropped: Number of classes of a head that was left out, None where it was taken over.
      one_logit: Whether the head had one logit, which is now the second of two.
    """

    variables: dict[str, Any]
    dropped: int | None
    one_logit: bool = False


def layouts_of(model: nn.Module) -> tuple[str, ...]:
    """The layouts in which a model's weights are published; it is exported in the first."""
    if not isinstance(model, EfficientNet):
        return (TORCHVISION,)
    if model.padding == "nominal":
        return (EFFICIENTNET_PYTORCH,)
    # The Lites of both packages have one geometry.
    return (TIMM,) if model.squeeze_excite else (EFFICIENTNET_PYTORCH, TIMM)


def layout_of_names(names: Iterable[str]) -> str | None:
    """The layout that most of the names belong to, None where there is none."""
    votes = Counter(layout for name in names for layout, sign in _SIGNS.items() if sign.match(name))
    return votes.most_common(1)[0][0] if votes else None


@functools.cache  # to trace a model takes half a second
def _traced(name: str, num_classes: int) -> tuple[Any, Any]:
    """Output and variables of a model, as shapes; no shape of a variable depends on the image."""
    model = create(name, num_classes)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    made: tuple[Any, Any] = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=False), image
    )
    return made


@functools.cache
def table(name: str, num_classes: int, layout: str | None = None) -> Mapping[str, Leaf]:
    """Lists every tensor of a model by its torch name, in the order of our tree.

    Args:
      name: A model, see `qad_jax.models.create`.
      num_classes: Width of its head.
      layout: One of `layouts_of`; None: the first.
    """
    model = create(name, num_classes)
    layout = layout or layouts_of(model)[0]
    _, variables = _traced(name, num_classes)
    entries = {}
    for path, leaf in traverse_util.flatten_dict(variables).items():
        *modules, last = path[1:]
        if isinstance(model, EfficientNet) and layout == TIMM:
            named = _timm(modules, model.stages)
        else:
            underscore = "_" if layout == EFFICIENTNET_PYTORCH else ""
            # A number joins the name before it.
            named = [underscore + re.sub(r"_(\d+)$", r".\1", module) for module in modules]
        shape = tuple(leaf.shape[axis] for axis in _TO_TORCH[leaf.ndim])
        entries[".".join([*named, _LEAVES.get(last, last)])] = Leaf(path, shape)
    return entries


def _timm(modules: list[str], stages: tuple[Stage, ...]) -> list[str]:
    """Names the modules around a leaf as timm does, which counts blocks within their stage."""
    if len(modules) == 1:
        return [_TIMM_TOP.get(modules[0], modules[0])]
    blocks = [(i, j, s.expand > 1) for i, s in enumerate(stages) for j in range(s.blocks)]
    stage, block, widens = blocks[int(modules[0].removeprefix("blocks_"))]
    inside = _TIMM_BLOCK if widens else _TIMM_NARROW_BLOCK
    return ["blocks", str(stage), str(block), inside[modules[1]]]


@np.errstate(over="ignore")  # such numbers are infinite: see `not_finite`
def to_flax(state: Mapping[str, Any], name: str, num_classes: int, seed: int = 0) -> Converted:
    """Converts a state dict to the variables of a model.

    Args:
      state: From `state_dicts.find`.
      name: The model.
      num_classes: Width of its head. A head of another width is left out, but for one logit z where
        two are wanted: that is the head (0, z), because softmax((0, z))[1] = sigmoid(z).
      seed: Of the head that takes its place.

    Returns:
      The variables, and whether the head was replaced.

    Raises:
      MismatchError: Naming every key that is missing, too many, or of another shape or type.
    """
    layout = layout_of_names(state)
    published = layout in layouts_of(create(name))
    expected = table(name, num_classes, layout if published else None)
    head = {key: leaf for key, leaf in expected.items() if leaf.path[1] == HEAD}
    dropped = _other_classes(state, head)
    one_logit = dropped == 1 and num_classes == 2 and all(_is_float(state[key]) for key in head)
    if one_logit:
        rows = {key: np.concatenate([np.zeros_like(state[key]), state[key]]) for key in head}
        state, dropped = {**state, **rows}, None
    if dropped is not None:
        state = {key: value for key, value in state.items() if key not in head}
        expected = {key: leaf for key, leaf in expected.items() if key not in head}

    problems = []
    if missing := expected.keys() - state.keys():
        problems.append(f"missing: {_listed(missing)}")
    if unknown := state.keys() - expected.keys():
        problems.append(f"not of this model: {_listed(unknown)}")
    flat: dict[Path, jax.Array] = {}
    wrong = []
    for key, leaf in expected.items():
        if key not in state:
            continue
        value = state[key]
        if not _is_float(value):
            kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            wrong.append(f"{key} is {kind}, must be floating point")
        elif value.shape != leaf.shape:
            wrong.append(f"{key} is {value.shape}, must be {leaf.shape}")
        else:
            axes = _TO_FLAX[value.ndim]
            array = np.ascontiguousarray(value.transpose(axes), dtype=np.float32)
            flat[leaf.path] = jnp.asarray(array)
    if wrong:
        problems.append(f"of another shape or type: {'; '.join(wrong)}")
    if problems:
        raise MismatchError("; ".join(problems))

    variables = traverse_util.unflatten_dict(flat)
    if dropped is not None:
        fan_in = next(leaf.shape[1] for leaf in head.values() if len(leaf.shape) == 2)
        new = classifier(num_classes, fan_in).init(jax.random.key(seed), jnp.zeros((1, fan_in)))
        variables["params"][HEAD] = new["params"]
    return Converted(variables, dropped, one_logit)


def to_torch(variables: Mapping[str, Any], name: str) -> dict[str, Array]:
    """Converts variables to a state dict; the batch counters are zero.

    Args:
      variables: ``{'params', 'batch_stats'}`` of the model.
      name: The model.

    Returns:
      Arrays in torch's names and layouts: torchvision's, efficientnet_pytorch's or timm's.
    """
    flat = traverse_util.flatten_dict(variables)
    num_classes = flat["params", HEAD, "bias"].shape[0]
    state: dict[str, Array] = {}
    for key, leaf in table(name, num_classes).items():
        value = np.asarray(flat[leaf.path], np.float32)
        state[key] = np.ascontiguousarray(value.transpose(_TO_TORCH[value.ndim]))
        if leaf.path[-1] == "var":
            state[key.removesuffix("running_var") + COUNTER] = np.zeros((), np.int64)
    return state


def located_to_torch(variables: Mapping[str, Any]) -> dict[str, Array]:
    """The tensors of a localiser, empty where there is none; torch's networks have no place for it.

    Args:
      variables: Of a model, see `qad_jax.models.localiser`.
    """
    flat = traverse_util.flatten_dict({LOCALISER: variables.get(LOCALISER, {})})
    return {
        ".".join([*path[:-1], _LEAVES.get(path[-1], path[-1])]): np.ascontiguousarray(
            np.asarray(value, np.float32).T
        )
        for path, value in flat.items()
    }


@np.errstate(over="ignore")  # as above
def part_localiser(
    state: Mapping[str, Any], name: str, num_classes: int
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Parts the tensors of a localiser from those of a model.

    Args:
      state: A state dict.
      name: The model.
      num_classes: Width of its head.

    Returns:
      The state dict without them; and the collection of the localiser, or nothing.

    Raises:
      MismatchError: They are not those of a localiser of this model.
    """
    own = {key: value for key, value in state.items() if key.startswith(f"{LOCALISER}.")}
    if not own:
        return dict(state), {}
    output, _ = _traced(name, num_classes)
    rest = {key: value for key, value in state.items() if key not in own}
    tree: dict[str, Any] = {}
    for i, feature in enumerate(output.features[MAPS]):
        shapes = {"weight": (1, feature.shape[-1]), "bias": (1,)}
        found = {leaf: own.pop(f"{LOCALISER}.map_{i}.{leaf}", None) for leaf in shapes}
        if not all(_is_float(found[leaf]) and found[leaf].shape == shapes[leaf] for leaf in shapes):
            raise MismatchError(f"its {LOCALISER} is not one of this model")
        tree[f"map_{i}"] = {
            "kernel": jnp.asarray(found["weight"].T, jnp.float32),
            "bias": jnp.asarray(found["bias"], jnp.float32),
        }
    if own:
        raise MismatchError(f"its {LOCALISER} is not one of this model")
    return rest, {LOCALISER: tree}


def _other_classes(state: Mapping[str, Any], head: Mapping[str, Leaf]) -> int | None:
    """Number of classes of the state dict's head, None where it has none or as many as ours."""
    classes = set()
    for key, leaf in head.items():
        value = state.get(key)
        if not isinstance(value, np.ndarray) or value.ndim != len(leaf.shape):
            return None
        if value.shape[1:] != leaf.shape[1:]:
            return None
        classes.add(value.shape[0])
    ours = next(iter(head.values())).shape[0]
    return classes.pop() if len(classes) == 1 and classes != {ours} else None


def not_finite(state: Mapping[str, Any]) -> list[str]:
    """Names the tensors of a state dict that hold NaN or infinity, or do as float32."""
    with np.errstate(over="ignore"):
        return [
            name
            for name, value in state.items()
            if _is_float(value) and not np.isfinite(np.asarray(value, np.float32)).all()
        ]


def negative_variances(state: Mapping[str, Any]) -> list[str]:
    """Names the running variances of a state dict that hold a number below 0."""
    return [
        name
        for name, value in state.items()
        if name.endswith(".running_var") and _is_float(value) and (value < 0).any()
    ]


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and (
        np.issubdtype(value.dtype, np.floating) or value.dtype == ml_dtypes.bfloat16
    )


def _listed(names: Iterable[str]) -> str:
    """Sorted names on one line, with every special character escaped."""
    return ", ".join(ascii(name)[1:-1] for name in sorted(names))
