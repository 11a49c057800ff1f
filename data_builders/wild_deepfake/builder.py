"""`wild_deepfake`: WildDeepfake, sequences of crops in the folders of its archives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from data_builders.access import Access
from data_builders.clips import spread
from data_builders.errors import UserError
from data_builders.home import expanded
from data_builders.lists import as_text, entries, nothing_in
from data_builders.manifest.builder import Manifest
from data_builders.manifest.listing import Listing, Tuple, checked
from data_builders.paired import PairedConfig
from data_builders.splits import held_out

FRAMES = 32  # of each sequence, spread evenly

_METHODS = {"real": "original", "fake": "WildDeepfake"}


class WildDeepfake(Manifest):
    """Fakes that people have put on the internet, as crops."""

    NEEDS: ClassVar[tuple[str, ...]] = ("manual_dir",)
    ACCESS: ClassVar[Access] = Access(
        page="https://github.com/OpenTAI/wild-deepfake",
        form="what the page says at the time: a link to Baidu once, a request later, and "
        "xingjunm/WildDeepfake at Hugging Face now",
        size="7314 sequences of crops, 1.2 million images; how many bytes is not published",
        scripts="none: unpack each N.tar.gz in its folder: for f in *.tar.gz; do tar -xf $f; done",
        reported="the authors were not to be reached in 2023 (RECCE issue 11)",
    )

    def __init__(
        self, *, manual_dir: str | Path, config: str | PairedConfig | None = None, **kwargs: Any
    ) -> None:
        """Lists the folder.

        Args:
          manual_dir: The folder that was downloaded, or `deepfake_in_the_wild` in it.
          config: See `Manifest`.
          **kwargs: See `Manifest`.

        Raises:
          UserError: There is no such folder, or no sequences in it.
        """
        if not str(manual_dir) and not isinstance(config, PairedConfig):
            raise UserError(f"--manual_dir: name the folder of {self.name}")
        folder = expanded(manual_dir).absolute()
        super().__init__(manifest=folder, config=config, **kwargs)

    def _read(self, path: Path) -> Listing:
        inner = path / "deepfake_in_the_wild"
        root = inner if inner.is_dir() else path
        splits: dict[str, list[Tuple]] = {"train": [], "validation": [], "test": []}
        packed = []
        for label in _METHODS:
            train = _sequences(root, f"{label}_train", label)
            splits["test"] += _sequences(root, f"{label}_test", label)
            held = held_out({item.identity for item in train}, [])
            for item in train:
                splits["validation" if item.identity in held else "train"].append(item)
            for part in ("train", "test"):
                folder = root / f"{label}_{part}"
                archives = [file.name.partition(".")[0] for file in folder.glob("[!.]*.tar.gz")]
                packed += [name for name in archives if not (folder / name).is_dir()]
        if not any(splits.values()):
            same = "and the same of real_train, fake_test and real_test"
            expected = f"fake_train/N/fake/SEQUENCE/FRAME.png, {same},"
            raise nothing_in(path, "holds no unpacked crops", expected)
        notes = [f"{len(packed)} archives are not unpacked, and left out"] if packed else []
        return checked(path, ("raw",), splits, notes)


def _sequences(root: Path, part: str, label: str) -> Sequence[Tuple]:
    """Lists the frames of a part that are taken; archive N is what is known of the people."""
    tuples = []
    for folder in (each for archive in entries(root / part) for each in entries(archive / label)):
        images = (path for path in entries(folder) if path.suffix.lower() == ".png")
        frames = sorted(images, key=_number)
        who = f"{part}/{as_text(folder.parts[-3])}"
        name = f"{who}/{as_text(folder.name)}"
        for index in spread(len(frames), FRAMES):
            paths = {"raw": frames[index]}
            tuples.append(Tuple(paths, label, _METHODS[label], name, who, index))
    return tuples


def _number(path: Path) -> tuple[int, str]:
    """Frames are numbered without leading zeros."""
    found = re.fullmatch(r"\d{1,9}", path.stem)
    return (int(found[0]) if found else -1), path.name
