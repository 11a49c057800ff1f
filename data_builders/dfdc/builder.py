"""`dfdc`: the DeepFake Detection Challenge, in the folders of its archives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from data_builders.access import Access
from data_builders.clips import Layout, VideoFiles
from data_builders.errors import UserError
from data_builders.lists import first_of, nothing_in, read_entries, read_table, videos_in
from data_builders.splits import divided, lacking
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
        official = {split: _listed(root / split, LABELS, missing, notes) for split in _OFFICIAL}
        of_part = {n: _listed(path, METADATA, missing, notes) for n, path in parts.items()}
        # Kaggle's samples are in a part, too.
        train = {video.video: video for videos in of_part.values() for video in videos}
        for video in (video for videos in official.values() for video in videos):
            train.pop(video.video, None)
        held = []  # parts whose sources stand for validation, where there is none
        filled = [n for n in parts if any(video.video in train for video in of_part[n])]
        if len(filled) > 1 and not official["validation"]:
            held = filled[-max(1, len(filled) // 10) :]
            notes.append(f"validation is parts of train: {', '.join(map(_name, held))}")
        sources = {video.identity for part in held for video in of_part[part]}
        people = ((video, [video.identity]) for video in train.values())
        splits, more = divided(people, {"validation": sources})
        splits |= {split: videos for split, videos in official.items() if videos}
        if not any(splits.values()):
            part, test = f"train/dfdc_train_part_0/{METADATA}", f"test/{LABELS}"
            expected = f"{part} and NAME.mp4 beside it, or {test} and NAME.mp4 beside it,"
            raise nothing_in(root, "holds no listed videos", expected)
        absent = [str(number) for number in range(PARTS) if number not in parts]
        if absent:
            notes.append(f"{len(absent)} of the {PARTS} parts are not there: {first_of(absent)}")
        return Layout(splits, missing, [*notes, *more, *lacking(splits)])


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
    """Yields name, label and source of each video that a list names, without repetitions."""
    if path.name == METADATA:
        listed = read_entries(path, "metadata").items()
        rows = [(file, str(about.get("label")), about.get("original")) for file, about in listed]
    else:
        table = read_table(path, "list of labels", ("filename", "label"))
        rows = [(file, label, None) for _, (file, label) in table]
    labels: dict[str, str] = {}
    for file, said, original in rows:
        label, source = _LABELS.get(said), str(original or file)
        if not file or label is None or not f"{file}{source}".isprintable():
            raise UserError(
                f"{path}: {file!r}, {said!r}: must be a name and a label, which is REAL or FAKE in "
                f"{METADATA}, and 0 (real) or 1 in {LABELS}"
            )
        name = Path(file).stem
        if name not in labels:
            labels[name] = label
            yield name, label, Path(source).stem
        elif labels[name] != label:
            raise UserError(f"{path}: {file!r} is listed as real and as fake; keep one")
