"""The builder that turns clips into a dataset of records.

Each dataset is a folder with a builder that names its clips (`clip_sources`) and reads one of them
(`read_clip`). Features, encoding, parallel reading and progress are here.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.writer import ExampleWriter

from data_builders.access import Access
from data_builders.digest import digest
from data_builders.errors import UnusableClipError, UserError, describe, unusable
from data_builders.patches import tfds_large_splits, tfds_record_order
from data_builders.progress import Progress
from data_builders.records import DEFAULT_QUALITIES, LABELS, Clip, Example, FinishedClip, Pair
from data_builders.workers import parallel_map

# The libraries on which pixels and boxes depend. Their versions are stored with each dataset.
_SHAPING = (
    "av",
    "jax",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "qad-jax",
    "tensorflow-datasets",
)


@functools.cache
def shaping_versions() -> dict[str, str]:
    """The installed versions of this project and of the libraries that shape a record."""
    return {name: version(name) for name in _SHAPING}


@dataclasses.dataclass(eq=False)
class PairedConfig(tfds.core.BuilderConfig):
    """A builder configuration that says which qualities the records hold.

    Attributes:
      qualities: Names of the qualities, best first.
    """

    qualities: tuple[str, ...] = DEFAULT_QUALITIES


def features(qualities: Sequence[str]) -> tfds.features.FeaturesDict:
    """The features of a record with the given qualities."""
    image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
    return tfds.features.FeaturesDict(
        {
            "image": dict.fromkeys(qualities, image),
            "label": tfds.features.ClassLabel(names=LABELS),
            "method": tfds.features.Text(),
            "video": tfds.features.Text(),
            "identity": tfds.features.Text(),
            "frame": np.int32,
            "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
        }
    )


class PairedDatasetBuilder(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]
):
    """Base of all builders. A subclass says which clips there are and how one is read.

    Records are stored as array_record, which is read by index and without TensorFlow.
    """

    VERSION: ClassVar[tfds.core.Version] = tfds.core.Version("1.0.0")
    #: What the constructor needs besides the place of the dataset: 'manual_dir', 'manifest', or
    #: nothing for a dataset that is rendered.
    NEEDS: ClassVar[tuple[str, ...]] = ()
    #: Whether even a few clips are read in processes of their own, which a damaged file may end.
    APART: ClassVar[bool] = False
    #: What the constructor takes besides, which the command gives as flags.
    OPTIONS: ClassVar[frozenset[str]] = frozenset()
    #: How one gets the data, where one has to ask for it.
    ACCESS: ClassVar[Access | None] = None
    #: What a clip is called where some may be left out, such as 'videos'; '' where none may.
    UNIT: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Gives each dataset its own card: TFDS keeps the folder of one where its heirs find it."""
        super().__init_subclass__(**kwargs)
        cls.pkg_dir_path = None

    def __init__(
        self, *, max_skipped: float = 0.0, file_format: str = "array_record", **kwargs: Any
    ) -> None:
        if not 0 <= max_skipped <= 1:
            raise UserError(f"--max_skipped: is {max_skipped:g}, must be from 0 to 1")
        #: Share of the clips that may be left out.
        self.max_skipped = max_skipped
        #: Why each clip that could not be used was left out of this build.
        self.skipped: list[str] = []
        #: The traceback of those that a mistake in this program made unusable, by the reason.
        self.traces: dict[str, str] = {}
        #: What was noted of each clip, by its name.
        self.noted: dict[str, Mapping[str, int]] = {}
        #: Number of clips of each split of this build, usable or not.
        self._clips: dict[str, int] = {}
        #: Whether an Apache Beam pipeline makes the clips; else processes of this machine do.
        self.beam = False
        try:
            super().__init__(file_format=file_format, **kwargs)
            _ = self.info.metadata  # TFDS reads it when it is asked for
        except Exception as error:  # of many kinds
            built = hasattr(self, "_data_dir") and self.is_prepared()
            if not built or isinstance(error, UserError):
                raise
            raise UserError(
                f"{self.data_dir}: what it says of its dataset is damaged: {describe(error)}; "
                "remove this folder and build the dataset again, or copy it again"
            ) from error

    @property
    def qualities(self) -> tuple[str, ...]:
        """The qualities of this builder's records, best first."""
        return self.builder_config.qualities

    @property
    def digests(self) -> Mapping[str, str]:
        """The digest of the records of each split; empty where the build kept none."""
        return (self.info.metadata or {}).get("digest", {})

    @abc.abstractmethod
    def clip_sources(self) -> Mapping[str, Sequence[Any]]:
        """Names the clips of each split: for each clip a picklable value that `read_clip` takes."""

    @staticmethod
    @abc.abstractmethod
    def read_clip(source: Any) -> Clip | Pair:
        """Reads one clip, or a pair of clips.

        It runs in a worker process and depends on nothing but `source`.
        """

    def clip_reader(self) -> Callable[[Any], FinishedClip | UnusableClipError]:
        """Gives a picklable function from a source to its clip, or to why there is none."""
        return functools.partial(_finished, self.read_clip)

    def listed(self) -> Mapping[str, Sequence[Any]]:
        """The clips, as `clip_sources` names them.

        Raises:
          UserError: As there, or the data cannot be read. An error of the system would be taken for
            one of what is written.
        """
        try:
            return self.clip_sources()
        except OSError as error:
            raise UserError(f"{describe(error)}; the data cannot be read") from error

    def spared(self, total: int) -> int:
        """How many of some clips may be left out; 29 of 100, where the share is 0.29."""
        most = round(self.max_skipped * total)  # whose product may be 28.999999999999996
        return most - (most > 0 and most / total > self.max_skipped)

    def check_skipped(self, total: int) -> None:
        """Stores which clips were skipped; is called after each split.

        Args:
          total: Number of the clips of all splits: their order does not count.

        Raises:
          UserError: Too many of them were skipped.
        """
        if self.UNIT:
            self.info.metadata["skipped"] = list(self.skipped)
        if len(self.skipped) <= self.spared(total):
            return
        reason = self.skipped[0]
        if self.UNIT:
            reason = (
                f"{len(self.skipped)} of {total} {self.UNIT} are unusable, more than --max_skipped "
                f"{self.max_skipped:g} allows; the first: {reason}"
            )
        raise self._unusable(reason)

    def _unusable(self, reason: str) -> UserError:
        error = UserError(reason)
        for note in self.traces.values():
            error.add_note(note)
        return error

    def _check_split(self, split: str, skipped: Sequence[str]) -> None:
        if skipped and len(skipped) == self._clips[split]:
            raise self._unusable(
                f"the {split} split has no {self.UNIT} that can be used; the first of "
                f"{len(skipped)}: {skipped[0]}"
            )

    def clips_done(self) -> int:
        """Number of clips that a running build has kept; this class keeps none."""
        return 0

    def is_prepared(self) -> bool:
        """Whether the dataset is built. TFDS would take `[1]` in its path for a pattern."""
        return bool((self.data_path / tfds.core.constants.DATASET_INFO_FILENAME).exists())

    def finish(self) -> None:
        """Is called once the dataset is complete; this class does nothing."""

    def _info(self) -> tfds.core.DatasetInfo:
        return self._paired_info()

    def _paired_info(self, **metadata: Any) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=features(self.qualities), metadata=tfds.core.MetadataDict(metadata)
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded: the data is rendered, or the user has it
        sources = self.listed()
        self._clips = {split: len(clips) for split, clips in sources.items()}
        self.info.metadata["versions"] = dict(shaping_versions())
        self.skipped, self.traces, self.noted = [], {}, {}
        if self.beam:
            return self._pipelines(sources)
        progress = Progress(sum(self._clips.values()), self.info.full_name, unit="clip")
        return {
            split: self._generate_examples(split, clips, progress)
            for split, clips in sources.items()
        }

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        super()._download_and_prepare(*args, **kwargs)
        # Before the folder gets its name: a dataset that is there has all of its information.
        self.info.metadata["digest"] = {split: digest(self, split) for split in self.info.splits}

    def _example_writer(self) -> Any:
        return _Writer(self.info.file_format)

    def _generate_splits(self, *args: Any) -> Sequence[Any]:
        with tfds_record_order.in_key_order(), tfds_large_splits.without_tensorflow():
            try:
                splits: Sequence[Any] = super()._generate_splits(*args)
            except Exception as error:
                if self.beam and not isinstance(error, UserError):
                    # Perhaps a split has no clip that can be used: that is an error of TFDS, too.
                    with contextlib.suppress(OSError):  # it ended before it could say so
                        self._process_pipeline_result(None)
                raise
        return splits

    def _generate_examples(
        self, split: str, sources: Sequence[Any], progress: Progress
    ) -> Iterator[Example]:
        before = len(self.skipped)
        processes = parallel_map(len(sources), died=_died, apart=self.APART)
        with processes as ordered_map, progress:
            for clip in ordered_map(self.clip_reader(), sources):
                progress.advance()
                if isinstance(clip, UnusableClipError):
                    self._skip(str(clip), getattr(clip, "__notes__", ()))
                else:
                    if clip.notes:
                        self.noted[clip.name] = clip.notes
                    yield from clip.examples
            self.check_skipped(sum(self._clips.values()))
            self._check_split(split, self.skipped[before:])

    def _skip(self, reason: str, traces: Sequence[str]) -> None:
        self.skipped.append(reason)
        if traces:
            self.traces[reason] = "\n".join(traces)

    def _pipelines(self, sources: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        from data_builders import beam

        return {
            split: beam.ReadClips(clips, self.clip_reader(), self._report_of(split))
            for split, clips in sources.items()
        }

    def _report_of(self, split: str) -> Path:
        return Path(self.data_path) / f"clips-{split}"

    def _process_pipeline_result(self, pipeline_result: Any) -> None:
        """Is called by TFDS at the end of a Beam pipeline, before the dataset is complete."""
        from data_builders import beam

        del pipeline_result
        skipped = {split: beam.left_out(self._report_of(split)) for split in self._clips}
        for split, reasons in skipped.items():
            for reason, traces in reasons:
                self._skip(reason, traces)
            self.noted.update(beam.noted(self._report_of(split)))
        self.check_skipped(sum(self._clips.values()))
        for split, reasons in skipped.items():
            self._check_split(split, [reason for reason, _ in reasons])


class _Writer(ExampleWriter):  # of the module: Beam sends it by name
    """As that of TFDS, but what keeps a file from being written is an error of the system."""

    def write(self, path: Any, examples: Any) -> Any:
        try:
            return super().write(path, examples)
        except RuntimeError as error:  # array_record has no other, whatever happens
            raise OSError(str(error)) from error


def _finished(
    read_clip: Callable[[Any], Clip | Pair], source: Any
) -> FinishedClip | UnusableClipError:
    try:
        return read_clip(source).finished()
    except MemoryError:  # of the machine and not of the clip
        raise
    except Exception as error:
        return unusable(*_named(source), error)


def _died(source: Any) -> UnusableClipError:
    reason = UserError(
        "the process that read it ended at once, twice: a decoder fails on it, or there is not "
        "enough memory; convert the video, or fetch it again"
    )
    return unusable(*_named(source), reason)


def _named(source: Any) -> tuple[object, list[object]]:
    """What a clip is called, and its files; a clip that is rendered has none."""
    if hasattr(source, "files"):
        return source, list(source.files.files.values())
    paths = getattr(source, "paths", {})
    return (f"{source.method}/{source.video}" if paths else source), list(paths.values())
