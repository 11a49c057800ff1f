"""Crops for tests: cut from the public-domain astronaut, no person's photograph in the tree."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import cv2
import numpy as np
import skimage.data


@functools.cache
def astronaut() -> np.ndarray:
    return skimage.data.astronaut()[0:200, 130:330]


def crop(seed: int, size: int, label: int, quality: int) -> np.ndarray:
    """A crop of `size` px; fakes have a coloured patch; `quality` is a JPEG's, 100: untouched."""
    rng = np.random.default_rng(seed)
    y, x = rng.integers(0, 200 - 96, 2)
    image = cv2.resize(astronaut()[y : y + 96, x : x + 96], (size, size))
    if label:
        image = image.copy()
        image[size // 4 : size // 2, size // 4 : size // 2, 0] //= 3
    if quality < 100:
        data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return image


def write_manifest(
    folder: Path, counts: dict[str, int], *, suffixes: tuple[str, str, str] = (".png",) * 3
) -> Path:
    """Writes crops of different sizes at three qualities, and the data.json that lists them."""
    content: dict[str, dict[str, list]] = {}
    for s, (split, count) in enumerate(counts.items()):
        lists: dict[str, list] = {"raw": [], "c23": [], "c40": [], "labels": []}
        for i in range(count):
            label = i % 2
            video = f"{split}_{'fake' if label else 'real'}_{i // 4}"
            for quality, level, suffix in zip(
                ("raw", "c23", "c40"), (100, 40, 8), suffixes, strict=True
            ):
                path = folder / quality / video / f"{i:04d}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                size = 40 + 8 * (i % 5)
                cv2.imwrite(str(path), crop(1000 * s + i, size, label, level)[..., ::-1])
                lists[quality].append(str(path.relative_to(folder)))
            lists["labels"].append(label)
        content[split] = lists
    path = folder / "data.json"
    path.write_text(json.dumps(content))
    return path


def write_methods(folder: Path) -> Path:
    """Half of 24 / 12 / 12 tuples are fakes, by turns Deepfakes and FaceSwap, in test NewFakes."""
    path = write_manifest(folder, {"train": 24, "val": 12, "test": 12})
    content = json.loads(path.read_text())
    for split, lists in content.items():
        kinds = ("Deepfakes", "NewFakes" if split == "test" else "FaceSwap")
        lists["method"] = [
            kinds[i // 2 % 2] if label else "original" for i, label in enumerate(lists["labels"])
        ]
    path.write_text(json.dumps(content))
    return path
