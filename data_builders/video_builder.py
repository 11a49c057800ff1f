"""Base of the datasets that are made from video files, which the user has downloaded."""

from __future__ import annotations

import abc
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from data_builders import clips, faces, staging
from data_builders.clips import ClipSource, Layout, Recipe, VideoFiles
from data_builders.errors import (
    BrokenBuildError,
    UnavailableQualitiesError,
    UnusableClipError,
    UserError,
    unusable,
)
from data_builders.home import expanded
from data_builders.paired import PairedConfig, PairedDatasetBuilder, shaping_versions
from data_builders.qualities import RANDOM, check_qualities, instead
from data_builders.records import DEFAULT_QUALITIES, LABELS, Clip, FinishedClip, Pair

# How many names of missing videos are stored: where only a part of a dataset is there, thousands of
# videos are missing.
_MISSING_NAMED = 1000


class VideoDatasetBuilder(
    PairedDatasetBuilder,
    skip_registration=True,
):
    """A subclass says which videos are in a folder (`find`); crops and resuming are here.

    The default recipe has the plain name of the dataset. Another recipe is another configuration,
    and its name has a digest of the recipe.
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("manual_dir",)
    APART: ClassVar[bool] = True
    OPTIONS: ClassVar[frozenset[str]] = frozenset(
        {"qualities", "frames_per_video", "face_source", "seed", "max_skipped"}
    )
    UNIT: ClassVar[str] = "videos"
    #: The folder tree that is expected, as text for the user.
    TREE: ClassVar[str]

    def __init__(
        self,
        *,
        manual_dir: str | Path = "",
        config: str | PairedConfig | None = None,
        qualities: Sequence[str] = DEFAULT_QUALITIES,
        frames_per_video: int | None = None,
        face_source: faces.FaceSource | None = None,
        seed: int = 0,
        max_skipped: float = 0.1,
        drawn: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Describes a build; nothing is read yet.

        Args:
          manual_dir: The folder that was downloaded.
          config: The part of the dataset, where it has parts; or the configuration of another
            recipe, to open a dataset that this recipe has built.
          qualities: Qualities of the records, best first: 'raw', 'cNN', 'random', 'messenger'. A
            quality that is not on disk is made from the best one that is.
          frames_per_video: Number of frames of each video, spread evenly; None: as many as
            `default_recipe` says.
          face_source: Where boxes come from; by default MTCNN.
          seed: Seed of quality 'random'.
          max_skipped: Share of the videos that may be unusable. If more are, the build fails.
          drawn: Other fields of the recipe, where a dataset's recipe has more.
          **kwargs: See `tfds.core.DatasetBuilder`.

        Raises:
          UserError: A quality is unknown, or a number is out of range.
        """
        if frames_per_video is not None and frames_per_video < 1:
            raise UserError(f"--frames_per_video: is {frames_per_video}, must be at least 1")
        default = self.default_recipe()
        built = config if isinstance(config, PairedConfig) else None
        self.recipe = dataclasses.replace(
            default,
            qualities=check_qualities(built.qualities if built else qualities),
            frames_per_video=frames_per_video or default.frames_per_video,
            faces=face_source or default.faces,
            seed=seed,
            **drawn or {},
        )
        self.manual_dir = expanded(manual_dir).absolute() if str(manual_dir) else None
        chosen: str | PairedConfig | None = config
        name = built.name.rpartition("-")[0] if built else config
        self.part = name or (self.BUILDER_CONFIGS[0].name if self.BUILDER_CONFIGS else "")
        if not built and self.recipe.describe() != default.describe():
            digest = hashlib.sha256(json.dumps(self.recipe.describe()).encode()).hexdigest()[:8]
            name = "-".join(filter(None, (self.part, digest)))
            chosen = PairedConfig(name=name, qualities=self.recipe.qualities)
        super().__init__(config=chosen, max_skipped=max_skipped, **kwargs)
        place = Path(self.data_dir)  # now, as TFDS changes it while it builds
        #: The folder of finished clips, until the build is complete.
        self.staging = place.parent / f".{place.name}.clips"

    @classmethod
    def default_recipe(cls) -> Recipe:
        """The recipe whose datasets have no name of their own."""
        return Recipe(DEFAULT_QUALITIES)

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

    def notes(self, layout: Layout) -> list[str]:
        """What the user should know of how a folder is read, masks and compressions included."""
        notes = [*layout.notes, *_uneven_histories(layout.videos, self.recipe.qualities)]
        if not self.recipe.faces.chooses:
            return notes
        for method in dict.fromkeys(files.method for files in layout.videos):
            masks = [files.mask for files in layout.videos if files.method == method]
            absent = masks.count(None)
            if absent:
                notes.append(
                    f"{method}: {absent} of {len(masks)} videos have no mask, their largest face "
                    "is taken"
                )
        return notes

    def examined(self, layout: Layout) -> str | None:
        """Says what a build would use of a folder; None: what `doctor.report` says."""
        del layout
        return None

    def check_qualities(self, layout: Layout) -> None:
        """Checks that the qualities are on disk or can be made, before any clip is read.

        Raises:
          UnavailableQualitiesError: More videos than may be skipped lack the file for it.
        """
        wanted, videos = self.recipe.qualities, layout.videos
        lacking = [files for files in videos if not all(map(files.gives, wanted))]
        spared = self.spared(len(videos))
        if len(lacking) <= spared:
            return
        which = [q for q in wanted if not all(files.gives(q) for files in lacking)]
        bests = list(dict.fromkeys(files.best_quality for files in lacking))
        usable = instead(wanted, [f.best_quality for f in videos], spared)
        raise UnavailableQualitiesError(
            f"--qualities: {' and '.join(which)} cannot be made for {len(lacking)} of "
            f"{len(videos)} videos, such as {lacking[0]}: the best quality on disk is "
            f"{' or '.join(bests)}; fetch better files, or give --qualities {','.join(usable)}",
            usable,
        )

    def clip_sources(self) -> Mapping[str, Sequence[ClipSource]]:
        """Names one clip for each video in the folder."""
        layout = self.layout()
        self.check_qualities(layout)
        self.info.metadata["notes"] = self.notes(layout)
        self.info.metadata["missing"] = list(layout.missing[:_MISSING_NAMED])
        self.info.metadata["missing_count"] = len(layout.missing)
        self.info.metadata["reencoded"] = {
            quality: sum(quality not in f.files and f.gives(quality) for f in layout.videos)
            for quality in self.recipe.qualities
        }
        sources = {
            split: self.sources_of(listed) for split, listed in layout.splits.items() if listed
        }
        if RANDOM in self.recipe.qualities:
            self.info.metadata["random_crf"] = {
                name: source.crf(RANDOM)
                for listed in sources.values()
                for source in listed
                if source.files.gives(RANDOM)
                for name in source.names
            }
        return sources

    def sources_of(self, listed: Sequence[VideoFiles]) -> Sequence[ClipSource]:
        """Names the clips that the files of a split become: one for each video."""
        return [ClipSource(files, self.recipe) for files in listed]

    @staticmethod
    def read_clip(source: ClipSource) -> Clip | Pair:
        """Reads one video, see `data_builders.clips.read`."""
        return clips.read(source)

    def clip_reader(self) -> Callable[[Any], FinishedClip | UnusableClipError]:
        """As in the base, but each finished clip is kept, and an unusable clip is not an error."""
        return functools.partial(_staged_clip, self.staging, self.read_clip)

    def check_skipped(self, total: int) -> None:
        """Stores what was noted of the clips, too."""
        for fact in (clips.NO_FACE, clips.FACES, clips.UNPAIRED):
            of = {name: notes[fact] for name, notes in self.noted.items() if fact in notes}
            self.info.metadata[fact] = dict(sorted(of.items()))
        self.info.metadata[f"{clips.NO_FACE}_count"] = sum(
            notes.get(clips.NO_FACE, 0) for notes in self.noted.values()
        )
        super().check_skipped(total)

    def clips_done(self) -> int:
        """Number of finished clips that a later build goes on from."""
        return sum(1 for _ in self.staging.glob("*.npz"))

    def finish(self) -> None:
        """Removes the finished clips, which are in the dataset now."""
        staging.discard(self.staging)

    def _info(self) -> tfds.core.DatasetInfo:
        return self._paired_info(recipe=self.recipe.describe())


