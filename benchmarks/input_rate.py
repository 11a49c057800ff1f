"""Reads training batches against bare `cv2.imdecode` of the same files on as many threads.

Crops are textures in noise, stored as the builders store them, and read as training reads them.
Crops of a few pixels, read by eight times as many threads as there are cores, tell what Python's
lock lets through, however many cores decode. `speed.py` prints the tables, or alone:

    python benchmarks/input_rate.py
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import measured
import numpy as np
from measured import Measured, positive

from data_builders import build
from data_builders.command_line import DONE, Parser, run
from data_builders.png import encode_png
from data_builders.workers import available_cores
from qad_jax import cpu
from qad_jax.training.augmentation import PLAIN, View
from qad_jax.training.input_pipeline import TrainBatches, TupleSource
from qad_jax.training.threaded_batches import Images

QUALITIES = ("raw", "c23", "c40")
CROP, SIZE = 224, 224
TUPLES, BATCH, BATCHES = 128, 16, 60
_PICTURES = BATCH * BATCHES * len(QUALITIES)
TINY = 8
_JPEG_QUALITIES = (90, 40)
_RATES, _STORAGE = "reading", "lossless storage"
_PER_SECOND: dict[str, Any] = {"unit": "images/s", "better": "higher", "digits": 0}


def crops(count: int, side: int = CROP) -> Iterator[list[np.ndarray]]:
    """Images (BGR) with the spectrum of photographs, at three qualities."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        image = np.zeros((side, side, 3))
        for octave in range(3, 8):
            cells = rng.normal(size=(2**octave, 2**octave, 3))
            image += cv2.resize(cells, (side, side), interpolation=cv2.INTER_CUBIC) / 2**octave
        image = 128 + 40 * image / image.std()
        raw = np.clip(image, 0, 255).astype(np.uint8)
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

    def fill(self, index: int, row: Images, *, view: View = PLAIN) -> dict[str, Any]:
        return super().fill(index % super().__len__(), row, view=view)


def source_of(folder: Path, size: int = SIZE, crop: int = CROP) -> TupleSource:
    """Builds the dataset in a folder from crops of a side in pixels and opens it at another."""
    lists: dict[str, list[str]] = {quality: [] for quality in QUALITIES}
    for number, versions in enumerate(crops(TUPLES, crop)):
        for quality, image in zip(QUALITIES, versions, strict=True):
            name = f"{quality}_{number}.png"
            (folder / name).write_bytes(encode_png(image[..., ::-1]))
            lists[quality].append(name)
    manifest = folder / "data.json"
    labels = [number % 2 for number in range(TUPLES)]
    manifest.write_text(json.dumps({"train": {**lists, "labels": labels}}))
    dataset = build.builder("manifest", data_dir=folder / "tfds", manifest=manifest)
    with contextlib.redirect_stderr(io.StringIO()):  # progress of the build
        build.prepare(dataset)
    return _AgainAndAgain(dataset, "train", QUALITIES, size)


def measure(rounds: int, results: Measured) -> None:
    """Prints images a second of both, in turns, and what other storage would bring.

    Args:
      rounds: Number of turns.
      results: What is printed is added to them.
    """
    cv2.setNumThreads(1)
    cpu.tune()  # as the command does: batches are freed memory, too
    with tempfile.TemporaryDirectory() as folder:
        source = source_of(Path(folder))
        paths = sorted(Path(folder).glob("*.png"))
        files = [np.frombuffer(path.read_bytes(), np.uint8) for path in paths]
        _compare(source, files, rounds, results)
    with tempfile.TemporaryDirectory() as folder:
        source = source_of(Path(folder), TINY, TINY)
        threads = 8 * available_cores()
        found = [_PICTURES / _reading(source, threads) for _ in range(rounds)]
        results.add(_RATES, f"of {TINY} px, images/s", "median", found, **_PER_SECOND)
        print(f"\nof {TINY} px with {threads} threads: {statistics.median(found):.0f} images/s")
    _storage(list(crops(16)), results)


