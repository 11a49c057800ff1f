"""`dfdc`: the DeepFake Detection Challenge, in the folders of its archives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from data_builders.access import Access
from data_builders.clips import Layout, VideoFiles
from data_builders.errors import UserError
from data_builders.lists import first_of, read_json, read_text, videos_in
from data_builders.splits import lacking
from data_builders.video_builder import VideoDatasetBuilder

PARTS, METADATA, LABELS = 50, "metadata.json", "labels.csv"
_SAMPLES = -1  # in the place of the number of a part
_OFFICIAL = ("validation", "test")
_PART = re.compile(r"dfdc_train_part_(\d{1,3})|train_sample_videos")
_LABELS = {"REAL": "real", "FAKE": "fake", "0": "real", "1": "fake"}


class Dfdc(VideoDatasetBuilder):
    """The DFDC: train in 50 parts, validation and test with labels of their own."""

    TREE: ClassVar[str] = (
        f"train/dfdc_train_part_N/{METADATA} and NAME.mp4, for N from 0 to 49, or some of them\n"
        f"validation/{LABELS} and NAME.mp4\ntest/{LABELS} and NAME.mp4\n"
        "also read: parts without train/ around them, two folders of one part in each other, "
        "Kaggle's train_sample_videos, and videos/ between a folder and its files"
    )
    ACCESS: ClassVar[Access] = Access(
        page="https://ai.meta.com/datasets/dfdc/ (validation and test, too), or "
        "https://www.kaggle.com/c/deepfake-detection-challenge/data (train and 400 samples)",
        form="an account at dfdc.ai, or at Kaggle with the rules of the competition accepted",
        size="more than 470 GB for train, in 50 archives of about 10 GB each",
        reported="the registration at dfdc.ai does not send its e-mails, and its links to AWS do "
        "not work, from 2023 to 2025 (RECCE issue 25, RealForensics issue 16)",
    )

    @classmethod
    def find(cls, root: Path, config: str = "") -> Layout:
        """Finds the videos that the lists of the parts name, and those of validation and test.

        Raises:
          UserError: There is no such folder, no list in it, or a list has a mistake.
        """
        del config
        parts, missing, notes = _parts(root), list[str](), list[str]()
        splits = {split: _listed(root / split, LABELS, missing, notes) for split in _OFFICIAL}
        known = {video.video for videos in splits.values() for video in videos}
        held = []  # parts that stand for validation, where there is none
        if len(parts) > 1 and not splits["validation"]:
            held = list(parts)[-max(1, len(parts) // 10) :]
        splits = {"train": [], **splits}
        for part, folder in sorted(parts.items(), key=lambda item: item[0] in held, reverse=True):
            split = "validation" if part in held else "train"
            for video in _listed(folder, METADATA, missing, notes):
                if video.video not in known:  # Kaggle's samples are in a part, too
                    known.add(video.video)
                    splits[split].append(video)
        sources = {video.identity for video in splits["validation"]}
        kept = [video for video in splits["train"] if video.identity not in sources]
        if len(kept) < len(splits["train"]):
            count = len(splits["train"]) - len(kept)
            notes.append(f"{count} train videos are left out: their source is in validation")
        splits["train"] = kept
        if not any(splits.values()):
            problem = "holds no listed videos" if root.is_dir() else "there is no such folder"
            raise UserError(
                f"{root}: {problem}; expected train/dfdc_train_part_0/{METADATA} and "
                f"train/dfdc_train_part_0/NAME.mp4, or test/{LABELS} and test/NAME.mp4 in it"
            )
        if held:
            notes.append(f"validation is parts of train: {', '.join(map(_name, held))}")
        absent = [str(number) for number in range(PARTS) if number not in parts]
        if absent:
            notes.append(f"{len(absent)} of the {PARTS} parts are not there: {first_of(absent)}")
        return Layout(splits, missing, [*notes, *lacking(splits)])


def _parts(root: Path) -> dict[int, Path]:
    """Finds the parts of train by their numbers; one in another of the same name is the part."""
    part, samples = "dfdc_train_part_*", "train_sample_videos"
    paths = [root, *root.glob(samples), *root.glob(part), *root.glob(f"{part}/{part}")]
    paths += [*root.glob(f"train/{part}"), *root.glob(f"train/{part}/{part}")]
    names = [(_PART.fullmatch(path.name), path) for path in paths if path.is_dir()]
    found = {int(name[1] or _SAMPLES): path for name, path in names if name}
    return dict(sorted(found.items()))


def _name(part: int) -> str:
    return "samples" if part == _SAMPLES else str(part)


def _listed(folder: Path, file: str, missing: list[str], notes: list[str]) -> list[VideoFiles]:
    """Finds the videos of a folder that its list names, and notes what is not there."""
    there = videos_in(folder)
    if not (folder / file).is_file():
        if there:
            notes.append(f"{folder.name} has no {file}: its {len(there)} videos have no labels")
        return []
    videos = []
    for name, label, source in _rows(folder / file):
        if name in there:
            method = "DFDC" if label == "fake" else "original"
            videos.append(VideoFiles(method, name, source, label, {"raw": there[name]}))
        else:
            missing.append(f"{folder.name}/{name}")
    return videos


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yields name, label and source of each video that a list names."""
    if path.name == METADATA:
        content = read_json(path, "metadata")
        entries = list(content.items()) if isinstance(content, dict) else [("", None)]
    else:
        lines = read_text(path, "list of labels").splitlines()
        header, *rows = [[cell.strip(' "') for cell in line.split(",")] for line in lines] or [[]]
        tables = [dict(zip(header, row, strict=False)) for row in rows if any(row)]
        entries = [(row.get("filename", ""), row) for row in tables]
    for file, entry in entries:
        known = entry if isinstance(entry, Mapping) else {}
        label, original = _LABELS.get(str(known.get("label"))), known.get("original") or file
        if not file or label is None or not f"{file}{original}".isprintable():
            raise UserError(
                f"{path}: {file!r}: {entry!r}: must have a name and a label, which is REAL or FAKE "
                f"in {METADATA}, and 0 (real) or 1 in {LABELS}"
            )
        yield Path(file).stem, label, Path(str(original)).stem
