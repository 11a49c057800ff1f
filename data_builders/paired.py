"""The builder that turns clips into a dataset of records.

A dataset is a folder with a builder that names its clips (`clip_sources`) and reads one
(`read_clip`); features, encoding, parallel reading and progress are here.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from data_builders.errors import UnusableClipError, UserError
from data_builders.patches import tfds_record_order
from data_builders.progress import Progress
from data_builders.records import DEFAULT_QUALITIES, LABELS, Clip, Example
from data_builders.workers import parallel_map

# The libraries that shape pixels and boxes, stored with each dataset.
_SHAPING = ("av", "jax", "numpy", "opencv-python-headless", "qad-jax", "tensorflow-datasets")


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
        image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
        features = tfds.features.FeaturesDict(
            {
                "image": dict.fromkeys(self.qualities, image),
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
        with tfds_record_order.in_key_order():
            splits: Sequence[Any] = super()._generate_splits(*args)
        return splits

    def _generate_examples(self, sources: Sequence[Any], progress: Progress) -> Iterator[Example]:
        with parallel_map(len(sources)) as ordered_map, progress:
            for examples in ordered_map(self.clip_reader(), sources):
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
            split: beam.ReadClips(clips, self.clip_reader(), self._report_of(split))
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
