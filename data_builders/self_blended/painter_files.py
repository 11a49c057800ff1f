"""Files of painters: how one is written, and how a folder of them is found, checked and read."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from data_builders.errors import BrokenBuildError, UserError, nearest
from data_builders.files import kind_of_no_file
from data_builders.home import expanded
from data_builders.self_blended import painter

_LARGEST_FILE = 32 * 2**20  # bytes; the largest of `painter.KINDS` has 7 MB
_MOST = 32  # painters in a folder; each process keeps them


def save(params: Any, name: str, notes: dict[str, Any]) -> bytes:
    """The content of a painter's file.

    Args:
      params: Its parameters.
      name: Of its kind.
      notes: What it learned from, as JSON values.
    """
    from flax.traverse_util import flatten_dict

    flat = flatten_dict(params, sep="/")
    metadata = {"kind": name, "learned": json.dumps(notes)}
    return safetensors.numpy.save(
        {key: np.asarray(value, np.float32) for key, value in flat.items()}, metadata
    )


def notes_of(path: Path) -> dict[str, Any]:
    """What a painter learned from, see `save`; empty where the file does not say it."""
    try:
        found = json.loads(_header(_content(path)).get("__metadata__", {}).get("learned", "{}"))
    except (UserError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclasses.dataclass(frozen=True)
class File:
    """The file of a painter, as it was found.

    Attributes:
      path: Where it is.
      digest: The first digits of the sha256 of its content.
    """

    path: Path
    digest: str

    def load(self, detail: float = 0.0) -> painter.Loaded:
        """Reads it, once for all in a process.

        Args:
          detail: From 0 to below 1, which of the sides that it can paint.

        Raises:
          UserError: It is no painter, or its tensors are not those of its kind.
          BrokenBuildError: It is gone, or was changed since it was found.
        """
        paint, sides = _loaded(self)
        return painter.Loaded(paint, sides[int(detail * len(sides))])


def find(folder: Path) -> tuple[File, ...]:
    """Finds and checks the painters in a folder.

    Raises:
      UserError: There is none, there are too many, or a file is no painter.
    """
    folder = expanded(folder).absolute()
    paths = sorted(p for p in folder.glob("*.safetensors") if not p.name.startswith("."))
    if not 0 < len(paths) <= _MOST:
        wrong = (
            f"holds {len(paths)} painters, and may hold {_MOST}" if paths else "holds no painter"
        )
        raise UserError(
            f"--painters: {folder}: {wrong if folder.is_dir() else 'is no folder'}; `python -m "
            "data_builders.self_blended.learning` makes such a folder of your faces"
        )
    files = tuple(File(path, _digest(_content(path))) for path in paths)
    for file in files:
        file.load()
    return files


def _content(path: Path) -> bytes:
    """The bytes of a file that may be a painter's."""
    try:
        if (kind := kind_of_no_file(path)) is not None:
            raise UserError(f"{path}: is no painter but {kind}")
        if path.stat().st_size > _LARGEST_FILE:
            raise UserError(f"{path}: is no painter: it has more than {_LARGEST_FILE >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]


def _header(data: bytes) -> dict[str, Any]:
    """The header of a file of tensors, which says what they are.

    Raises:
      ValueError: There is none.
      RecursionError: It is nested too deeply.
    """
    found = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise ValueError("the header is no object of objects")
    return found


@functools.lru_cache(maxsize=_MOST)
def _loaded(file: File) -> tuple[painter.Paint, tuple[int, ...]]:
    """What paints, and the sides of the squares that it paints."""
    import jax
    import jax.numpy as jnp
    from flax.traverse_util import flatten_dict, unflatten_dict

    path = file.path
    try:
        data = _content(path)
    except UserError as error:
        raise BrokenBuildError(str(error)) from error
    if _digest(data) != file.digest:
        raise BrokenBuildError(f"{path}: was changed while it was used; build again")
    try:
        header = _header(data)
        tensors = safetensors.numpy.load(data) if _all_float32(header) else {}
    except (ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: cannot be read as a painter: {error}") from error
    name = header.get("__metadata__", {}).get("kind")
    if not isinstance(name, str):
        raise UserError(f"{path}: is no painter: it names no kind")
    if name not in painter.KINDS:
        raise UserError(f"{path}: is no painter: {name!r}: {nearest(name, painter.KINDS)}")
    kind = painter.KINDS[name]
    model = painter.network(kind)
    # Nothing is computed: the process that only checks files starts no device.
    wanted = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, kind.side, kind.side, 3)))
    )
    shapes = {key: value.shape for key, value in flatten_dict(wanted, sep="/").items()}
    if {key: value.shape for key, value in tensors.items()} != shapes:
        raise UserError(f"{path}: its tensors are not those of a painter {name!r}")
    if not all(np.isfinite(value).all() for value in tensors.values()):
        raise UserError(f"{path}: has numbers that are not finite")
    params = unflatten_dict(tensors, sep="/")
    # As an argument: constants of a program would be kept with it, among what is compiled.
    return functools.partial(jax.jit(model.apply), params), kind.sides


def _all_float32(header: dict[str, Any]) -> bool:
    return all(one.get("dtype") == "F32" for key, one in header.items() if key != "__metadata__")
