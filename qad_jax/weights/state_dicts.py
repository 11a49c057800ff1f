"""Finds the state dict in a checkpoint of training code, and says what is beside it.

Training code wraps: the state dict lies under a key such as ``state_dict``, its names begin with
``module.`` or ``model.backbone.``, a second one holds the averaged weights. Of several state dicts
the averaged one is taken where it is complete: it is what its training code evaluates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from data_builders.errors import UserError
from qad_jax.weights.conversion import COUNTER, layout_of_names, negative_variances, not_finite
from qad_jax.weights.pickle_machine import named

# Keys of the averaged weights, in a checkpoint or as the first part of the names in a state dict.
_AVERAGED = (
    *("state_dict_ema", "ema_state_dict", "model_ema_state_dict", "ema_model_state_dict"),
    *("model_ema", "ema_model", "ema", "net_ema", "ema_net", "teacher", "teacher_state_dict"),
    *("averaged_model", "average_model", "avg_model", "shadow", "swa", "swa_model", "model_swa"),
    *("swa_state_dict", "state_dict_swa", "swa_model_state_dict"),
)
_PLAIN = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module"),
    *("net_state_dict", "network_state_dict", "student", "online_model", "weights"),
)
# What training code puts before a model's names.
_PREFIXES = (
    *("module.", "model.", "net.", "network.", "backbone.", "encoder.", "_orig_mod."),
    *("state_dict.", "student.", "online_model."),
)
# Counters of averaging, which are one number and no weights.
_COUNTERS = {"n_averaged", "num_updates", "initted", "step", "steps", "decay"}
# Losses have buffers, such as the weight of a class: nothing of a network.
_LOSS = re.compile(r"(criterion|crit|loss\w*|\w*_loss|\w*_criterion)\.")
_DEEPEST = 8
_MOST_PREFIXES = 16
# A pickle may put one name of any length, and one tensor, into many dictionaries, and each of them
# is copied without the prefixes. Names of these models have up to 60 characters.
_LONGEST_NAME = 1000
_MOST_MAPPINGS = 32


class Found(NamedTuple):
    """A state dict, and what else the checkpoint holds.

    Attributes:
      state: Without prefixes and counters. What is in it but no tensor stays in it.
      notes: What was taken and what was passed over, where there was a choice; a sentence each.
    """

    state: dict[str, Any]
    notes: tuple[str, ...]


class _Group(NamedTuple):
    label: str
    averaged: bool
    state: dict[str, Any]


def find(content: Any) -> Found | None:
    """Takes a state dict out of what training code puts around it.

    Args:
      content: A state dict, or a checkpoint that holds one beside other things, with or without
        prefixes such as ``module.``.

    Returns:
      The state dict; None where there is none.

    Raises:
      UserError: It holds more of them, or longer names, than training code writes.
    """
    groups: list[_Group] = []
    left_out: list[str] = []
    for i, (label, averaged, mapping) in enumerate(_mappings(content, "", False, set(), 0)):
        if i == _MOST_MAPPINGS:
            raise UserError(f"holds more than {_MOST_MAPPINGS} state dicts; have one saved alone")
        groups += _groups(label, averaged, mapping, left_out)
    if not groups:
        return None
    groups.sort(key=lambda group: layout_of_names(group.state) is None)  # stable
    plain = next((group for group in groups if not group.averaged), None)
    average = next((group for group in groups if group.averaged), None)
    taken = average if plain is None or _covers(average, plain) else plain
    assert taken is not None  # there is a group of one kind or the other
    notes = []
    if taken.averaged:
        notes.append(f"the averaged weights under {taken.label!a} were taken")
    others = [f"{group.label}.*" for group in groups if group is not taken]
    if others or left_out:
        notes.append(f"passed over: {listed([*others, *left_out])}")
    return Found(taken.state, tuple(notes))


def why_none(content: Any) -> str | None:
    """The class of an object that was saved whole in the place of a state dict, if that is why."""
    if (name := named(content)) is not None:
        return name
    if isinstance(content, Mapping):
        for key in (*_PLAIN, *_AVERAGED):
            if (name := named(content.get(key))) is not None:
                return name
    return None


def listed(names: Iterable[str], most: int = 20) -> str:
    """Names on one line, whatever is in them and however many they are."""
    shown = [ascii(name)[1:-1] for name in names]
    more = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {more} more" if more > 0 else "")


def check_numbers(source: object, state: Mapping[str, Any]) -> None:
    """Refuses weights that give no score, before somebody takes what they give for one.

    Args:
      source: Where they are from, for the message.
      state: The state dict of a model, and of no more: all of its numbers are looked at.

    Raises:
      UserError: They hold NaN, infinity (also as float32 alone) or a negative variance.
    """
    for what, wrong in (
        ("NaN or infinity", not_finite(state)),
        ("a negative variance", negative_variances(state)),
    ):
        if wrong:
            raise UserError(
                f"{source}: holds {what} in {listed(wrong, 3)}, so it gives no score; "
                "get the file again, or take an earlier checkpoint"
            )


def _covers(average: _Group | None, plain: _Group) -> bool:
    """Whether averaged weights are whole: many averages leave the statistics of batch norm out."""
    return average is not None and (
        plain.state.keys() <= average.state.keys() or layout_of_names(plain.state) is None
    )


def _mappings(
    content: Any, label: str, averaged: bool, seen: set[int], depth: int
) -> Iterator[tuple[str, bool, Mapping[Any, Any]]]:
    """Every mapping that could be a state dict: the innermost ones under the known keys."""
    if not isinstance(content, Mapping) or id(content) in seen or depth > _DEEPEST:
        return
    seen.add(id(content))
    keys = [key for key in (*_PLAIN, *_AVERAGED) if isinstance(content.get(key), Mapping)]
    if _is_mmengine(content):  # swaps the two on saving: the average is under the plain name
        keys = [key for key in keys if key != "ema_state_dict"]
    inner: list[tuple[str, bool, Mapping[Any, Any]]] = []
    for key in keys:
        name = f"{label}.{key}" if label else key
        inner += _mappings(content[key], name, averaged or key in _AVERAGED, seen, depth + 1)
    if inner:
        yield from inner
    elif any(isinstance(value, np.ndarray) for value in content.values()):
        yield label, averaged, content


def _is_mmengine(content: Mapping[Any, Any]) -> bool:
    meta = content.get("meta")
    return "message_hub" in content or (isinstance(meta, Mapping) and "mmengine_version" in meta)


def _groups(
    label: str, averaged: bool, mapping: Mapping[Any, Any], left_out: list[str]
) -> list[_Group]:
    """The state dicts in one mapping: a module may hold the averaged network beside the other."""
    state = {name: value for name, value in mapping.items() if isinstance(name, str)}
    if any(len(name) > _LONGEST_NAME for name in state):
        raise UserError(
            f"a name in its state dict has more than {_LONGEST_NAME} characters, which none of a "
            "model has; get the file again"
        )
    for name in [name for name, value in state.items() if _is_counter(name, value)]:
        del state[name]
        if name.rpartition(".")[2] != COUNTER:
            left_out.append(name)
        if name == "n_averaged":  # of torch's AveragedModel, which calls the network `module`
            label, averaged = label or "module", True
    state = _stripped(state)
    roots = dict.fromkeys(
        name.partition(".")[0] for name in state if name.partition(".")[0] in _AVERAGED
    )
    groups = []
    for root in roots:
        inside = {name: value for name, value in state.items() if name.startswith(f"{root}.")}
        state = {name: value for name, value in state.items() if name not in inside}
        bare = {name.removeprefix(f"{root}."): value for name, value in inside.items()}
        groups.append(_Group(root, True, _stripped(bare)))
    state = _stripped(state)
    for name in [name for name in state if _LOSS.match(name)]:
        del state[name]
        left_out.append(name)
    if any(isinstance(value, np.ndarray) for value in state.values()):
        groups.insert(0, _Group(label or "model", averaged, state))
    return groups


def _is_counter(name: str, value: Any) -> bool:
    last = name.rpartition(".")[2]
    return last == COUNTER or (
        last in _COUNTERS and isinstance(value, np.ndarray) and value.size == 1
    )


def _stripped(state: dict[str, Any]) -> dict[str, Any]:
    """Takes prefixes off, one after the other, that most names have."""
    for _ in range(_MOST_PREFIXES):
        prefix = next((p for p in _PREFIXES if _most_begin_with(p, state)), None)
        if prefix is None:
            break
        stripped = {name.removeprefix(prefix): value for name, value in state.items()}
        if len(stripped) < len(state):  # some are there twice: all are shown as they are
            break
        state = stripped
    return state


def _most_begin_with(prefix: str, names: Iterable[str]) -> bool:
    begin = [name.startswith(prefix) for name in names]
    return 2 * sum(begin) > len(begin)
