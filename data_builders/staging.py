"""Clips that are done stay on disk until the whole dataset is: a killed build goes on from them.

Each clip has one file, which is written whole or not at all. Nothing in it can be executed.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_builders.errors import UserError
from data_builders.files import write_whole
from data_builders.records import FinishedClip


def staged(folder: Path, name: str, make: Callable[[], FinishedClip]) -> FinishedClip:
    """Returns a clip. Reads it where it is on disk, else makes and keeps it.

    Args:
      folder: The folder of the files.
      name: A text that no clip has which differs in anything: content, identity, label, recipe.
      make: Makes the clip.

    Raises:
      UserError: The folder cannot be written.
    """
    path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npz"
    if path.exists():
        try:
            return _load(path)
        except Exception:  # whatever has happened to the file: it is made again
            path.unlink()
    clip = make()
    try:
        write_whole(path, _content(clip))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    return clip


def discard(folder: Path) -> None:
    """Removes the files, once the dataset is complete."""
    shutil.rmtree(folder, ignore_errors=True)


def _content(clip: FinishedClip) -> bytes:
    images: dict[str, Any] = {}
    plain = []
    for index, (key, example) in enumerate(clip.examples):
        for quality, data in example["image"].items():
            images[f"{index}/{quality}"] = np.frombuffer(data, np.uint8)
        values = {name: value for name, value in example.items() if name not in ("image", "box")}
        box = [float(edge) for edge in example["box"]]
        plain.append([key, list(example["image"]), {**values, "box": box}])
    facts = {"name": clip.name, "notes": dict(clip.notes), "examples": plain}
    file = io.BytesIO()
    np.savez(file, clip=np.frombuffer(json.dumps(facts).encode(), np.uint8), **images)
    return file.getvalue()


def _load(path: Path) -> FinishedClip:
    with zipfile.ZipFile(path) as stored:
        facts = json.loads(_array(stored, "clip"))
        examples = [
            (
                key,
                {
                    "image": {q: _array(stored, f"{index}/{q}") for q in qualities},
                    **values,
                    "box": np.asarray(values["box"], np.float32),
                },
            )
            for index, (key, qualities, values) in enumerate(facts["examples"])
        ]
        return FinishedClip(facts["name"], examples, facts["notes"])


def _array(stored: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of an array. None of its claims is believed: NumPy would allocate by them."""
    member = stored.getinfo(f"{name}.npy")
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    file = io.BytesIO(stored.read(member))
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    content = file.read()
    if (shape, dtype) != ((len(content),), np.uint8):
        raise ValueError(f"{name} is not an array of {len(content)} bytes")
    return content
