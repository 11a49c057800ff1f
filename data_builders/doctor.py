"""What a build would use of a folder, without building: counts, gaps, work, time, space."""

from __future__ import annotations

import collections
import shutil
from collections.abc import Sequence
from pathlib import Path

from data_builders import clips, h264
from data_builders.errors import unusable
from data_builders.progress import Progress
from data_builders.video_builder import VideoDatasetBuilder

# Frames per second on one core at 640x480, measured with benchmarks/build_rate.py: decoding,
# detecting in the chosen frames, and encoding qualities that are not on disk. Real rates differ.
_DECODE_FPS, _DETECT_FPS, _ENCODE_FPS = 176.0, 25.0, 72.0
_CROP_MB = 0.15  # a 300 px crop as PNG
_NAMED = 5  # how many items of a long list are shown


def expected(dataset: VideoDatasetBuilder) -> str:
    """Shows the folder tree that a dataset is made from, in lines for a terminal."""
    return "\n".join(["expected:", *(f"  {line}" for line in dataset.TREE.splitlines())])


def report(dataset: VideoDatasetBuilder) -> str:
    """Describes the folder of a dataset, in lines for a terminal.

    Args:
      dataset: A builder of a dataset that is made from videos.

    Raises:
      UserError: The folder holds nothing of the dataset.
    """
    layout = dataset.layout()
    listed = [files for split in layout.splits.values() for files in split]
    lines = [f"{dataset.name} {dataset.part}".rstrip() + f" in {dataset.manual_dir}"]
    lines += _counts(layout)
    unreadable, frames, decided = _look(listed)
    lines += _some("unreadable", unreadable) + _some("missing", layout.missing)
    lines += [f"note: {note}" for note in layout.notes]
    lines += [f"decided: {count} files: {note}" for note, count in decided.most_common(_NAMED)]
    absent = collections.Counter(
        quality for files in listed for quality in dataset.qualities if quality not in files.files
    )
    lines += [f"to be re-encoded: {count} videos to {q}" for q, count in absent.items()]
    usable = len(listed) - len(unreadable)
    seconds = frames * len(dataset.qualities) / _DECODE_FPS
    seconds += usable * dataset.recipe.frames_per_video / _DETECT_FPS
    seconds += frames / max(1, usable) * sum(absent.values()) / _ENCODE_FPS
    size = usable * dataset.recipe.frames_per_video * len(dataset.qualities) * _CROP_MB / 1e3
    lines.append(f"about {seconds / 3600:.1f} core-hours and {size:.1f} GB; free: {_free(dataset)}")
    return "\n".join(lines)


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
    listed: Sequence[clips.VideoFiles],
) -> tuple[list[str], int, collections.Counter[str]]:
    """Opens every file. Returns why some are unreadable, all frames, and what was decided."""
    reasons, frames = [], 0
    decided: collections.Counter[str] = collections.Counter()
    with Progress(len(listed), "looking", unit="video") as progress:
        for files in listed:
            progress.advance()
            try:
                facts = [h264.probe(path) for path in files.files.values()]
            except MemoryError:
                raise
            except Exception as error:
                reasons.append(str(unusable(files, files.files.values(), error)))
            else:
                frames += min(fact.frames for fact in facts)
                decided.update(note for fact in facts for note in fact.notes)
    return reasons, frames, decided


def _some(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    more = len(items) - _NAMED
    shown = [f"  {item}" for item in items[:_NAMED]] + ([f"  and {more} more"] if more > 0 else [])
    return [f"{title}: {len(items)}", *shown]


def _free(dataset: VideoDatasetBuilder) -> str:
    place = Path(dataset.data_dir)
    existing = next(parent for parent in place.parents if parent.exists())
    return f"{shutil.disk_usage(existing).free / 1e9:.0f} GB"
