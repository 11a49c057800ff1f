"""Base of the datasets that are made from video files, which the user has downloaded."""

from __future__ import annotations

import abc
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from data_builders import clips, faces, staging
from data_builders.clips import ClipSource, Layout, Recipe
from data_builders.errors import UnusableClipError, UserError, unusable
from data_builders.paired import PairedConfig, PairedDatasetBuilder
from data_builders.records import DEFAULT_QUALITIES, Clip, Example

# How many names of missing videos are stored: where only a part of a dataset is there, thousands of
# videos are missing.
_MISSING_NAMED = 1000


class VideoDatasetBuilder(
    PairedDatasetBuilder,
    skip_registration=True,  # type: ignore[call-arg]
):
    """A subclass says which videos are in a folder (`find`); crops and resuming are here.

    The default recipe has the plain name of the dataset. Another recipe is another configuration,
    and its name has a digest of the recipe.
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("manual_dir",)
    #: The folder tree that is expected, as text for the user.
    TREE: ClassVar[str]

    def __init__(
        self,
        *,
        manual_dir: str | Path = "",
        config: str | PairedConfig | None = None,
        qualities: Sequence[str] = DEFAULT_QUALITIES,
        frames_per_video: int = 32,
        face_source: faces.FaceSource | None = None,
        seed: int = 0,
        max_skipped: float = 0.1,
        **kwargs: Any,
    ) -> None:
        """Describes a build; nothing is read yet.

        Args:
          manual_dir: The folder that was downloaded.
          config: The part of the dataset, where it has parts; or the configuration of another
            recipe, to open a dataset that this recipe has built.
          qualities: Qualities of the records, best first: 'raw', 'cNN', 'random', 'messenger'. A
            quality that is not on disk is made from the best one that is.
          frames_per_video: Number of frames of each video, spread evenly.
          face_source: Where boxes come from; by default MTCNN.
          seed: Seed of quality 'random'.
          max_skipped: Share of the videos that may be unusable. If more are, the build fails.
          **kwargs: See `tfds.core.DatasetBuilder`.

        Raises:
          UserError: A quality is unknown, or a number is out of range.
        """
        if frames_per_video < 1:
            raise UserError(f"--frames_per_video: is {frames_per_video}, must be at least 1")
        default = Recipe(DEFAULT_QUALITIES)
        built = config if isinstance(config, PairedConfig) else None
        self.recipe = Recipe(
            clips.check_qualities(built.qualities if built else qualities),
            frames_per_video,
            face_source or default.faces,
            seed,
        )
        self.manual_dir = Path(manual_dir).expanduser().absolute() if str(manual_dir) else None
        self.max_skipped = max_skipped
        chosen: str | PairedConfig | None = config
        name = built.name.rpartition("-")[0] if built else config
        self.part = name or (self.BUILDER_CONFIGS[0].name if self.BUILDER_CONFIGS else "")
        if not built and self.recipe.describe() != default.describe():
            digest = hashlib.sha256(json.dumps(self.recipe.describe()).encode()).hexdigest()[:8]
            name = "-".join(filter(None, (self.part, digest)))
            chosen = PairedConfig(name=name, qualities=self.recipe.qualities)
        super().__init__(config=chosen, **kwargs)
        place = Path(self.data_dir)  # now, as TFDS changes it while it builds
        #: The folder of finished clips, until the build is complete.
        self.staging = place.parent / f".{place.name}.clips"

    @classmethod
    @abc.abstractmethod
    def find(cls, root: Path, config: str) -> Layout:
        """Finds the videos of the dataset in a folder.

        Args:
          root: The folder that was downloaded.
          config: The part of the dataset, '' where it has no parts.

        Raises:
          UserError: The folder holds nothing of this dataset.
        """

    @property
    def qualities(self) -> tuple[str, ...]:
        """The qualities of the records, best first."""
        return self.recipe.qualities

    def layout(self) -> Layout:
        """Finds the videos in the folder that was downloaded.

        Raises:
          UserError: No folder is named, or it holds nothing of this dataset.
        """
        if self.manual_dir is None:
            raise UserError(
                f"--manual_dir: name the folder of {self.name}; --doctor says what it should hold"
            )
        return self.find(self.manual_dir, self.part)

    def clip_sources(self) -> Mapping[str, Sequence[ClipSource]]:
        """Names one clip for each video in the folder."""
        layout = self.layout()
        self.info.metadata["notes"] = list(layout.notes)
        self.info.metadata["missing"] = list(layout.missing[:_MISSING_NAMED])
        self.info.metadata["missing_count"] = len(layout.missing)
        self.info.metadata["reencoded"] = {
            quality: sum(quality not in f.files for files in layout.splits.values() for f in files)
            for quality in self.recipe.qualities
        }
        sources = {
            split: [ClipSource(files, self.recipe) for files in listed]
            for split, listed in layout.splits.items()
            if listed
        }
        if clips.RANDOM in self.recipe.qualities:
            self.info.metadata["random_crf"] = {
                str(source): clips.crf_of(source, clips.RANDOM)
                for listed in sources.values()
                for source in listed
            }
        return sources

    @staticmethod
    def read_clip(source: ClipSource) -> Clip:
        """Reads one video, see `data_builders.clips.read`."""
        return clips.read(source)

    def clip_reader(self) -> Callable[[Any], list[Example] | UnusableClipError]:
        """As in the base, but each finished clip is kept, and an unusable clip is not an error."""
        return functools.partial(_staged_clip, self.staging)

    def check_skipped(self, clips: int) -> None:
        """Stores which clips were skipped, and fails where they are too many."""
        self.info.metadata["skipped"] = list(self.skipped)
        if len(self.skipped) > self.max_skipped * clips:
            error = UserError(
                f"{len(self.skipped)} of {clips} videos are unusable, more than --max_skipped "
                f"{self.max_skipped:g} allows; the first: {self.skipped[0]}"
            )
            for note in self.traces.values():
                error.add_note(note)
            raise error

    def clips_done(self) -> int:
        """Number of finished clips that a later build goes on from."""
        return sum(1 for _ in self.staging.glob("*.npz"))

    def finish(self) -> None:
        """Removes the finished clips, which are in the dataset now."""
        staging.discard(self.staging)

    def _info(self) -> tfds.core.DatasetInfo:
        return self._paired_info(recipe=self.recipe.describe())


def _staged_clip(folder: Path, source: ClipSource) -> list[Example] | UnusableClipError:
    def made() -> list[Example]:
        try:
            return list(clips.read(source).examples())
        except MemoryError:  # of the machine and not of the clip
            raise
        except Exception as error:
            raise unusable(source, known, error) from error

    known = [*source.files.files.values(), *([source.files.mask] if source.files.mask else [])]
    try:
        files = {q: (str(path), path.stat().st_size) for q, path in source.files.files.items()}
    except OSError as error:  # the file was moved after the folder was read
        return unusable(source, known, error)
    name = json.dumps([str(source), files, source.recipe.describe()])
    try:
        return staging.staged(folder, name, made)
    except UnusableClipError as error:
        return error
