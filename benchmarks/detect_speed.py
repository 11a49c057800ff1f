"""How fast one file is judged: a clip, a photograph, the first one of a command, a long 4K clip.

python benchmarks/detect_speed.py [--long]

The clip is 10 s of 1080p, judged in turns with its parts alone: decoding it, finding faces in the
sampled frames, and the forward passes. The photograph has 12 megapixels, and programs are compiled.
The start is a command of its own, with compiled programs in the cache. `--long` measures the memory
of a process that judges ten minutes of 4K.
"""

from __future__ import annotations

import fractions
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import measured
import numpy as np
import skimage.data
from measured import Measured

from data_builders import clips, h264
from data_builders.command_line import DONE, Parser, run
from qad_jax import cpu
from qad_jax.detection.looking import Task

REPEATS, RATE = 5, 25
_TITLE, _CLIP, _MEDIAN = "judging files", "clip of 10 s, 1080p", "median"
GROUP = 35  # frames of the long clip that differ
Image = np.ndarray[Any, np.dtype[np.uint8]]


def frame(number: int, size: tuple[int, int]) -> Image:
    """A frame with a face of a fifth of its height, which a hand holds not quite still."""
    height, width = size
    image = skimage.data.astronaut()
    image = image[number % 5 : 500 + number % 5, number % 7 : 500 + number % 7]
    side = int(0.9 * height)
    shown = np.full((height, width, 3), 110, np.uint8)
    left = (width - side) // 2
    shown[height - side :, left : left + side] = cv2.resize(image, (side, side))
    return shown


def clip(path: Path, results: Measured) -> None:
    """Tells how long a clip takes beside its parts."""
    from qad_jax.detection.detector import Detector

    path.write_bytes(h264.encode([frame(i, (1080, 1920)) for i in range(10 * RATE)], crf=23))
    detector = Detector.from_pretrained()
    looker = detector.looker()
    found = looker(Task(str(path)))
    indices = clips.spread(10 * RATE, detector.frames)
    sampled = [image for _, image in h264.sampled(path, indices)]
    parts = (
        lambda: list(h264.sampled(path, indices)),
        lambda: looker.tracks(sampled, indices, ()),
        lambda: detector.scores(found.crops()),
        lambda: detector(path),
    )
    for work in parts:
        work()  # compiles
    times = [[measured.seconds(work) for work in parts] for _ in range(REPEATS)]
    columns = list(zip(*times, strict=True))
    for name, column in zip(("decoding", "faces", "network", "whole"), columns, strict=True):
        results.add(_TITLE, f"{_CLIP}: {name}, s", _MEDIAN, column, unit="s")
    decode, find, forward, whole = map(statistics.median, columns)
    ratios = sorted(one[3] / sum(one[:3]) for one in times)
    results.add(_TITLE, f"{_CLIP}: whole / sum of the parts", _MEDIAN, ratios, unit="times")
    print(
        f"clip of 10 s, 1080p: {whole:.2f} s; decoding {decode:.2f}, faces {find:.2f}, network "
        f"{forward:.2f}: {statistics.median(ratios):.2f} of their sum ({ratios[0]:.2f} to "
        f"{ratios[-1]:.2f})"
    )


def photograph(path: Path, results: Measured) -> None:
    """Tells how long a photograph takes."""
    from qad_jax.detection.detector import Detector

    cv2.imwrite(str(path), frame(0, (3000, 4000))[..., ::-1])
    detector = Detector.from_pretrained()
    detector(path)
    times = sorted(measured.seconds(lambda: detector(path)) for _ in range(REPEATS))
    results.add(_TITLE, "photograph of 12 megapixels, s", _MEDIAN, times, unit="s")
    print(
        f"photograph of 12 megapixels: {statistics.median(times):.2f} s ({times[0]:.2f} to "
        f"{times[-1]:.2f})"
    )


def start(path: Path, cache: Path, results: Measured) -> None:
    """Tells how long a command takes."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    command = [sys.executable, "-m", "qad_jax.detect", str(path)]

    def judge() -> None:
        subprocess.run(command, env=environment, check=True, capture_output=True)

    first, *later = (measured.seconds(judge) for _ in range(4))
    title = "command with one image"
    results.add(_TITLE, f"{title}, cold cache, s", _MEDIAN, [first], unit="s", digits=1)
    results.add(_TITLE, f"{title}, warm cache, s", _MEDIAN, later, unit="s", digits=1)
    print(
        f"a command with one image: {first:.1f} s, with compiled programs kept "
        f"{statistics.median(later):.1f} s"
    )


def long(path: Path, results: Measured) -> None:
    """Tells the memory of a command that judges ten minutes of 4K."""
    import av

    # One group of frames is encoded, and its packets are written again and again.
    options = {"preset": "ultrafast", "crf": "30", "g": str(GROUP), "bf": "0"}
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = 3840, 2160, "yuv420p"
        packets = []
        for number in range(GROUP):
            one = av.VideoFrame.from_ndarray(frame(number, (2160, 3840)))
            one.pts = number
            packets += stream.encode(one)
        packets += stream.encode(None)
        for number in range(600 * RATE):
            one = av.Packet(bytes(packets[number % GROUP]))
            one.stream, one.time_base = stream, fractions.Fraction(1, RATE)
            one.pts = one.dts = number
            one.duration, one.is_keyframe = 1, number % GROUP == 0
            file.mux(one)
    whole = measured.seconds(
        lambda: subprocess.run(
            [sys.executable, "-m", "qad_jax.detect", str(path)], check=True, capture_output=True
        )
    )
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    title = "ten minutes of 4K"
    results.add(title, "whole, s", _MEDIAN, [whole], unit="s", digits=0)
    results.add(title, "memory, MB", _MEDIAN, [most], unit="MB", digits=0)
    print(f"ten minutes of 4K: {whole:.0f} s, {most:.0f} MB")


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python benchmarks/detect_speed.py", description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="the memory of a long 4K clip alone")
    measured.add_option(parser)
    args = parser.parse_args(argv)
    results = Measured("detect_speed")
    cpu.tune()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.long:
            long(folder / "long.mp4", results)
        else:
            clip(folder / "clip.mp4", results)
            photograph(folder / "photograph.jpg", results)
            small = folder / "small.jpg"
            cv2.imwrite(str(small), frame(0, (600, 800))[..., ::-1])
            start(small, folder / "cache", results)
    results.write(args.json)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