def _reading(source: TupleSource, threads: int) -> float:
    """Seconds that the batches take.

    A new reader each time: one that waits has batches read ahead, outside the time. Its threads end
    before this does, or they would read beside what is measured next.
    """
    batches = TrainBatches(source, BATCH, seed=0, threads=threads)
    begin = time.perf_counter()
    for _ in range(BATCHES):
        next(batches)
    taken = time.perf_counter() - begin
    del batches
    for thread in threading.enumerate():
        if thread.name.startswith("reader"):
            thread.join()
    return taken


def _compare(source: TupleSource, files: list[np.ndarray], rounds: int, results: Measured) -> None:
    threads = available_cores()
    jobs = [files[number % len(files)] for number in range(_PICTURES)]
    pool = ThreadPoolExecutor(threads)

    def bare() -> None:
        for _ in pool.map(lambda data: cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), jobs):
            pass

    pairs = []
    for _ in range(rounds):
        decoding = measured.seconds(bare)
        pairs.append((_reading(source, threads), decoding))
    ratios = [decode / pipeline for pipeline, decode in pairs]
    print(f"\ninput: {CROP} px PNG, {threads} threads, {len(QUALITIES)} images a tuple\n")
    print("| | images/s |\n|---|---|")
    for name, column in (("pipeline", 0), ("bare imdecode", 1)):
        rates = [_PICTURES / pair[column] for pair in pairs]
        results.add(_RATES, f"{name}, images/s", "median", rates, **_PER_SECOND)
        print(f"| {name} | {_PICTURES / statistics.median(pair[column] for pair in pairs):.0f} |")
    share = "pipeline / bare imdecode"
    results.add(_RATES, share, "median", ratios, unit="times", better="higher")
    print(
        f"\npipeline / bare: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )


def _storage(versions: list[list[np.ndarray]], results: Measured) -> None:
    """Prints size and rates of lossless formats, on one core, best of three."""
    images = [image for each in versions for image in each]

    def with_options(suffix: str, *options: int) -> Callable[[np.ndarray], bytes]:
        return lambda image: cv2.imencode(suffix, image, options)[1].tobytes()

    level = cv2.IMWRITE_PNG_COMPRESSION
    formats = {
        "PNG, as stored": lambda image: encode_png(image[..., ::-1]),
        "PNG, OpenCV's level 1": with_options(".png", level, 1),
        "PNG, OpenCV's level 6": with_options(".png", level, 6),
        "PNG, uncompressed": with_options(".png", level, 0),
        "WebP lossless": with_options(".webp", cv2.IMWRITE_WEBP_QUALITY, 101),  # above 100
        "BMP": with_options(".bmp"),
    }

    def rates(work: Callable[[Any], object], inputs: list[Any]) -> list[float]:
        return [
            len(inputs) / measured.seconds(lambda: [work(each) for each in inputs])
            for _ in range(3)
        ]

    print("\n| lossless storage | kB | written/s | decoded/s |")
    print("|---|---|---|---|")
    for name, encode in formats.items():
        files = [encode(image) for image in images]
        size = sum(map(len, files)) / len(files) / 1000
        known = [np.frombuffer(data, np.uint8) for data in files]
        decoded = rates(lambda data: cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), known)
        written = rates(encode, images)
        results.add(_STORAGE, name, "kB an image", [size], unit="kB", digits=0)
        for column, values in (("written/s", written), ("decoded/s", decoded)):
            results.add(_STORAGE, name, column, values, **_PER_SECOND)
        print(f"| {name} | {size:.0f} | {max(written):.0f} | {max(decoded):.0f} |")


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python benchmarks/input_rate.py", description=__doc__)
    parser.add_argument("--rounds", type=positive, default=9, help="turns (9)")
    measured.add_option(parser)
    options = parser.parse_args(argv)
    results = Measured("input_rate")
    measure(options.rounds, results)
    results.write(options.json)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
