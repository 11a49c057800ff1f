"""`uadfv`: UADFV, in the two folders of its archive."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from data_builders.access import Access
from data_builders.clips import Layout, VideoFiles
from data_builders.lists import nothing_in, videos_in
from data_builders.video_builder import VideoDatasetBuilder


class Uadfv(VideoDatasetBuilder):
    """UADFV: a fake for each real video. All is test, as in published results."""

    TREE: ClassVar[str] = (
        "real/NNNN.mp4\nfake/NNNN_fake.mp4\nalso read: videos/ between a folder and its files"
    )
    ACCESS: ClassVar[Access] = Access(
        page="https://github.com/SCLBD/DeepfakeBench, which links to the form of the authors",
        form="a Google form; its terms could not be read here",
        size="98 videos; how many bytes is not published",
    )

    @classmethod
    def find(cls, root: Path, config: str = "") -> Layout:
        """Finds the pairs; an official split is not known.

        Raises:
          UserError: There is no such folder, or it has no real videos or no fakes.
        """
        del config
        real, fakes = videos_in(root / "real"), videos_in(root / "fake")
        fake = {stem.removesuffix("_fake"): path for stem, path in fakes.items()}
        if not real or not fake:
            expected = "real/0000.mp4 and fake/0000_fake.mp4"
            raise nothing_in(root, "lacks real videos or fakes", expected)
        kinds = (("original", "real", real), ("UADFV", "fake", fake))
        test = [
            VideoFiles(method, name, name, label, {"raw": paths[name]})
            for name in sorted({*real, *fake})
            for method, label, paths in kinds
            if name in paths
        ]
        missing = [
            f"{label}/{name}" for _, label, paths in kinds for name in {*real, *fake} - {*paths}
        ]
        return Layout({"train": [], "validation": [], "test": test}, sorted(missing))