def _staged_clip(
    folder: Path, read: Callable[[ClipSource], Clip | Pair], source: ClipSource
) -> FinishedClip | UnusableClipError:
    def made() -> FinishedClip:
        try:
            return read(source).finished()
        except (MemoryError, BrokenBuildError):  # not of the clip
            raise
        except Exception as error:
            raise unusable(source, known, error) from error

    known = source.inputs
    try:
        facts = [(path, path.stat()) for path in known]
    except OSError as error:  # the file was moved after the folder was read
        return unusable(source, known, error)
    # A file that was replaced, by one of the same size too, is read again.
    files = [(str(path), fact.st_size, fact.st_mtime_ns) for path, fact in facts]
    # So is one of which the lists say something else by now, or that other libraries have made.
    about = [str(source), source.files.identity, source.files.label, list(source.files.files)]
    name = [*about, files, source.recipe.describe(), shaping_versions()]
    try:
        return staging.staged(folder, json.dumps(name), made)
    except UnusableClipError as error:
        return error


def _uneven_histories(videos: Sequence[VideoFiles], wanted: Sequence[str]) -> list[str]:
    """Notes the qualities for which real and fake videos were not compressed equally often.

    A quality that is made here from c23 is compressed twice, and one that is on disk, or is made
    from raw, once. Where that goes with the label, a detector can learn it.

    Args:
      videos: The videos of all splits.
      wanted: The qualities of the records.
    """
    notes = []
    for quality in wanted:
        twice = {
            label: [
                quality not in video.files and video.best_quality != "raw"
                for video in videos
                if video.label == label and video.gives(quality)
            ]
            for label in LABELS
        }
        real, fake = twice.values()
        if sum(real) * len(fake) != sum(fake) * len(real):
            counts = " and ".join(f"{sum(t)} of {len(t)} {label}" for label, t in twice.items())
            notes.append(
                f"{quality} is made from a file that is compressed already for {counts} videos: a "
                "detector may tell real from fake by that; get the same qualities of both"
            )
    return notes
