"""The record every dataset yields, and the builder that turns clips into it.

A *clip* is one video cut to one face at several qualities: the same frames, the same boxes. A
dataset is a folder with a builder that names its clips (`clip_sources`) and reads one
(`read_clip`); features, encoding, parallel reading and progress are here.
"""

from __future__ import annotations

import abc
import collections
import contextlib
import dataclasses
import functools
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds

from data_builders import records
from data_builders.errors import UnusableClipError, UserError
from data_builders.progress import Progress

LABELS = ("real", "fake")  # the index is the class: 0 real, 1 fake
DEFAULT_QUALITIES = ("raw", "c23", "c40")
SPLITS = ("train", "validation", "test")

# The libraries that shape pixels and boxes, stored with each dataset.
_SHAPING = ("av", "jax", "numpy", "opencv-python-headless", "qad-jax", "tensorflow-datasets")

# Filters that are undone on whole vectors, and runs in place of a search for repetitions, which
# photographs do not have.
_FAST_TO_READ = (
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FAST_FILTERS),
)

Image: TypeAlias = npt.NDArray[np.uint8]
Example: TypeAlias = tuple[str, dict[str, Any]]

# Below this many clips a build is over before a pool of processes has started.
_POOL_PAYS_FROM = 24


def encode_png(image: Image) -> bytes:
    """Encodes an RGB picture losslessly.

    Args:
      image: `(height, width, 3)` uint8, RGB.

    Returns:
      The bytes of a PNG file, written for reading: as large as OpenCV's level 1, decoded and
      encoded twice as fast (`benchmarks/input_rate.py`).
    """
    done, data = cv2.imencode(".png", image[..., ::-1], _FAST_TO_READ)
    if not done:
        raise ValueError(f"cannot encode a picture of shape {image.shape}, {image.dtype}, as PNG")
    return data.tobytes()


@dataclasses.dataclass(frozen=True)
class Clip:
    """One video, cut to one face, at several qualities.

    Attributes:
      method: Manipulation method, 'original' for a real video.
      video: Name of the video, unique within `method`.
      identity: Who is seen; no identity is in two splits.
      label: 'real' or 'fake'.
      frames: `(n,)` index of each crop's frame in the source video.
      boxes: `(n, 4)` x0, y0, x1, y1 of each crop in pixels of the source frame.
      crops: For each quality the n crops, uint8 RGB arrays or the bytes of PNG files.
    """

    method: str
    video: str
    identity: str
    label: str
    frames: Sequence[int]
    boxes: npt.NDArray[np.float32]
    crops: Mapping[str, Sequence[Image | bytes]]

    def __post_init__(self) -> None:
        counts = {quality: len(crops) for quality, crops in self.crops.items()}
        if {*counts.values(), len(self.boxes)} != {len(self.frames)}:
            raise ValueError(
                f"{self.method}/{self.video}: {len(self.frames)} frames, {len(self.boxes)} boxes, "
                f"crops {counts}: all must be equal"
            )

    def examples(self) -> Iterator[Example]:
        """Yields `(key, example)` for each frame, pictures as PNG bytes."""
        for i, frame in enumerate(self.frames):
            pictures = {quality: crops[i] for quality, crops in self.crops.items()}
            yield (
                f"{self.method}/{self.video}/{frame:06d}",
                {
                    "image": {
                        quality: picture if isinstance(picture, bytes) else encode_png(picture)
                        for quality, picture in pictures.items()
                    },
                    "label": self.label,
                    "method": self.method,
                    "video": self.video,
                    "identity": self.identity,
                    "frame": int(frame),
                    "box": np.asarray(self.boxes[i], np.float32),
                },
            )


@dataclasses.dataclass(eq=False)
class PairedConfig(tfds.core.BuilderConfig):
    """A builder configuration that says which qualities the records hold.

    Attributes:
      qualities: Names of the qualities, best first.
    """

    qualities: tuple[str, ...] = DEFAULT_QUALITIES


