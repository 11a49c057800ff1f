"""Why a checkpoint cannot be read, in one line that also says what to do.

Only a checkpoint that lacks files is worth nothing. One that another version wrote, or that the
disk does not give back, may hold weeks of training: no message advises to remove it.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
import tensorstore

from data_builders.errors import MISREAD, UserError
from data_builders.files import read_json
from qad_jax.runs import hosts

#: What to do with a checkpoint that this version cannot use.
OTHER_VERSION = "use the version of qad-jax that made it, which run.json names"
# What every item of arrays has, and every item of JSON.
_ARRAY_FILES = ("_METADATA", "manifest.ocdbt")
_JSON_FILES = ("metadata",)
# Items that evaluation does not read.
_TRAINING_ONLY = ("opt_state", "data")
_MOST_DIFFERENCES = 3
# Where tensorstore's own words end, as in " [tensorstore_spec[1]='{".
_SETTINGS = re.compile(r" \[\w+(?:\[\d+\])?='")


class _PieceError(Exception):
    """An array is stored in pieces larger than itself, or does not say in which."""


@contextlib.contextmanager
def explained(
    folder: Path, arrays: Mapping[str, Any] | None = None, jsons: Sequence[str] = ()
) -> Iterator[None]:
    """Turns an error of reading a checkpoint into a `UserError` that names its cause.

    Arrays that are stored in pieces larger than themselves are an error, before any is read: such a
    piece could become of any size when it is decompressed.

    Args:
      folder: The checkpoint, or the folder of all of them.
      arrays: The items of arrays that are read, each with the tree that it must have.
      jsons: The items of JSON that are read.

    Raises:
      UserError: In place of any error but one that another process caused.
    """
    try:
        _check_pieces(folder, arrays or {})
        yield
    except Exception as error:  # orbax raises Exception itself for what tensorstore cannot read
        if isinstance(error, UserError | MemoryError) or hosts.lost_another(error):
            raise
        reason = _reason(folder, arrays or {}, jsons, error)
        raise UserError(f"{folder}: {' '.join(reason.split())}") from error


@contextlib.contextmanager
def understood(folder: Path, what: str) -> Iterator[None]:
    """Turns an error of an item that is JSON, but not what a run writes, into a `UserError`.

    Args:
      folder: The checkpoint.
      what: What is in the item.

    Raises:
      UserError: In place of any error of `MISREAD`.
    """
    try:
        yield
    except MISREAD as error:
        raise UserError(
            f"{folder}: the checkpoint's {what} is of another version: {error}; {OTHER_VERSION}"
        ) from error


@contextlib.contextmanager
def saving(place: object, then: Callable[[], str]) -> Iterator[None]:
    """Turns an error of the disk into a `UserError`.

    Args:
      place: Where the checkpoint is saved, for the message.
      then: Says what is saved already and what to do.

    Raises:
      UserError: In place of an error of the disk.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        # tensorstore raises a ValueError that names the system's error by its number.
        code = re.search(r"os_error_code='(\d+)'", str(error))
        reason = os.strerror(int(code[1])) if code else getattr(error, "strerror", None)
        if reason is None:
            raise
        raise UserError(f"{place}: cannot save a checkpoint: {reason}; {then()}") from error


def _reason(
    folder: Path, arrays: Mapping[str, Any], jsons: Sequence[str], error: BaseException
) -> str:
    files = {**dict.fromkeys(arrays, _ARRAY_FILES), **dict.fromkeys(jsons, _JSON_FILES)}
    if "average" in arrays and not _has_average(folder):
        return (
            "the checkpoint is of another configuration: it has no average of the parameters; set "
            "config.ema_decay to 0, as in its run"
        )
    try:
        missing = _missing(folder, files)
    except (OSError, ValueError) as nearer:
        return _unreadable(nearer)
    if missing:
        return (
            f"the checkpoint is not complete: it lacks {', '.join(missing)}; remove this folder, "
            "and the newest of the others is used"
        )
    if differences := _differences(folder, arrays):
        more = len(differences) - _MOST_DIFFERENCES
        listed = "; ".join(differences[:_MOST_DIFFERENCES]) + (f"; {more} more" if more > 0 else "")
        evaluates = all(text.startswith(_TRAINING_ONLY) for text in differences)
        advice = f"evaluate it with --mode=evaluate, or {OTHER_VERSION}"
        return (
            f"the checkpoint is of another version or configuration: {listed}; it is not damaged: "
            f"{advice if evaluates else OTHER_VERSION}"
        )
    return _unreadable(error)


