"""Clips that are done, kept on disk until the whole dataset is: a killed build goes on from them.

One file a clip, written whole or not at all, without anything in it that could be executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_builders.errors import UserError
from data_builders.paired import Example


def staged(folder: Path, name: str, make: Callable[[], list[Example]]) -> list[Example]:
    """Returns a clip's examples, from disk where they are, else made and put there.

    Args:
      folder: Where the files are.
      name: Tells this clip from the others, and its recipe from other recipes.
      make: Makes the examples.

    Raises:
      UserError: Where the folder cannot be written.
    """
    path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npz"
    if path.exists():
        return _load(path)
    examples = make()
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # workers may be on many machines
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            _save(file, examples)
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    return examples


def discard(folder: Path) -> None:
    """Removes the files of a build that is complete."""
    shutil.rmtree(folder, ignore_errors=True)


def _save(file: Any, examples: list[Example]) -> None:
    pictures: dict[str, Any] = {}
    plain = []
    for number, (key, example) in enumerate(examples):
        for quality, data in example["image"].items():
            pictures[f"{number}/{quality}"] = np.frombuffer(data, np.uint8)
        values = {name: value for name, value in example.items() if name not in ("image", "box")}
        box = [float(edge) for edge in example["box"]]
        plain.append([key, list(example["image"]), {**values, "box": box}])
    text = np.frombuffer(json.dumps(plain).encode(), np.uint8)
    np.savez(file, examples=text, **pictures)


def _load(path: Path) -> list[Example]:
    with np.load(path, allow_pickle=False) as stored:
        plain = json.loads(stored["examples"].tobytes())
        return [
            (
                key,
                {
                    "image": {q: stored[f"{number}/{q}"].tobytes() for q in qualities},
                    **values,
                    "box": np.asarray(values["box"], np.float32),
                },
            )
            for number, (key, qualities, values) in enumerate(plain)
        ]