class PairedDatasetBuilder(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]
):
    """Base of all builders: subclasses say which clips there are and how one is read.

    Records are stored as array_record, which is read by index and without TensorFlow.
    """

    VERSION: ClassVar[tfds.core.Version] = tfds.core.Version("1.0.0")
    #: What the constructor must be told besides where to put the dataset: 'manual_dir',
    #: 'manifest', or nothing for a dataset that makes itself.
    NEEDS: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, file_format: str = "array_record", **kwargs: Any) -> None:
        #: Why each clip that could not be used was left out of this build.
        self.skipped: list[str] = []
        #: Whether clips are made by an Apache Beam pipeline; else by processes of this machine.
        self.beam = False
        super().__init__(file_format=file_format, **kwargs)

    @property
    def qualities(self) -> tuple[str, ...]:
        """The qualities of this builder's records, best first."""
        return self.builder_config.qualities

    @abc.abstractmethod
    def clip_sources(self) -> Mapping[str, Sequence[Any]]:
        """Names all clips: for each split what `read_clip` needs to read them, picklable."""

    @staticmethod
    @abc.abstractmethod
    def read_clip(source: Any) -> Clip:
        """Reads one clip. Runs in a worker process: depends on nothing but `source`."""

    def clip_reader(self) -> Callable[[Any], list[Example] | UnusableClipError]:
        """What a worker does with a source, picklable: the examples, or why there are none."""
        return functools.partial(_encoded_examples, self.read_clip)

    def check_skipped(self, clips: int) -> None:
        """Called after each split, with the number of clips tried so far.

        Raises:
          UserError: Where too many of them were skipped; here, where any was.
        """
        if self.skipped:
            raise UserError(self.skipped[0])

    def clips_done(self) -> int:
        """How many clips of a build under way are done, where that can be seen; here, never."""
        return 0

    def finish(self) -> None:
        """Called once the dataset is whole; nothing to do here."""

    def _info(self) -> tfds.core.DatasetInfo:
        return self._paired_info()

    def _paired_info(self, **metadata: Any) -> tfds.core.DatasetInfo:
        picture = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
        features = tfds.features.FeaturesDict(
            {
                "image": dict.fromkeys(self.qualities, picture),
                "label": tfds.features.ClassLabel(names=LABELS),
                "method": tfds.features.Text(),
                "video": tfds.features.Text(),
                "identity": tfds.features.Text(),
                "frame": np.int32,
                "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            }
        )
        return self.dataset_info_from_configs(
            features=features, metadata=tfds.core.MetadataDict(metadata)
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded: the data is rendered, or the user's own
        sources = self.clip_sources()
        self.info.metadata["versions"] = {name: version(name) for name in _SHAPING}
        self.skipped = []
        if self.beam:
            return self._pipelines(sources)
        progress = Progress(sum(map(len, sources.values())), self.info.full_name, unit="clip")
        return {split: self._generate_examples(clips, progress) for split, clips in sources.items()}

    def _generate_splits(self, *args: Any) -> Sequence[Any]:
        with records.deterministic():
            splits: Sequence[Any] = super()._generate_splits(*args)
        return splits

    def _generate_examples(self, sources: Sequence[Any], progress: Progress) -> Iterator[Example]:
        with _workers(len(sources)) as parallel_map, progress:
            for examples in parallel_map(self.clip_reader(), sources):
                progress.advance()
                if isinstance(examples, UnusableClipError):
                    self.skipped.append(str(examples))
                else:
                    yield from examples
            self.check_skipped(progress.done)

    def _pipelines(self, sources: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        from data_builders import beam

        self._clips = {split: len(clips) for split, clips in sources.items()}
        return {
            split: beam.Clips(clips, self.clip_reader(), self._report_of(split))
            for split, clips in sources.items()
        }

    def _report_of(self, split: str) -> Path:
        return Path(self.data_path) / f"clips-{split}"

    def _process_pipeline_result(self, pipeline_result: Any) -> None:
        """Called by TFDS when a Beam pipeline is through, before the dataset is taken for whole."""
        from data_builders import beam

        del pipeline_result
        for split in self._clips:
            self.skipped += beam.left_out(self._report_of(split))
        self.check_skipped(sum(self._clips.values()))


def _encoded_examples(read_clip: Callable[[Any], Clip], source: Any) -> list[Example]:
    return list(read_clip(source).examples())


def _in_order(
    pool: Executor, ahead: int, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    """As `map`, with a bounded number of results that nobody has taken yet."""
    waiting: collections.deque[Future[Any]] = collections.deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def available_cores() -> int:
    """How many cores this process may run on."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


def start_worker() -> None:
    """Called first in a process that reads clips beside others that do."""
    cv2.setNumThreads(1)
    # A face detector may start JAX here: many processes cannot share an accelerator's memory.
    os.environ["JAX_PLATFORMS"] = "cpu"


@contextlib.contextmanager
def _workers(clips: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """An order-preserving `map` over as many processes as there are cores to run on."""
    cores = available_cores()
    if clips < _POOL_PAYS_FROM or cores == 1:
        yield map
        return
    # Spawned, not forked: the parent may hold JAX's threads.
    pool: Executor = ProcessPoolExecutor(
        cores, multiprocessing.get_context("spawn"), initializer=start_worker
    )
    try:
        yield functools.partial(_in_order, pool, 4 * cores)
    finally:
        pool.shutdown(cancel_futures=True)
