"""Where FaceForensics++ has the qualities of a method, and how often they were compressed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from data_builders.clips import VideoFiles
from data_builders.lists import entries
from data_builders.records import LABELS


def qualities(root: Path, name: str, *, real: bool) -> list[tuple[str, Path]]:
    """Lists the folders of the qualities of real or manipulated sequences, best first.

    Args:
      root: The folder that was downloaded.
      name: A method, or `youtube` or `actors` for real sequences.
      real: Whether the sequences are real.

    Returns:
      Each quality and its folder of videos; a later folder of one quality counts, where it is.

    Raises:
      UserError: The folder of the sequences cannot be read.
    """
    parent = root / ("original_sequences" if real else "manipulated_sequences") / name
    there = [path.name for path in entries(parent)]
    compressed = [name for name in there if re.fullmatch(r"c[1-9]\d?", name)]
    # The download script calls it raw, the compression script c0.
    names = [("raw", "c0"), ("raw", "raw")]
    names += [(name, name) for name in sorted(compressed, key=lambda name: int(name[1:]))]
    return [(quality, parent / name / "videos") for quality, name in names]


def uneven_histories(videos: Sequence[VideoFiles], wanted: Sequence[str]) -> list[str]:
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
