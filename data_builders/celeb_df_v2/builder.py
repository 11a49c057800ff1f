"""`celeb_df_v2`: Celeb-DF (v2), in the folders of its archive."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar

from data_builders.clips import Layout, VideoFiles
from data_builders.errors import UserError
from data_builders.lists import first_of, read_text
from data_builders.video_builder import VideoDatasetBuilder

FAKE, YOUTUBE, LIST = "Celeb-synthesis", "YouTube-real", "List_of_testing_videos.txt"
_LABELS = {"Celeb-real": "real", YOUTUBE: "real", FAKE: "fake"}
_LISTED_LABELS = {"1": "real", "0": "fake"}  # opposite to this project
# Faces are swapped within groups of people. With this seed, validation has five people of one group
# and one more, so it has fakes, and few fakes between it and train are lost.
_DRAW = 7635


class CelebDfV2(VideoDatasetBuilder):
    """Celeb-DF (v2), with the official test list."""

    TREE: ClassVar[str] = (
        f"Celeb-real/idA_NNNN.mp4\nYouTube-real/NNNNN.mp4\n{FAKE}/idA_idB_NNNN.mp4\n{LIST}\n"
        "also read: Youtube-real for YouTube-real, and videos/ between a folder and its files"
    )

    @classmethod
    def find(cls, root: Path, config: str = "") -> Layout:
        """Finds all videos. Test is the official list; validation is chosen by identity.

        Raises:
          UserError: The folder or the list is missing, or the list contradicts the folders.
        """
        videos = {key: video for folder in _LABELS for key, video in _videos(root, folder)}
        if len({video.label for video in videos.values()}) < 2:
            problem = "lacks real videos or fakes" if root.is_dir() else "there is no such folder"
            raise UserError(f"{root}: {problem}; expected in it:\n{cls.TREE}".replace("\n", " "))
        rows = list(_test_list(root / LIST))
        listed = dict.fromkeys(rows)
        # A fake shows the face of one person and all else of another.
        seen = {key: {*key[1].split("_")[:-1]} or {v.identity} for key, v in videos.items()}
        rest = {person for key, people in seen.items() if key not in listed for person in people}
        validation = _held_out(rest)
        splits: dict[str, list[VideoFiles]] = {"train": [], "validation": [], "test": []}
        for key, video in videos.items():
            if key in listed:
                splits["test"].append(video)
            elif seen[key] <= validation:
                splits["validation"].append(video)
            elif not seen[key] & validation:
                splits["train"].append(video)
        dropped = len(videos) - sum(map(len, splits.values()))
        tested = {person for key in listed.keys() & videos.keys() for person in seen[key]}
        twice = ["/".join(row) for row, count in collections.Counter(rows).items() if count > 1]
        notes = [f"listed more than once for test, kept once: {first_of(twice)}"] if twice else []
        notes += [
            f"{dropped} fakes of one person in train and one in validation are left out",
            f"{len(tested & rest)} of the {len(tested)} people in the official test list are in "
            "train or validation too; train and validation have nobody in common",
        ]
        missing = [f"{folder}/{name}" for folder, name in listed if (folder, name) not in videos]
        return Layout(splits, missing, [note for note in notes if not note.startswith("0 ")])


def _videos(root: Path, folder: str) -> Iterator[tuple[tuple[str, str], VideoFiles]]:
    """Yields the videos of a folder, each with its folder and name in the official list."""
    names = dict.fromkeys((folder, folder.replace("YouTube", "Youtube")))
    parents = [root / name / level for name in names for level in ("", "videos")]
    paths = {path.stem: path for parent in parents for path in parent.glob("[!.]*.mp4")}
    for stem, path in sorted(paths.items()):
        method, name = (FAKE, stem) if folder == FAKE else ("original", f"{folder}_{stem}")
        identity = name if folder == YOUTUBE else stem.partition("_")[0]
        yield (folder, stem), VideoFiles(method, name, identity, _LABELS[folder], {"raw": path})


def _held_out(people: Iterable[str]) -> set[str]:
    """Chooses a tenth of the celebrities, and of those from YouTube, who have one video each."""
    held_out: set[str] = set()
    for youtube in (False, True):
        group = [person for person in people if person.startswith(YOUTUBE) == youtube]
        group.sort(key=lambda person: hashlib.sha256(f"{_DRAW}/{person}".encode()).digest())
        held_out.update(group[: min(max(-(-len(group) // 10), 2), len(group) // 2)])
    return held_out


def _test_list(path: Path) -> Iterator[tuple[str, str]]:
    """Yields folder and name of each test video, after a check of its label against the folder."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; it lists the test set of Celeb-DF")
    for number, line in enumerate(read_text(path, "test list").splitlines(), 1):
        label, name = (*line.replace("\\", "/").split(maxsplit=1), "", "")[:2]
        folder = name.partition("/")[0].replace("Youtube", "YouTube")
        if label and _LISTED_LABELS.get(label) != _LABELS.get(folder, "unknown"):
            raise UserError(
                f"{path}: line {number}, {line!r}: must be 1 and a video of Celeb-real or "
                f"{YOUTUBE}, or 0 and one of {FAKE}; this list says 1 for real"
            )
        if label:
            yield folder, PurePosixPath(name.strip()).stem
