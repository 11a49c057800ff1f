"""How fast a split is scored, as a share of the rate of its parts.

Writes PNG crops of rendered noise as a dataset in memory, and times three things in turn, again and
again, so that all of them see the same machine: `evaluate.predict`; decoding and resizing alone, by
the same reading threads; the forward pass alone, on a batch that is on the devices already. On
accelerators the slower part hides the other, and the bound is the slower one; on processors both
want the same cores, and the bound is one after the other. Prints images a second of each and the
rate of scoring as a share of the bound.

    python benchmarks/evaluation_rate.py [--model resnet50] [--image_size 224] [--crop 320]
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

import cv2
import jax
import measured
import numpy as np
from measured import Measured, positive
from tensorflow_datasets.proto import tf_example_pb2

from data_builders.command_line import DONE, Parser, run
from data_builders.png import encode_png
from qad_jax.evaluation import inference
from qad_jax.models import NAMES, create
from qad_jax.runs import placement
from qad_jax.training import parallel
from qad_jax.training.input_pipeline import TupleSource, frames
from qad_jax.training.step import make_predict_step

QUALITIES = ("raw", "c23", "c40")


class Rendered(TupleSource):
    """Records whose images are made here; what happens to them is the pipeline's."""

    def __init__(self, records: int, crop: int, image_size: int) -> None:
        """Makes a few images, which the records share."""
        rng = np.random.default_rng(0)
        smooth = [cv2.GaussianBlur(p, (0, 0), 2) for p in _noise(rng, 8, crop)]
        images = [encode_png(image) for image in smooth]
        self._records = [
            _record([images[(i + j) % 8] for j in range(len(QUALITIES))]) for i in range(records)
        ]
        self._name, self._size, self._kept = "rendered", image_size, None
        self.title = self._name
        self.qualities = QUALITIES
        cv2.setNumThreads(1)


def _record(images: list[bytes]) -> bytes:
    """A record as TFDS stores it, of one image for each quality."""
    example = tf_example_pb2.Example()
    features = example.features.feature
    for quality, image in zip(QUALITIES, images, strict=True):
        features[f"image/{quality}"].bytes_list.value.append(image)
    for name in ("label", "frame"):
        features[name].int64_list.value.append(0)
    for name in ("method", "video", "identity"):
        features[name].bytes_list.value.append(b"x")
    features["box"].float_list.value.extend([0, 0, 1, 1])
    return example.SerializeToString()


def _noise(rng: np.random.Generator, count: int, side: int) -> np.ndarray:
    return rng.integers(0, 256, (count, side, side, 3), np.uint8)


def _job(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="python benchmarks/evaluation_rate.py", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", choices=NAMES, default="resnet50")
    parser.add_argument("--image_size", type=positive, default=224)
    parser.add_argument("--crop", type=positive, default=320, help="side of the stored crops, px")
    parser.add_argument("--records", type=positive, default=64)
    parser.add_argument("--batch_size", type=positive, default=16)
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    measured.add_option(parser)
    args = parser.parse_args(argv)

    model = create(args.model, dtype=args.dtype)
    shape = (1, args.image_size, args.image_size, 3)
    init = jax.jit(lambda key: model.init(key, np.zeros(shape, np.float32), train=False))
    variables = placement.replicate(dict(init(jax.random.key(0))))
    step = parallel.pmap_predict(make_predict_step(model))
    source = Rendered(args.records, args.crop, args.image_size)
    batch_size = -(-args.batch_size // parallel.device_count()) * parallel.device_count()
    batch = parallel.shard(next(frames(source, batch_size)).images)
    batches = -(-args.records // batch_size)

    def forward() -> None:
        made = [step(variables, batch) for _ in range(batches)]
        jax.block_until_ready(made)

    def decode() -> None:
        for _ in frames(source, batch_size):
            pass

    def score() -> None:
        inference.predict(
            step, variables, source, qualities=QUALITIES, batch_size=batch_size, label="scoring"
        )

    forward()  # compiles
    score()
    overlaps = jax.default_backend() != "cpu"
    works = (forward, decode, score)
    times = [[measured.seconds(work) for work in works] for _ in range(args.repeats)]
    images = args.records * len(QUALITIES)
    forward_time, decode_time, score_time = (
        statistics.median(column) for column in zip(*times, strict=True)
    )
    shares = [(max(f, d) if overlaps else f + d) / s for f, d, s in times]
    print(f"{parallel.device_count()} x {jax.devices()[0].device_kind}, {args.model}")
    print(f"forward {images / forward_time:8.0f} images a second")
    print(f"decode  {images / decode_time:8.0f}")
    print(f"score   {images / score_time:8.0f}")
    bound = "the slower of the two" if overlaps else "one after the other"
    print(
        f"share of {bound}: {statistics.median(shares):.2f} "
        f"(median of {args.repeats}, {min(shares):.2f} to {max(shares):.2f})"
    )
    results = Measured("evaluation_rate")
    title = f"scoring, {args.model} at {args.image_size} px, {args.dtype}"
    more = {"unit": "images/s", "better": "higher", "digits": 0}
    for name, column in zip(("forward", "decode", "score"), zip(*times, strict=True), strict=True):
        rates = [images / one for one in column]
        results.add(title, f"{name}, images/s", "median", rates, **more)
    share = f"score as a share of {bound}"
    results.add(title, share, "median", shares, unit="times", better="higher")
    results.write(args.json)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
