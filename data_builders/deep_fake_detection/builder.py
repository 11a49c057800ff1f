"""`deep_fake_detection`: Google's and Jigsaw's dataset, in the tree of FaceForensics++."""

from __future__ import annotations

import collections
import dataclasses
import re
from pathlib import Path
from typing import ClassVar

from data_builders.access import Access
from data_builders.clips import Layout, VideoFiles
from data_builders.face_forensics.builder import ACCESS
from data_builders.face_forensics.folders import qualities, there
from data_builders.lists import nothing_in, videos_in
from data_builders.paired import PairedConfig
from data_builders.splits import divided, held_out
from data_builders.video_builder import VideoDatasetBuilder

METHOD, ACTORS = "DeepFakeDetection", "actors"

_PEOPLE = re.compile(r"(\d+)(?:_(\d+))?__")  # the target, and in a fake the donor of the face


class DeepFakeDetection(VideoDatasetBuilder):
    """DeepFakeDetection: scenes that actors play, and swaps among them."""

    BUILDER_CONFIGS: ClassVar[list[PairedConfig]] = [
        PairedConfig(name="whole", description="All videos are test, as in published results."),
        PairedConfig(name="by_actor", description="Three splits that share no actor."),
    ]
    TREE: ClassVar[str] = (
        f"original_sequences/{ACTORS}/{{raw or c0,c23,c40}}/videos/TT__SCENE.mp4\n"
        f"manipulated_sequences/{METHOD}/{{raw or c0,c23,c40}}/videos/TT_SS__SCENE__ID.mp4\n"
        f"manipulated_sequences/{METHOD}/masks/videos/TT_SS__SCENE__ID.mp4, where there are masks\n"
        "one quality is enough: lower ones are made from the best one that is there"
    )
    ACCESS: ClassVar[Access] = dataclasses.replace(
        ACCESS,
        size="about 1.8 TB at raw, 25 GB at c23, 3.4 GB at c40",
        scripts=f"{ACCESS.scripts.partition(' -d ')[0]} -d {METHOD}_original, and again with "
        f"-d {METHOD}, -c c23 -t videos --server EU2",
    )

    @classmethod
    def find(cls, root: Path, config: str) -> Layout:
        """Finds all videos. There is no official split.

        Raises:
          UserError: There is no such folder, or it has no real videos or no fakes.
        """
        videos = []
        for name, label in ((ACTORS, "real"), (METHOD, "fake")):
            files: dict[str, dict[str, Path]] = collections.defaultdict(dict)
            for quality, folder in qualities(root, name, real=label == "real"):
                for stem, path in videos_in(folder).items():
                    files[stem][quality] = path
            masks = there(root / f"manipulated_sequences/{name}/masks/videos")
            for stem, listed in sorted(files.items()):
                # A link to a file that was not fetched is none, where another one is there.
                paths = {q: path for q, path in listed.items() if path.is_file()} or listed
                known = _PEOPLE.match(stem)
                people = [person for person in known.groups() if person] if known else [stem]
                method = METHOD if label == "fake" else "original"
                about = method, stem, people[0], label, paths, masks.get(stem)
                videos.append((VideoFiles(*about), people))
        if len({video.label for video, _ in videos}) < 2:
            real = f"original_sequences/{ACTORS}/c23/videos/01__exit_phone_room.mp4"
            fake = f"manipulated_sequences/{METHOD}/c23/videos/01_02__exit_phone_room__YVGY8LOK.mp4"
            expected = f"{real} and {fake}, c23 or another quality,"
            raise nothing_in(root, "lacks real videos or fakes", expected)
        if config == "whole":
            return Layout({"train": [], "validation": [], "test": [video for video, _ in videos]})
        everybody = {person for _, people in videos for person in people}
        validation = held_out(everybody, [people for _, people in videos])
        others = [people for _, people in videos if not validation & {*people}]
        test = held_out(everybody - validation, others)
        splits, notes = divided(videos, {"validation": validation, "test": test})
        return Layout(splits, (), notes)
