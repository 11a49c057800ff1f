"""What a build would make of a folder of faces, without building."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from data_builders import clips, doctor
from data_builders.errors import unusable
from data_builders.progress import Progress
from data_builders.self_blended import footage, recipes
from data_builders.self_blended.clip import BlendRecipe, BlendSource
from data_builders.self_blended.stills import VIDEOS, NoFaceError, is_of_file

if TYPE_CHECKING:
    from data_builders.video_builder import VideoDatasetBuilder

# Seconds on one core, measured on photographs whose faces have up to 300 px, with 2 to 16 frames
# and one to six qualities: of a pair, of each of its frames, and of each quality of a frame.
_PAIR_S, _FRAME_S, _QUALITY_S = 0.2, 0.07, 0.045
_CROP_MB = 0.08  # a PNG of a mean crop
_PHOTOGRAPHS, _VIDEOS = 100, 16  # in which faces are detected


def report(dataset: VideoDatasetBuilder, layout: clips.Layout) -> str:
    """Describes the folder of a dataset, in lines for a terminal.

    Args:
      dataset: Its builder.
      layout: The files in the folder, `dataset.layout()`.

    Raises:
      UserError: All fakes are swaps, and a split has one person.
    """
    recipe = dataset.recipe
    assert isinstance(recipe, BlendRecipe)
    sources = {
        split: dataset.sources_of(listed) for split, listed in layout.splits.items() if listed
    }
    lines = [f"{dataset.name} in {dataset.manual_dir}", *_counts(layout)]
    if recipes.SWAP in recipe.families:
        lines += [
            f"note: {split} has one identity, so it has no fakes of family {recipes.SWAP}"
            for split, listed in layout.splits.items()
            if len({files.identity for files in listed}) == 1
        ]
    lines += doctor.some("missing", layout.missing)
    lines += [f"note: {note}" for note in dataset.notes(layout)]
    pairs = [source for made in sources.values() for source in made]
    lines += _looked(pairs[:: recipe.variants])
    families = collections.Counter(source.files.method for source in pairs)
    if recipe.painters:
        names = ", ".join(file.path.stem for file in recipe.painters)
        lines.append(f"painters, also of half of the swaps: {names}")
    tuples = 2 * len(pairs) * recipe.frames_per_video
    lines.append(f"to be made: {len(pairs)} pairs, {tuples} tuples")
    lines.append("  fakes: " + ", ".join(f"{n} {family}" for family, n in families.items()))
    seconds = build_time(len(pairs), recipe.frames_per_video, len(dataset.qualities))
    size = tuples * len(dataset.qualities) * _CROP_MB / 1e3
    lines.append(doctor.cost(dataset, seconds, size))
    return doctor.joined(lines)


def build_time(pairs: int, frames: int, qualities: int) -> float:
    """Estimates how long a build takes on one core, in seconds. Real times differ.

    Args:
      pairs: Number of pairs of a real clip and a fake.
      frames: Frames of each clip.
      qualities: Number of qualities.
    """
    return pairs * (_PAIR_S + frames * (_FRAME_S + qualities * _QUALITY_S))


def _counts(layout: clips.Layout) -> list[str]:
    lines = [f"{'split':<12}{'identities':>11}{'photographs':>13}{'videos':>8}"]
    for split, listed in layout.splits.items():
        people = len({files.identity for files in listed})
        videos = sum(_is_video(files) for files in listed)
        lines.append(f"{split:<12}{people:>11}{len(listed) - videos:>13}{videos:>8}")
    files_of = collections.Counter(files.identity for files in layout.videos)
    alone = list(files_of.values()).count(1)
    return [*lines, f"identities with one file: {doctor.share(alone, len(files_of))}"]


def _is_video(files: clips.VideoFiles) -> bool:
    return files.best.suffix.lower() in VIDEOS


def _looked(sources: Sequence[clips.ClipSource]) -> list[str]:
    """Reads a few files, spread evenly, as the build does."""
    sample: list[clips.ClipSource] = []
    for most, kind in ((_PHOTOGRAPHS, False), (_VIDEOS, True)):
        of_kind = [source for source in sources if _is_video(source.files) == kind]
        sample += [of_kind[index] for index in clips.spread(len(of_kind), most)]
    unreadable, faceless, sizes = [], [], []
    with Progress(len(sample), "detecting in a sample", unit="file") as progress:
        for source in sample:
            assert isinstance(source, BlendSource)
            try:
                stills = source.stills()
                sizes.append(stills.faces[0].size / stills.scale)
            except NoFaceError:
                faceless.append(str(source.files.best))
            except Exception as error:
                if not is_of_file(error, source.files.best):
                    raise
                unreadable.append(str(unusable(source.files.best, source.inputs, error)))
            progress.advance()
    lines = doctor.some("unreadable", unreadable) + doctor.some("without a face", faceless)
    if sizes:
        small = sum(size < footage.SMALLEST_FACE for size in sizes)
        lines.append(
            f"faces of {min(sizes):.0f} to {max(sizes):.0f} px, median {np.median(sizes):.0f} px; "
            f"{doctor.share(small, len(sizes))} are under {footage.SMALLEST_FACE} px and stay small"
        )
    shown = [f"  {line}" for line in lines]
    return [f"in a sample of {len(sample)} of {len(sources)} files:", *shown]
