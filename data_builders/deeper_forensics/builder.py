"""`deeper_forensics`: DeeperForensics-1.0, with the originals of FaceForensics++."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar

from data_builders.access import Access
from data_builders.clips import Layout, VideoFiles
from data_builders.lists import nothing_in, read_text, videos_in
from data_builders.paired import PairedConfig
from data_builders.splits import lacking
from data_builders.video_builder import VideoDatasetBuilder

MANIPULATED, SPLITS = "manipulated_videos", "lists/splits"
TARGETS = "original_sequences/youtube/c23/videos"
VARIANTS = (
    "end_to_end",
    *(f"end_to_end_level_{level}" for level in range(1, 6)),
    "end_to_end_random_level",
    *(f"end_to_end_mix_{count}_distortions" for count in range(2, 5)),
    "reenact_postprocess",
)

_FILES = {"train": "train", "validation": "val", "test": "test"}


class DeeperForensics(VideoDatasetBuilder):
    """One of eleven variants of the same thousand swaps, and their targets."""

    BUILDER_CONFIGS: ClassVar[list[PairedConfig]] = [
        PairedConfig(name=name, description=f"Targets, and swaps of {name}.") for name in VARIANTS
    ]
    TREE: ClassVar[str] = (
        f"{MANIPULATED}/VARIANT/TTT_ACTOR.mp4\n{SPLITS}/{{train,val,test}}.txt\n"
        f"{TARGETS}/TTT.mp4, the real videos,\n"
        "which the archive lacks: they are those of FaceForensics++; put them in, or a link"
    )
    ACCESS: ClassVar[Access] = Access(
        page="https://github.com/EndlessSora/DeeperForensics-1.0/tree/master/dataset",
        form="a Google form that the page links to, with terms of use to be read first, from an "
        "address of a university if you have one; questions to deeperforensics@gmail.com",
        size="284 GB: 119 GB of manipulated videos are needed, and 164 GB of source videos are not",
        scripts="unzip.sh, in the folder that is downloaded; and that of FaceForensics++ for the "
        "real videos: see `qad-jax build face_forensics --manual_dir none --doctor`",
    )

    @classmethod
    def find(cls, root: Path, config: str) -> Layout:
        """Finds the swaps that the official splits name, and their targets.

        Raises:
          UserError: There is no such folder or list, or it has no real videos or no fakes.
        """
        fakes, reals = videos_in(root / MANIPULATED / config), videos_in(root / TARGETS)
        if not fakes or not reals:
            lists, target = f"{SPLITS}/train.txt", f"{TARGETS}/000.mp4"
            expected = f"{MANIPULATED}/{config}/000_M101.mp4, {lists} and {target}"
            raise nothing_in(root, "lacks real videos or fakes", expected)
        splits: dict[str, list[VideoFiles]] = {split: [] for split in _FILES}
        missing, listed = [], set[str]()
        for split, file in _FILES.items():
            for name in _names(root / SPLITS / f"{file}.txt"):
                target = name.partition("_")[0]
                for method, video, label, paths in (
                    ("original", target, "real", reals),
                    (config, name, "fake", fakes),
                ):
                    if f"{method}/{video}" in listed:  # a target of several swaps
                        continue
                    listed.add(f"{method}/{video}")
                    if video in paths:
                        files = {"raw": paths[video]}
                        splits[split].append(VideoFiles(method, video, target, label, files))
                    else:
                        missing.append(f"{method}/{video}")
        return Layout(splits, missing, lacking(splits))


def _names(path: Path) -> Iterator[str]:
    """Yields the names that a list of a split has, without repetitions."""
    lines = read_text(path, "list of a split").splitlines()
    names = (PurePosixPath(line.strip().replace("\\", "/")).stem for line in lines)
    yield from dict.fromkeys(name for name in names if name)
