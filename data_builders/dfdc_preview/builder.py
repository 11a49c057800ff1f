"""`dfdc_preview`: the preview of the DeepFake Detection Challenge, in the folder of its archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar, NamedTuple

from data_builders.access import Access
from data_builders.clips import Layout, VideoFiles
from data_builders.dfdc.builder import Dfdc
from data_builders.errors import UserError
from data_builders.lists import nothing_in, read_entries, videos_in
from data_builders.splits import beside_test, lacking
from data_builders.video_builder import VideoDatasetBuilder

LIST = "dataset.json"

_SETS = ("train", "test")
_METHODS = {"original_videos": "real", "method_A": "fake", "method_B": "fake"}


class _Entry(NamedTuple):
    """What the list says of a video: its folder tells the method."""

    path: PurePosixPath
    label: str
    test: bool
    people: tuple[str, ...]  # the target, and in a fake the donor of the face

    @property
    def method(self) -> str:
        return self.path.parts[0] if self.label == "fake" else "original"


class DfdcPreview(VideoDatasetBuilder):
    """The preview of the DFDC: actors and two methods."""

    TREE: ClassVar[str] = (
        f"{LIST}\noriginal_videos/TARGET/TARGET_X_NNN.mp4\n"
        "method_A/TARGET/TARGET_X/DONOR_TARGET_X_NNN.mp4, and method_B the same\n"
        "also read: all this in dfdc_preview_set/, and method_A/videos/NAME.mp4, without folders"
    )
    ACCESS: ClassVar[Access] = Access(
        page=f"{Dfdc.ACCESS.page.partition(' ')[0]}, beside the full dataset",
        form="an account at dfdc.ai",
        size="5250 videos; people speak of 5 GB",
        reported="the registration does not send its e-mails (Fairness-Generalization issue 1), "
        "and copies that are passed on lack method_B or a part of the list (issues 13 and 22 of "
        "DeepfakeBench)",
    )

    @classmethod
    def find(cls, root: Path, config: str = "") -> Layout:
        """Finds the videos that the list names. Test is official; validation is by identity.

        Raises:
          UserError: There is no such folder or list, the list has a mistake, or no video is there.
        """
        del config
        root = root if (root / LIST).is_file() else root / "dfdc_preview_set"
        if not (root / LIST).is_file():
            expected = f"{LIST} and original_videos/TARGET/TARGET_X_NNN.mp4"
            raise nothing_in(root.parent, f"holds no {LIST}", expected)
        flat = {folder: videos_in(root / folder) for folder in _METHODS}
        found, missing = dict[tuple[str, str], tuple[VideoFiles, _Entry]](), []
        for entry in _entries(root / LIST):
            deep, name = root / entry.path, entry.path.stem
            spelt = (path for path in (deep, deep.with_suffix(".MP4")) if path.is_file())
            path = next(spelt, None) or flat[entry.path.parts[0]].get(name)
            if path is None:
                missing.append(str(entry.path.with_suffix("")))
                continue
            about = entry.method, name, entry.people[0], entry.label
            found.setdefault(about[:2], (VideoFiles(*about, {"raw": path}), entry))
        if not found:
            problem = f"has none of the {len(missing)} videos that {LIST} names"
            raise nothing_in(root, problem, "original_videos/TARGET/TARGET_X_NNN.mp4")
        tested, rest = (
            [(video, entry.people) for video, entry in found.values() if entry.test == test]
            for test in (True, False)
        )
        splits, notes = beside_test(tested, rest)
        return Layout(splits, missing, [*notes, *lacking(splits)])


def _entries(path: Path) -> Iterator[_Entry]:
    """Reads the list, whose keys are paths."""
    for name, about in read_entries(path, "list").items():
        file = PurePosixPath(name.replace("\\", "/"))
        label, split = about.get("label"), about.get("set")
        expected = _METHODS.get(file.parts[0]) if len(file.parts) > 1 else None
        if expected is None or label != expected or split not in _SETS:
            raise UserError(
                f"{path}: {name!r}: {about!r}: must be a path in original_videos with label 'real' "
                "or in method_A or method_B with 'fake', and set must be 'train' or 'test'"
            )
        target, donor = about.get("target_id"), about.get("swapped_id")
        if not f"{name}{target}{donor}".isprintable():
            raise UserError(f"{path}: {name!r}: {about!r}: must be names of printable characters")
        people = [str(one) for one in (target or file.parts[1], donor) if one not in (None, "")]
        yield _Entry(file, str(label), split == "test", tuple(people))
