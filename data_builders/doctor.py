"""What a build would use of a folder, without building: counts, gaps, work, time, space."""

from __future__ import annotations

import collections
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from data_builders import clips, h264
from data_builders.access import shown_on_error
from data_builders.errors import UnusableClipError, UserError, printable, unusable
from data_builders.progress import Progress

if TYPE_CHECKING:
    from data_builders.paired import PairedDatasetBuilder
    from data_builders.video_builder import VideoDatasetBuilder

# Frames per second on one core at 640x480, measured with benchmarks/build_rate.py: decoding,
# detecting in the chosen frames, and encoding qualities that are not on disk. Real rates differ.
_DECODE_FPS, _DETECT_FPS, _ENCODE_FPS = 414.0, 44.0, 97.0
_CROP_MB = 0.15  # a 300 px crop as PNG
# All videos are opened, which takes milliseconds each; of more than these, as many as the second.
_ALL_OPENED, _SOME_OPENED = 20_000, 5_000
_SAMPLE = 16  # videos in which faces are detected
_SAMPLE_FRAMES = 10_000  # of a video at most: minutes of film, a minute of decoding
_NAMED = 5  # how many items of a long list are shown

_Readable: TypeAlias = tuple[clips.VideoFiles, int]


def look(dataset: PairedDatasetBuilder) -> None:
    """Prints what a build would use of the data of a dataset.

    Raises:
      UserError: The data is not there, has a mistake, or is nothing that is looked at; or qualities
        cannot be made, which is an UnavailableQualitiesError.
    """
    from data_builders.video_builder import VideoDatasetBuilder

    if not isinstance(dataset, VideoDatasetBuilder):
        if not dataset.ACCESS:
            raise UserError(f"--doctor: {dataset.name} is not made from a folder of videos")
        print(_crops(dataset))
        return
    print(expected(dataset))
    with shown_on_error(dataset.ACCESS):
        layout = dataset.layout()
    print(dataset.examined(layout) or report(dataset, layout))
    dataset.check_qualities(layout)


def expected(dataset: VideoDatasetBuilder) -> str:
    """Shows the folder tree that a dataset is made from, in lines for a terminal."""
    return "\n".join(["expected:", *(f"  {line}" for line in dataset.TREE.splitlines())])


def joined(lines: Iterable[str]) -> str:
    """Joins lines for a terminal, whose cursor no name in them can move."""
    return "\n".join(map(printable, lines))


def report(dataset: VideoDatasetBuilder, layout: clips.Layout) -> str:
    """Describes the folder of a dataset, in lines for a terminal.

    Args:
      dataset: A builder of a dataset that is made from videos.
      layout: The videos in the folder, `dataset.layout()`.
    """
    listed = layout.videos
    lines = [f"{dataset.name} {dataset.part}".rstrip() + f" in {dataset.manual_dir}"]
    lines += _counts(layout)
    opened = listed
    if len(listed) > _ALL_OPENED:
        opened = [listed[index] for index in clips.spread(len(listed), _SOME_OPENED)]
        lines.append(f"opened: {len(opened)} of {len(listed)} videos, spread evenly")
    readable, unreadable, uneven, decided = _look(opened, dataset.qualities)
    lines += some("unreadable", unreadable) + some("missing", layout.missing)
    lines += some("longer at one quality than at another, and cut to the shorter one", uneven)
    lines += [f"note: {note}" for note in dataset.notes(layout)]
    lines += [f"decided: {count} files: {note}" for note, count in decided.most_common(_NAMED)]
    absent = collections.Counter(
        quality
        for files in listed
        for quality in dataset.qualities
        if quality not in files.files and files.gives(quality)
    )
    lines += [f"to be re-encoded: {count} videos to {q}" for q, count in absent.items()]
    for quality in dataset.qualities:
        lacking = [f"{f} (best: {f.best_quality})" for f in listed if not f.gives(quality)]
        lines += some(f"too poor for {quality}", lacking)
    lines += _faces(dataset, readable)
    whole = len(listed) / max(1, len(opened))
    usable, frames = whole * len(readable), whole * sum(count for _, count in readable)
    seconds = frames * len(dataset.qualities) / _DECODE_FPS
    seconds += usable * dataset.recipe.frames_per_video / _DETECT_FPS
    seconds += frames / max(1, usable) * sum(absent.values()) / _ENCODE_FPS
    size = usable * dataset.recipe.frames_per_video * len(dataset.qualities) * _CROP_MB / 1e3
    lines.append(cost(dataset, seconds, size))
    return joined(lines)


def _crops(dataset: PairedDatasetBuilder) -> str:
    """Describes a dataset that is made from crops, in lines for a terminal."""
    lines = [dataset.name, f"{'method':<18}{'split':<12}{'videos':>7}{'tuples':>9}"]
    for split, sources in dataset.clip_sources().items():
        tuples = collections.Counter(source.method for source in sources)
        videos = collections.Counter(method for method, _ in {(s.method, s.video) for s in sources})
        lines += [f"{m:<18}{split:<12}{videos[m]:>7}{tuples[m]:>9}" for m in sorted(videos)]
    return joined([*lines, *(f"note: {note}" for note in dataset.info.metadata["notes"])])


