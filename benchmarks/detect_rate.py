"""How fast `qad-jax detect` judges many images, as a share of the rate of its parts.

Writes JPEG images of a photographed face, each shifted and coloured in its own way, and times two
things in turn, again and again, so that both see the same machine: `many.looks`, which is what the
command does; and its two parts for themselves: what is done before the network (reading, the
search for faces, the estimate of quality, the second encoding), and the network in full batches.
The first is always done on the processor, as the command's processes do it. On accelerators the
slower part hides the other, and the bound is the slower one, where the first is shared by the
cores; on processors both want the same cores, and the bound is the sum. Prints files
a second of each, the share, and the largest memory of this process and of its workers.

    python benchmarks/detect_rate.py [--files 1000] [--model resnet50] [--side 400]
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import jax
import measured
import numpy as np
import skimage.data
from measured import Measured, positive

from data_builders.command_line import DONE, Parser, run
from data_builders.faces import Detected
from data_builders.workers import available_cores
from qad_jax import cpu, models
from qad_jax.detection import looking, many, media
from qad_jax.detection.detector import Detector
from qad_jax.detection.scoring import batch_size
from qad_jax.evaluation.rates import Rates
from qad_jax.evaluation.results import Estimate
from qad_jax.evaluation.verdicts import Thresholds
from qad_jax.weights.model_file import Description, ModelFile


def detector(network: str, image_size: int) -> Detector:
    """A detector whose network was not trained: its speed is the same."""
    model = models.create(network)
    shape = (1, image_size, image_size, 3)
    start = jax.jit(lambda key: model.init(key, np.zeros(shape, np.float32), train=False))
    none = Estimate(None)
    quality = {
        "thresholds": vars(Thresholds(1.0, 0.5, 0.3, 0.7, (0.1, 0.2), (0.8, 0.9))),
        "rates": Rates(2, 2, none, none, none, none, none).as_dict(),
    }
    described = Description(
        name="untrained",
        version="1",
        network=network,
        image_size=image_size,
        crop=Detected().recipe,
        normalisation={},
        qualities=dict.fromkeys(("raw", "c23", "c40"), quality),
        training={},
        measured={},
        sources=(),
    )
    return Detector(ModelFile(described, jax.device_get(dict(start(jax.random.key(0)))), "0" * 64))


def write_images(folder: Path, count: int, side: int) -> list[str]:
    """Writes images of one face, none like another."""
    rng, face = np.random.default_rng(0), skimage.data.astronaut()[:300, 70:370]
    paths = []
    for number in range(count):
        shifted = np.roll(face, rng.integers(-8, 9, 2), (0, 1)) * rng.uniform(0.8, 1, 3)
        image = cv2.resize(shifted.astype(np.uint8), (side, side))
        paths.append(str(folder / f"{number:06}.jpg"))
        cv2.imwrite(paths[-1], image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return paths


def peak(who: int) -> float:
    """The largest memory so far, in MB; of the processes that have ended, that of the largest."""
    return resource.getrusage(who).ru_maxrss / 1024


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python benchmarks/detect_rate.py", description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=models.NAMES, default="resnet50")
    parser.add_argument("--image_size", type=positive, default=224)
    parser.add_argument("--files", type=positive, default=1000)
    parser.add_argument("--side", type=positive, default=400, help="of an image, px")
    parser.add_argument("--repeats", type=positive, default=3)
    measured.add_option(parser)
    args = parser.parse_args(argv)
    cpu.tune()

    made = detector(args.model, args.image_size)
    looker = made.looker(keep=False)
    processor = jax.local_devices(backend="cpu")[0]
    with tempfile.TemporaryDirectory() as folder:
        files = write_images(Path(folder), args.files, args.side)
        crops: list[Any] = []

        def read() -> None:
            for file in files:
                media.sha256(Path(file))
                media.read(Path(file), looker.frames)

        def look() -> None:  # it reads, too
            crops.clear()
            with jax.default_device(processor):
                for file in files:
                    crops.extend(looker(looking.Task(file)).crops())

        def forward() -> None:
            made.scores(crops)

        def detect() -> None:
            assert sum(1 for _ in many.looks(made, files)) == len(files)

        look()  # compiles
        made.scores(crops[:1])
        names = ("read", "look", "forward", "detect")
        times = [
            [measured.seconds(work) for work in (read, look, forward, detect)]
            for _ in range(args.repeats)
        ]
    for worker in multiprocessing.active_children():
        worker.join()  # the memory of a process is known when it has ended
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    kind = f"{jax.device_count()} x {jax.devices()[0].device_kind}, {available_cores()} cores"
    print(
        f"{kind}, {args.model}, {len(files)} files, {len(crops)} crops, batches of {batch_size()}"
    )
    for name, median in zip(names, medians, strict=True):
        print(f"{name:8} {len(files) / median:8.1f} files a second")
    overlaps = jax.default_backend() != "cpu"
    shares = [
        (max(a / available_cores(), b) if overlaps else a + b) / whole for _, a, b, whole in times
    ]
    bound = "the slower of look and forward" if overlaps else "look and forward, one after another"
    print(
        f"share of {bound}: {statistics.median(shares):.2f} "
        f"(median of {args.repeats}, {min(shares):.2f} to {max(shares):.2f})"
    )
    memory = peak(resource.RUSAGE_SELF), peak(resource.RUSAGE_CHILDREN)
    print(f"memory: {memory[0]:.0f} MB here, {memory[1]:.0f} MB in the largest worker")
    results = Measured("detect_rate")
    title = f"{args.files} images of {args.side} pixels, {args.model}"
    more = {"unit": "files/s", "better": "higher", "digits": 0}
    for name, column in zip(names, zip(*times, strict=True), strict=True):
        rates = [len(files) / one for one in column]
        results.add(title, f"{name}, files/s", "median", rates, **more)
    share = f"detect as a share of {bound}"
    results.add(title, share, "median", shares, unit="times", better="higher")
    for name, most in zip(("here", "of the largest worker"), memory, strict=True):
        results.add(title, f"memory {name}, MB", "median", [most], unit="MB", digits=0)
    results.write(args.json)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
