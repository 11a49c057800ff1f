"""`self_blended`: real faces of the user's own, and fakes that are blended from them."""

from __future__ import annotations

import csv
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from data_builders.clips import ClipSource, Layout, VideoFiles
from data_builders.draws import drawn
from data_builders.errors import UserError, nearest
from data_builders.lists import located, read_text
from data_builders.records import DEFAULT_QUALITIES, Clip
from data_builders.self_blended import blend, clip
from data_builders.video_builder import VideoDatasetBuilder

ORIGINAL = "original"
LIST = "identities.csv"
# Of a thousand identities, by the digest of their name.
_TEST, _VALIDATION = 150, 250


class SelfBlended(VideoDatasetBuilder):
    """Photographs or videos of real faces, and fakes blended from them.

    Real and fake share the camera, the noise, the codec and the box. Only the blend tells them
    apart.
    """

    DOCTOR: ClassVar[bool] = False
    # Boxes come with the landmarks that place the masks, so there is no other source of faces.
    OPTIONS: ClassVar[frozenset[str]] = frozenset(
        VideoDatasetBuilder.OPTIONS - {"face_source"} | {"variants", "families"}
    )
    TREE: ClassVar[str] = (
        "IDENTITY/*.jpg, photographs or videos in a folder for each person; or files with\n"
        f"{LIST} beside them, whose columns file and identity say who is in which"
    )

    def __init__(
        self,
        *,
        variants: int | None = None,
        families: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Describes a build; nothing is read yet.

        Args:
          variants: Number of pairs from each file.
          families: Families of the fakes, see `blend.FAMILIES`; all where none are named.
          **kwargs: See `VideoDatasetBuilder`.

        Raises:
          UserError: As there, or a family is unknown.
        """
        if variants is not None and variants < 1:
            raise UserError(f"--variants: is {variants}, must be at least 1")
        given: dict[str, Any] = {} if variants is None else {"variants": variants}
        if families is not None:
            given["families"] = check_families(families)
        super().__init__(drawn=given, **kwargs)

    @classmethod
    def default_recipe(cls) -> clip.BlendRecipe:
        """Four pairs of clips of two frames from each file, of all families."""
        return clip.BlendRecipe(DEFAULT_QUALITIES)

    @classmethod
    def find(cls, root: Path, config: str = "") -> Layout:
        """Finds the files, and puts each identity in a split by the digest of its name.

        Raises:
          UserError: There is no such folder, it holds no images or videos, or its list is wrong.
        """
        del config
        files = sorted(
            path
            for path in root.rglob("*")
            if path.suffix.lower() in (*clip.IMAGES, *clip.VIDEOS)
            and not any(part.startswith(".") for part in path.relative_to(root).parts)
        )
        if not files:
            problem = "holds no images or videos" if root.is_dir() else "there is no such folder"
            raise UserError(f"{root}: {problem}; expected in it: {cls.TREE}".replace("\n", " "))
        listed, missing = _listed(root / LIST)
        splits: dict[str, list[VideoFiles]] = {"train": [], "validation": [], "test": []}
        unlisted = 0
        for path in files:
            name = path.relative_to(root).as_posix()
            if listed is None:
                identity = name.partition("/")[0] if "/" in name else path.stem
            elif path in listed:
                identity = listed[path]
            else:
                unlisted += 1
                continue
            video = name.removesuffix(path.suffix).replace("/", "_")
            splits[_split_of(identity)].append(
                VideoFiles(ORIGINAL, video, identity, "real", {"raw": path})
            )
        notes = [f"{unlisted} files are not in {LIST} and are left out"] if unlisted else []
        return Layout(splits, missing, notes)

    def sources_of(self, listed: Sequence[VideoFiles]) -> Sequence[ClipSource]:
        """Names a real clip and a fake for each file and variant."""
        assert isinstance(self.recipe, clip.BlendRecipe)
        sources = super().sources_of(listed)
        made: list[ClipSource] = []
        turns = itertools.cycle(_in_turn(self.recipe.families))
        for source, variant in itertools.product(sources, range(self.recipe.variants)):
            family, donor = next(turns), None
            if family == blend.SWAP:
                donor = _donor(source, variant, sources)
                if donor is None:  # only one person in the split
                    family = next(turns)
            video = f"{source.files.video}-{variant}"
            for method, label in ((ORIGINAL, "real"), (family, "fake")):
                files = dataclasses.replace(source.files, method=method, video=video, label=label)
                other = donor if method == blend.SWAP else None
                made.append(clip.BlendSource(files, source.recipe, variant, other))
        return made

    @staticmethod
    def read_clip(source: ClipSource) -> Clip:
        """Makes one clip, see `read`."""
        assert isinstance(source, clip.BlendSource)
        return clip.read(source)


def _in_turn(families: Sequence[str]) -> list[str]:
    """The families in their order, with a swap after every third of the others.

    Most of the fakes that people meet are swaps.
    """
    others = [family for family in families if family != blend.SWAP]
    if len(others) == len(families):
        return others
    turns = []
    for start in range(0, max(1, len(others)), 3):
        turns += [*others[start : start + 3], blend.SWAP]
    return turns


def _listed(path: Path) -> tuple[dict[Path, str] | None, list[str]]:
    """Reads which file shows whom, None without a list; and names the files that are not there."""
    if not path.exists():
        return None, []
    rows = csv.DictReader(read_text(path, "list of identities").splitlines())
    lacking = {"file", "identity"} - set(rows.fieldnames or ())
    if lacking:
        raise UserError(f"{path}: has no column {' or '.join(sorted(lacking))}")
    listed: dict[str, str] = {}
    for row in rows:
        name, identity = (str(row[key] or "").strip() for key in ("file", "identity"))
        if not name or not identity:
            raise UserError(f"{path}: line {rows.line_num} has no file or no identity")
        if listed.setdefault(name, identity) != identity:
            raise UserError(f"{path}: line {rows.line_num} gives {name} a second identity")
    files = {name: located(path.parent, name) for name in listed}
    missing = sorted(name for name, file in files.items() if file is None)
    return {file: listed[name] for name, file in files.items() if file is not None}, missing


def _split_of(identity: str) -> str:
    draw = drawn(identity, 1000)
    return "test" if draw < _TEST else "validation" if draw < _VALIDATION else "train"


def _donor(source: ClipSource, variant: int, among: Sequence[ClipSource]) -> Path | None:
    """Chooses another person's file of the same split."""
    start = drawn(f"{source.recipe.seed}/{source}/{variant}", len(among))
    for step in range(len(among)):
        other = among[(start + step) % len(among)].files
        if other.identity != source.files.identity:
            return other.best
    return None


def check_families(families: Sequence[str]) -> tuple[str, ...]:
    """Returns the families as a tuple.

    Raises:
      UserError: One is unknown, or there is none.
    """
    for family in families:
        if family not in blend.FAMILIES:
            raise UserError(f"--families: {family!r}: {nearest(family, blend.FAMILIES)}")
    if not families or len(set(families)) < len(families):
        raise UserError("--families: give at least one, each once")
    return tuple(families)
