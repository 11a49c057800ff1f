"""Reads training batches against bare `cv2.imdecode` on as many threads.

Crops are textures in noise, stored as the builders store them, and read as training reads them;
`speed.py` prints the table, or alone:

    python benchmarks/input_rate.py
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_builders import build
from qad_jax import cpu
from qad_jax.input_pipeline import TrainBatches, TupleSource
from qad_jax.reading import Pictures

QUALITIES = ("raw", "c23", "c40")
CROP, SIZE = 224, 224
TUPLES, BATCH, BATCHES = 128, 16, 30
_JPEG_QUALITIES = (90, 40)


def crops(count: int) -> Iterator[list[np.ndarray]]:
    """Pictures with the spectrum of photographs, at three qualities."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        picture = np.zeros((CROP, CROP, 3))
        for octave in range(3, 8):
            cells = rng.normal(size=(2**octave, 2**octave, 3))
            picture += cv2.resize(cells, (CROP, CROP), interpolation=cv2.INTER_CUBIC) / 2**octave
        picture = 128 + 40 * picture / picture.std()
        raw = np.clip(picture, 0, 255).astype(np.uint8)
        found = [raw]
        for quality in _JPEG_QUALITIES:
            _, data = cv2.imencode(".jpg", raw, [cv2.IMWRITE_JPEG_QUALITY, quality])
            found.append(cv2.imdecode(data, cv2.IMREAD_COLOR))
        yield found


class _AgainAndAgain(TupleSource):
    """The records of a small split as those of a long one.

    Grain takes 0.35 ms to find a place in an order of a hundred records, 0.05 in one of thousands.
    """

    def __len__(self) -> int:
        return 100 * super().__len__()

    def fill(self, index: int, row: Pictures, *, mirrored: bool = False) -> dict[str, Any]:
        return super().fill(index % super().__len__(), row, mirrored=mirrored)


def source_of(folder: Path, size: int = SIZE) -> TupleSource:
    """Builds the dataset in a folder and opens it at a side in pixels."""
    lists: dict[str, list[str]] = {quality: [] for quality in QUALITIES}
    for number, versions in enumerate(crops(TUPLES)):
        for quality, picture in zip(QUALITIES, versions, strict=True):
            name = f"{quality}_{number}.png"
            cv2.imwrite(str(folder / name), picture)
            lists[quality].append(name)
    manifest = folder / "data.json"
    labels = [number % 2 for number in range(TUPLES)]
    manifest.write_text(json.dumps({"train": {**lists, "labels": labels}}))
    dataset = build.builder("manifest", data_dir=folder / "tfds", manifest=manifest)
    with contextlib.redirect_stderr(io.StringIO()):  # progress of the build
        build.prepare(dataset)
    return _AgainAndAgain(dataset, "train", QUALITIES, size)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(rounds: int) -> None:
    """Prints pictures a second of both, in turns, and what other storage would bring."""
    cv2.setNumThreads(1)
    cpu.tune()  # as the command does: batches are freed memory, too
    with tempfile.TemporaryDirectory() as folder:
        source = source_of(Path(folder))
        paths = sorted(Path(folder).glob("*.png"))
        files = [np.frombuffer(path.read_bytes(), np.uint8) for path in paths]
        _compare(source, files, rounds)
    _storage(files[:: len(files) // 48])


def _compare(source: TupleSource, files: list[np.ndarray], rounds: int) -> None:
    threads = os.cpu_count() or 1
    pictures = BATCH * BATCHES * len(QUALITIES)
    jobs = [files[number % len(files)] for number in range(pictures)]
    pool = ThreadPoolExecutor(threads)

    def bare() -> None:
        for _ in pool.map(lambda data: cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), jobs):
            pass

    def read(batches: TrainBatches) -> None:
        for _ in range(BATCHES):
            next(batches)

    pairs = []
    for _ in range(rounds):
        decoding = _seconds(bare)
        # A new reader each time: one that waits has batches read ahead, outside the time, and one
        # that is left alone would read beside the decoding.
        batches = TrainBatches(source, BATCH, seed=0, threads=threads)
        pairs.append((_seconds(lambda b=batches: read(b)), decoding))
        del batches
    ratios = [decode / pipeline for pipeline, decode in pairs]
    print(f"\ninput: {CROP} px PNG, {threads} threads, {len(QUALITIES)} pictures a tuple\n")
    print("| | pictures/s |\n|---|---|")
    for name, column in (("pipeline", 0), ("bare imdecode", 1)):
        print(f"| {name} | {pictures / statistics.median(pair[column] for pair in pairs):.0f} |")
    print(
        f"\npipeline / bare: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )


def _storage(files: list[np.ndarray]) -> None:
    """Prints size and decoding rate of lossless formats, on one core."""
    pictures = [cv2.imdecode(data, cv2.IMREAD_COLOR) for data in files]
    formats = {
        "PNG, level 1": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
        "PNG, level 6": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 6]),
        "WebP lossless": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),  # above 100: lossless
        "PNG, uncompressed": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 0]),
        "BMP": (".bmp", []),
    }
    print("\n| lossless storage | kB a picture | decoded/s, one core |\n|---|---|---|")
    for name, (suffix, options) in formats.items():
        stored = [cv2.imencode(suffix, picture, options)[1] for picture in pictures]
        taken = _seconds(lambda s=stored: [cv2.imdecode(d, cv2.IMREAD_COLOR) for d in s])
        size = sum(map(len, stored)) / len(stored) / 1000
        print(f"| {name} | {size:.0f} | {len(stored) / taken:.0f} |")


if __name__ == "__main__":
    measure(9)
