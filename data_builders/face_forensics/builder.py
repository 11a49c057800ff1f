"""`face_forensics`: the folder that the download script of FaceForensics++ makes."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from data_builders.access import Access
from data_builders.clips import Layout, VideoFiles
from data_builders.face_forensics.folders import qualities, there
from data_builders.lists import nothing_in
from data_builders.paired import PairedConfig
from data_builders.video_builder import VideoDatasetBuilder

ORIGINAL = "original"
METHODS = {
    "neural_textures": "NeuralTextures",
    "deepfakes": "Deepfakes",
    "face2face": "Face2Face",
    "face_swap": "FaceSwap",
    "face_shifter": "FaceShifter",
}
ACCESS = Access(
    page="https://github.com/ondyari/FaceForensics",
    form="a Google form that the page links to; those who are accepted get the address of the "
    "download script; research and education without commercial interest",
    size="the originals and four methods: about 500 GB at raw, 10 GB at c23, 2 GB at c40",
    scripts="download-FaceForensics.py, or faceforensics_download_v4.py: FOLDER -d DATASET -c c23 "
    "-t videos --server EU2; masks come with -t masks",
    reported="the default server refuses connections, and EU2 works with breaks (issues 96, 104, "
    "106); the originals gave error 404 there from 2024 to 2025 (issue 111)",
)
_MASKS = "manipulated_sequences/{}/masks/videos"
_FILES = {"train": "train", "validation": "val", "test": "test"}


class FaceForensics(VideoDatasetBuilder):
    """The originals of FaceForensics++, and the fakes of one method or of all five."""

    BUILDER_CONFIGS: ClassVar[list[PairedConfig]] = [
        *(PairedConfig(name=n, description=f"Originals and {m}.") for n, m in METHODS.items()),
        PairedConfig(name="all", description="Originals and all five methods."),
    ]
    TREE: ClassVar[str] = (
        "original_sequences/youtube/{raw or c0,c23,c40}/videos/NNN.mp4\n"
        "manipulated_sequences/METHOD/{raw or c0,c23,c40}/videos/TTT_SSS.mp4\n"
        "manipulated_sequences/METHOD/masks/videos/TTT_SSS.mp4, where the authors have masks\n"
        f"METHOD is one of {', '.join(METHODS.values())};\n"
        "one quality is enough: lower ones are made from the best one that is there"
    )

    ACCESS: ClassVar[Access] = ACCESS

    @classmethod
    def find(cls, root: Path, config: str) -> Layout:
        """Finds the videos that the official splits name.

        Raises:
          UserError: There is no such folder, or it has no originals or no fakes.
        """
        methods = [ORIGINAL, *(METHODS.values() if config == "all" else [METHODS[config]])]
        videos_of = {method: _videos(root, method) for method in methods}
        masks_of = {method: there(root / _MASKS.format(method)) for method in methods[1:]}
        splits: dict[str, list[VideoFiles]] = {split: [] for split in _FILES}
        missing = []
        for split, method, name, fake in _official(methods):
            files = {quality: paths[name] for quality, paths in videos_of[method] if name in paths}
            label = "real" if method == ORIGINAL else "fake"
            if files:  # a fake is called TARGET_SOURCE, and shows the target
                # All methods change the same face. FaceShifter has no masks of its own.
                by = methods[1:] if method == ORIGINAL else [method, *methods[1:]]
                mask = next((masks_of[each][fake] for each in by if fake in masks_of[each]), None)
                video = VideoFiles(method, name, name.partition("_")[0], label, files, mask)
                splits[split].append(video)
            else:
                missing.append(f"{method}/{name}")
        absent = [name for name in methods if missing and not _any(splits, name)]
        if ORIGINAL in absent or absent == methods[1:]:
            lacks = f"holds no videos of {' or '.join(absent)}"
            real = "original_sequences/youtube/c23/videos/000.mp4"
            fake = f"manipulated_sequences/{methods[1]}/c23/videos/000_003.mp4"
            raise nothing_in(root, lacks, f"{real} and {fake}, c23 or another quality,")
        return Layout(splits, missing, [f"there are no videos of {name}" for name in absent])


def _any(splits: Mapping[str, Sequence[VideoFiles]], method: str) -> bool:
    return any(video.method == method for videos in splits.values() for video in videos)


def _videos(root: Path, method: str) -> list[tuple[str, dict[str, Path]]]:
    """Finds the videos of a method by quality and name."""
    real = method == ORIGINAL
    folders = qualities(root, "youtube" if real else method, real=real)
    return [(quality, there(folder)) for quality, folder in folders]


def _official(methods: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yields split, method and name of every video, and the name of the fake of its target.

    Each one of a pair is a source once.
    """
    for split, file in _FILES.items():
        path = importlib.resources.files(__package__) / "splits" / f"{file}.json"
        pairs = json.loads(path.read_text(encoding="utf-8"))
        for method in methods:
            for a, b in pairs:
                for target, fake in ((a, f"{a}_{b}"), (b, f"{b}_{a}")):
                    yield split, method, target if method == ORIGINAL else fake, fake
