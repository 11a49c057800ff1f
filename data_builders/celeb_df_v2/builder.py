"""`celeb_df_v2`: Celeb-DF (v2), in the folders of its archive."""

from __future__ import annotations

import collections
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar

from data_builders.access import Access
from data_builders.clips import Layout, VideoFiles
from data_builders.errors import UserError
from data_builders.lists import first_of, nothing_in, read_text, videos_in
from data_builders.splits import beside_test
from data_builders.video_builder import VideoDatasetBuilder

REAL, FAKE, YOUTUBE = "Celeb-real", "Celeb-synthesis", "YouTube-real"
LIST = "List_of_testing_videos.txt"
TREE = (
    f"{REAL}/idA_NNNN.mp4\n{YOUTUBE}/NNNNN.mp4\n{FAKE}/{{}}idA_idB_NNNN.mp4\n{LIST}\n"
    "also read: Youtube-real for YouTube-real, and videos/ between a folder and its files"
)
_LABELS = {REAL: "real", YOUTUBE: "real", FAKE: "fake"}
_LISTED_LABELS = {"1": "real", "0": "fake"}  # opposite to this project
_PERSON = re.compile(r"id\d+")
# Faces are swapped within groups of people. With this seed, validation has five people of one group
# and one more, so it has fakes, and few fakes between it and train are lost.
_DRAW = 7635


class CelebDfV2(VideoDatasetBuilder):
    """Celeb-DF (v2), with the official test list; the base of v1 and of Celeb-DF++, too."""

    TREE: ClassVar[str] = TREE.format("")
    ACCESS: ClassVar[Access] = Access(
        page="https://github.com/yuezunli/celeb-deepfakeforensics",
        form="a form that the page links to; the authors send a link to those whom they accept",
        size="6529 videos; people speak of 10 GB",
        reported="a request that was written as an issue of that page stays without an answer",
    )

    @classmethod
    def fakes(cls, root: Path) -> dict[str, str]:
        """Names the method of each folder of fakes."""
        del root
        return {FAKE: FAKE}

    @classmethod
    def held_out(cls, people: Collection[str], fakes: Iterable[Collection[str]]) -> set[str]:
        """Chooses the people of validation.

        Args:
          people: Everybody outside the test list.
          fakes: The people whom each fake outside it is made from.
        """
        del fakes
        return _held_out(people)

    @classmethod
    def find(cls, root: Path, config: str = "") -> Layout:
        """Finds all videos. Test is the official list; validation is chosen by identity.

        Raises:
          UserError: The folder or the list is missing, or the list contradicts the folders.
        """
        videos = {
            (folder, stem): _video(folder, method, stem, path)
            for folder, method in {REAL: "", YOUTUBE: "", **cls.fakes(root)}.items()
            for stem, path in videos_in(*(root / name for name in _spellings(folder))).items()
        }
        if len({video.label for video in videos.values()}) < 2:
            raise nothing_in(root, "lacks real videos or fakes", f"this: {cls.TREE}")
        listed = collections.Counter(_test_list(root / LIST))
        # A fake shows the face of one person and all else of another.
        seen = {
            key: (video, {*_PERSON.findall(key[1])} or {video.identity})
            for key, video in videos.items()
        }
        rest = [about for key, about in seen.items() if key not in listed]
        tested = [about for key, about in seen.items() if key in listed]
        splits, notes = beside_test(tested, rest, cls.held_out)
        twice = ["/".join(key) for key, count in listed.items() if count > 1]
        if twice:
            notes.insert(0, f"listed more than once for test, kept once: {first_of(twice)}")
        missing = [f"{folder}/{name}" for folder, name in listed if (folder, name) not in videos]
        return Layout(splits, missing, notes)


def _video(folder: str, method: str, stem: str, path: Path) -> VideoFiles:
    """Describes a video; the names of real ones begin with their folder."""
    name = stem if method else f"{folder}_{stem}"
    people = _PERSON.findall(stem)
    identity = people[0] if people and folder != YOUTUBE else name
    label = _LABELS[folder.partition("/")[0]]
    return VideoFiles(method or "original", name, identity, label, {"raw": path})


def _spellings(folder: str) -> dict[str, None]:
    return dict.fromkeys((folder, folder.replace("YouTube", "Youtube")))


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
        parts = [part for part in PurePosixPath(name).parent.parts if part != "videos"]
        folder = "/".join(parts).replace("Youtube", "YouTube")
        known = _LABELS.get(folder.partition("/")[0], "unknown")
        if label and _LISTED_LABELS.get(label) != known:
            raise UserError(
                f"{path}: line {number}, {line!r}: must be 1 and a video of Celeb-real or "
                f"{YOUTUBE}, or 0 and one of {FAKE}; this list says 1 for real"
            )
        if label:
            yield folder, PurePosixPath(name.strip()).stem