def _missing(folder: Path, files: Mapping[str, Sequence[str]]) -> list[str]:
    """Items and files that are not there; raises the error of the first that is not readable."""
    missing = []
    items = os.listdir(folder)
    for item, names in files.items():
        if item not in items:
            missing.append(item)
            continue
        inside = os.listdir(folder / item)
        missing += [f"{item}/{name}" for name in names if name not in inside]
        for name in names:
            if name in inside:
                _try(folder / item / name)
    return missing


def _try(path: Path) -> None:
    """Raises an error that names the file where it cannot be read, or is JSON that was cut off."""
    if path.suffix:
        path.read_bytes()
        return
    try:
        read_json(path)
    except ValueError as error:
        raise ValueError(f"{path}: is not JSON: {error}") from error


def _has_average(folder: Path) -> bool:
    """Whether there is an average of the parameters, or the run's configuration wants one."""
    if (folder / "average").exists():
        return True
    try:
        return bool(read_json(folder / "config" / "metadata").get("ema_decay"))
    except (OSError, ValueError, AttributeError):
        return True


def _check_pieces(folder: Path, items: Iterable[str]) -> None:
    """Raises `_PieceError` for an array in pieces larger than itself, or of an unknown size."""
    for item in items:
        for path, leaf in jax.tree_util.tree_flatten_with_path(_metadata(folder / item))[0]:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            piece = getattr(getattr(leaf, "storage", None), "chunk_shape", None)
            if piece is None:
                raise _PieceError(f"{item}/{name} does not say in which pieces it is stored")
            if math.prod(piece) > max(1, math.prod(leaf.shape)):
                raise _PieceError(f"{item}/{name} of {leaf.shape} is in pieces of {piece}")


def _metadata(item: Path) -> Any:
    with ocp.PyTreeCheckpointer() as checkpointer:
        stored: Any = checkpointer.metadata(item).item_metadata
    if stored is None:  # orbax does not say why; where a file of arrays is damaged, its list does
        place = {"driver": "file", "path": f"{item}/"}
        tensorstore.KvStore.open({"driver": "ocdbt", "base": place}).result().list().result()
        raise ValueError(f"{item / '_METADATA'}: is not understood")
    return stored.tree


def _differences(folder: Path, arrays: Mapping[str, Any]) -> list[str]:
    """Arrays whose shape in the checkpoint is not the one that is wanted, in words."""
    differences = []
    for item, like in arrays.items():
        try:
            there, here = _shapes(_metadata(folder / item)), _shapes(like)
        except (ValueError, KeyError, OSError, AttributeError):
            continue  # the error that is explained says why
        differences += [
            f"{item}/{name} is {there.get(name, 'absent')} there and {here.get(name, 'absent')} "
            "here"
            for name in sorted(there.keys() | here.keys())
            if there.get(name) != here.get(name)
        ]
    return differences


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of a tree by their names; orbax stores fields of tuples as keys."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in leaves
        if hasattr(leaf, "shape")
    }


def _unreadable(error: BaseException) -> str:
    """The cause of an error; tensorstore puts a page of settings behind it."""
    if type(error) is Exception and error.__cause__ is not None:  # of orbax, around the cause
        return _unreadable(error.__cause__)
    if isinstance(error, OSError) and error.strerror:
        cause = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        cause = re.sub(r'Error opening "\w+" driver: ', "", _SETTINGS.split(str(error))[0])
        if code := re.search(r"os_error_code='(\d+)'", str(error)):
            cause = f"{cause}: {os.strerror(int(code[1]))}"
    return (
        f"cannot be read: {cause}; restore that file, or move this folder elsewhere to use another "
        "checkpoint"
    )