def _faces(dataset: VideoDatasetBuilder, readable: Sequence[_Readable]) -> list[str]:
    """Says in how many frames no face is found, and in how many videos one had to be guessed.

    A dataset that is built knows. Else a few videos are looked into.
    """
    if not dataset.recipe.faces.chooses:
        return []
    if dataset.is_prepared():
        known, counts = dataset.info.metadata or {}, dataset.info.splits.values()
        without, several = known.get(clips.NO_FACE, {}), known.get(clips.FACES, {})
        records, left_out = sum(split.num_examples for split in counts), sum(without.values())
        return [
            "as it is built:",
            f"  {share(left_out, records + left_out)} frames do not show the face and are left "
            f"out, in {len(without)} videos",
            f"  {len(several)} videos without a mask show several faces: the largest is taken",
        ]
    looked = unmasked = chosen = left_out = faceless = several = 0
    sample = _spread(readable)
    with Progress(len(sample), "detecting in a sample", unit="video") as progress:
        for files, frames in sample:
            progress.advance()
            try:
                source = clips.ClipSource(files, dataset.recipe)
                indices, _, track = clips.find_face(source, frames)
            except UnusableClipError:
                continue
            except (UserError, MemoryError):  # of every video, such as a detector without weights
                raise
            except Exception:  # the build names it
                continue
            looked += 1
            unmasked += files.mask is None
            chosen += len(indices)
            faceless += track is None
            left_out += len(indices) if track is None else int((~track.kept).sum())
            several += track is not None and track.rivals > 0
    return [
        f"in a sample of {looked} of {len(readable)} videos:",
        f"  {share(left_out, chosen)} frames do not show the face and will be left out",
        f"  {share(faceless, looked)} videos show no face at all",
        f"  {share(several, unmasked)} videos without a mask show several faces: the largest is "
        "taken",
    ]


def _spread(readable: Sequence[_Readable]) -> list[_Readable]:
    """Chooses a few videos evenly, and leaves out those that would take long."""
    chosen = [readable[index] for index in clips.spread(len(readable), _SAMPLE)]
    return [(files, frames) for files, frames in chosen if frames <= _SAMPLE_FRAMES]


def share(part: int, whole: int) -> str:
    """Says a part as a number and in percent."""
    return f"{part} of {whole} ({100 * part / max(1, whole):.0f} %)"


def _counts(layout: clips.Layout) -> list[str]:
    qualities = list(
        dict.fromkeys(q for split in layout.splits.values() for files in split for q in files.files)
    )
    lines = [f"{'method':<18}{'split':<12}{'videos':>7}" + "".join(f"{q:>7}" for q in qualities)]
    for split, listed in layout.splits.items():
        for method in sorted({files.method for files in listed}):
            of_method = [files for files in listed if files.method == method]
            held = [sum(q in files.files for files in of_method) for q in qualities]
            lines.append(
                f"{method:<18}{split:<12}{len(of_method):>7}" + "".join(f"{n:>7}" for n in held)
            )
    return lines


def _look(
    listed: Sequence[clips.VideoFiles], qualities: Sequence[str]
) -> tuple[list[_Readable], list[str], list[str], collections.Counter[str]]:
    """Opens every file of the videos that a build would read.

    Returns:
      Each video that is readable and its number of frames, why others are not, the frames of
      those whose qualities are not equally long, and what was decided.
    """
    readable: list[_Readable] = []
    reasons, uneven = [], []
    decided: collections.Counter[str] = collections.Counter()
    with Progress(len(listed), "looking", unit="video") as progress:
        for files in listed:
            progress.advance()
            try:
                facts = {q: h264.probe(path) for q, path in files.used(qualities).items()}
            except MemoryError:
                raise
            except Exception as error:
                reasons.append(str(unusable(files, files.files.values(), error)))
            else:
                frames = {quality: fact.frames for quality, fact in facts.items()}
                readable.append((files, min(frames.values())))
                if len(set(frames.values())) > 1:
                    (best, frames_of_best), *others = frames.items()
                    told = "".join(f", {count} at {quality}" for quality, count in others)
                    uneven.append(f"{files}: {frames_of_best} frames at {best}{told}")
                decided.update(note for fact in facts.values() for note in fact.notes)
    return readable, reasons, uneven, decided


def some(title: str, items: Sequence[str]) -> list[str]:
    """Counts items and names the first few; no lines where there are none."""
    if not items:
        return []
    more = len(items) - _NAMED
    shown = [f"  {item}" for item in items[:_NAMED]] + ([f"  and {more} more"] if more > 0 else [])
    return [f"{title}: {len(items)}", *shown]


def cost(dataset: VideoDatasetBuilder, seconds: float, size: float) -> str:
    """Says what a build takes.

    Args:
      dataset: Its builder.
      seconds: Time on one core.
      size: Of the dataset, in GB.
    """
    place = Path(dataset.data_dir)
    existing = next(parent for parent in place.parents if parent.exists())
    free = f"{shutil.disk_usage(existing).free / 1e9:.0f} GB"
    return f"about {seconds / 3600:.1f} core-hours and {size:.1f} GB; free: {free}"
