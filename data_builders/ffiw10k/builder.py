"""`ffiw10k`: FFIW10K, in the folders of its archives."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from data_builders.access import Access
from data_builders.clips import Layout, VideoFiles
from data_builders.lists import nothing_in, videos_in
from data_builders.splits import lacking
from data_builders.video_builder import VideoDatasetBuilder

RELEASE = "FFIW10K-v1-release"

_METHODS = {"source": ("original", "real"), "target": ("FFIW", "fake")}
_MASKS, _TEST = "target_mask", f"{RELEASE}-test"
_SPLITS = {"train": "train", "validation": "val", "test": "test"}


class Ffiw10k(VideoDatasetBuilder):
    """FFIW10K: several faces in a frame, and masks of those that are swapped."""

    TREE: ClassVar[str] = (
        f"{RELEASE}/{{source,target,target_mask}}/{{train,val}}/STEM.mp4\n"
        f"{_TEST}/{{source,target,target_mask}}/STEM.mp4, an archive of its own\n"
        "a mask may be called STEM_mask.mp4; without one, the largest face is taken"
    )

    ACCESS: ClassVar[Access] = Access(
        page="https://github.com/tfzhou/FFIW",
        form="a Google form on that page, from an address of a university if you have one, or a "
        "letter to ffiwdataset@gmail.com; research without commercial interest",
        size="10 000 pairs of videos; how many bytes is not published",
        reported="requests were not answered in 2024, and the archive that people pass on lacks "
        "the test split (issues 1 and 4 of that page)",
    )

    @classmethod
    def find(cls, root: Path, config: str = "") -> Layout:
        """Finds all videos of the official splits, and their masks.

        Raises:
          UserError: There is no such folder, or no real or no fake video of FFIW10K in it.
        """
        del config
        files_in = {split: _read(root, folder) for split, folder in _SPLITS.items()}
        if not all(any(kinds[kind] for kinds in files_in.values()) for kind in _METHODS):
            real, fake = (f"{RELEASE}/{kind}/train/STEM.mp4" for kind in _METHODS)
            expected = f"{real}, real, and {fake}, fake,"
            raise nothing_in(root, "holds no pairs of FFIW10K", expected)
        stems = {
            split: sorted({*kinds["source"], *kinds["target"]}) for split, kinds in files_in.items()
        }
        splits_of = collections.Counter(stem for split in stems.values() for stem in split)
        splits: dict[str, list[VideoFiles]] = {split: [] for split in _SPLITS}
        missing = []
        for split, kinds in files_in.items():
            for stem in stems[split]:
                # The same number in two splits does not mean the same person.
                name = stem if splits_of[stem] == 1 else f"{split}_{stem}"
                for kind, (method, label) in _METHODS.items():
                    if stem in kinds[kind]:
                        # The real video has the mask of its fake: both show the same face.
                        files, mask = {"raw": kinds[kind][stem]}, kinds[_MASKS].get(stem)
                        splits[split].append(VideoFiles(method, name, name, label, files, mask))
                    else:
                        missing.append(f"{kind}/{_SPLITS[split]}/{stem}")
        return Layout(splits, missing, lacking(splits))


def _read(root: Path, split: str) -> Mapping[str, Mapping[str, Path]]:
    """Finds the files of a split by kind and stem, in all places where archives are unpacked."""
    # The archive of the test split calls its folder val, too: only test may look there.
    apart = root if root.name == _TEST else root / _TEST
    parents = [parent for parent in (root, root / RELEASE) if parent != apart]
    kinds: dict[str, dict[str, Path]] = {}
    for kind in (*_METHODS, _MASKS):
        folders = [parent / kind / split for parent in parents]
        if split == "test":
            folders += [apart / kind / level for level in ("test", "", "val")]
        suffix = "_mask" if kind == _MASKS else ""
        found = videos_in(*folders).items()
        kinds[kind] = {stem.removesuffix(suffix): path for stem, path in found}
    return kinds
