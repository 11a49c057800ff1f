"""Clips that are done stay on disk until the whole dataset is: a killed build goes on from them.

Each clip has one file, which is written whole or not at all. Nothing in it can be executed.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
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
      name: A text that only this clip, made by this recipe, has.
      make: Makes the clip.

    Raises:
      UserError: The folder cannot be written.
    """
    path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npz"
    if path.exists():
        return _load(path)
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
    with np.load(path, allow_pickle=False) as stored:
        facts = json.loads(stored["clip"].tobytes())
        examples = [
            (
                key,
                {
                    "image": {q: stored[f"{index}/{q}"].tobytes() for q in qualities},
                    **values,
                    "box": np.asarray(values["box"], np.float32),
                },
            )
            for index, (key, qualities, values) in enumerate(facts["examples"])
        ]
        return FinishedClip(facts["name"], examples, facts["notes"])
