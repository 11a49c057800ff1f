"""`self_blended`: real faces of the user's own, and fakes that are blended from them."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from data_builders.clips import ClipSource, Layout, VideoFiles
from data_builders.draws import drawn
from data_builders.errors import UserError, nearest
from data_builders.lists import (
    as_text,
    files_under,
    first_of,
    located,
    nothing_in,
    one_form,
    read_table,
)
from data_builders.records import DEFAULT_QUALITIES, SPLITS, Pair
from data_builders.self_blended import clip, doctor, painter_files, recipes
from data_builders.self_blended.stills import IMAGES, VIDEOS
from data_builders.video_builder import VideoDatasetBuilder

LIST = "identities.csv"
# Of a thousand identities, by the digest of their name.
_TEST, _VALIDATION = 150, 250
_DONORS = 8  # files that are tried for the face of a swap


class SelfBlended(VideoDatasetBuilder):
    """Photographs or videos of real faces, and fakes blended from them.

    Real and fake share the camera, the noise, the codec and the box. Only the blend tells them
    apart.
    """

    VERSION: ClassVar[tfds.core.Version] = tfds.core.Version("3.4.0")
    #: What an earlier version has built is still opened, by the name of its recipe.
    SUPPORTED_VERSIONS: ClassVar[list[tfds.core.Version]] = [
        tfds.core.Version(older) for older in ("3.3.0", "3.2.0", "3.1.0", "3.0.0", "2.0.0", "1.0.0")
    ]
    UNIT: ClassVar[str] = "pairs"
    # Boxes come with the landmarks that place the masks, so there is no other source of faces.
    OPTIONS: ClassVar[frozenset[str]] = frozenset(
        VideoDatasetBuilder.OPTIONS - {"face_source"}
        | {"variants", "families", "degraded", "painters"}
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
        degraded: float | None = None,
        painters: str | Path = "",
        **kwargs: Any,
    ) -> None:
        """Describes a build; nothing is read yet.

        Args:
          variants: Number of pairs from each file.
          families: Families of the fakes, see `recipes.FAMILIES`; where none are named, all that
            can be made.
          degraded: Share of the pairs whose clips are degraded, alike in both.
          painters: Folder of the painters' files, see `learning`.
          **kwargs: See `VideoDatasetBuilder`.

        Raises:
          UserError: As there, a family is unknown, a number is out of range, or a file is
            no painter.
        """
        if variants is not None and variants < 1:
            raise UserError(f"--variants: is {variants}, must be at least 1")
        if degraded is not None and not 0 <= degraded <= 1:
            raise UserError(f"--degraded: is {degraded:g}, must be from 0 to 1")
        given: dict[str, Any] = {"variants": variants, "degraded": degraded}
        given = {name: value for name, value in given.items() if value is not None}
        if families is not None:
            given["families"] = check_families(families)
        if str(painters):
            given["painters"] = painter_files.find(Path(painters))
            given.setdefault("families", tuple(recipes.FAMILIES))
            if not {recipes.PAINTED, recipes.SWAP}.intersection(given["families"]):
                raise UserError(
                    f"--painters: none of these families is painted; add {recipes.PAINTED} or "
                    f"{recipes.SWAP} to --families"
                )
        elif recipes.PAINTED in given.get("families", ()):
            raise UserError(
                f"--families: {recipes.PAINTED} needs --painters, a folder that `python -m "
                "data_builders.self_blended.learning` makes of your faces"
            )
        super().__init__(drawn=given, **kwargs)

    @classmethod
    def default_recipe(cls) -> clip.BlendRecipe:
        """Eight pairs of clips of one frame from each file, of all families."""
        return clip.BlendRecipe(DEFAULT_QUALITIES)

    @classmethod
    def find(cls, root: Path, config: str = "") -> Layout:
        """Finds the files, and puts each identity in a split by the digest of its name.

        Raises:
          UserError: There is no such folder, it holds no images or videos, or its list is wrong.
        """
        del config
        there, unread = files_under(root)
        files = [path for path in there if path.suffix.lower() in (*IMAGES, *VIDEOS)]
        if not files:
            raise nothing_in(root, "holds no images or videos", f"this: {cls.TREE}")
        listed, missing = _listed(root / LIST)
        splits: dict[str, list[VideoFiles]] = {split: [] for split in SPLITS}
        alike = collections.Counter(_plain(path, root) for path in files)
        unlisted, places = 0, set[Path]()
        for path in files:
            name = _text(path.relative_to(root))
            if listed is None:
                identity = _text(path.relative_to(root).with_suffix("")).partition("/")[0]
            elif (place := _place(path)) in listed:
                identity = listed[place]
                places.add(Path(place))
            else:
                unlisted += 1
                continue
            video = _plain(path, root)
            if alike[video] > 1:  # a.jpg beside a.png, or a/b.jpg beside a_b.jpg
                video += "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
            splits[_split_of(identity)].append(
                VideoFiles(clip.ORIGINAL, video, identity, "real", {"raw": path})
            )
        others = {*there} - {*files} if listed is None else {*map(Path, listed)} - places
        if not any(splits.values()):
            raise UserError(
                f"{root / LIST}: none of its {len(missing) + len(others)} files is an image or a "
                "video in the folder; name them as they are there, such as "
                f"{_text(files[0].relative_to(root))}"
            )
        notes = [f"{unlisted} files are not in {LIST} and are left out"] if unlisted else []
        outside = {path for path in others if path.suffix.lower() in (*IMAGES, *VIDEOS)}
        if others := others - outside:
            notes.append(
                f"{len(others)} files are no images or videos that are read: {_ends(others)}"
            )
        if outside:
            notes.append(
                f"{len(outside)} files of {LIST} are hidden or not in the folder: "
                f"{first_of(sorted(map(_text, outside)))}"
            )
        if unread:
            notes.append(f"{len(unread)} folders are left out: {first_of(unread)}")
        return Layout(splits, missing, notes)

    def sources_of(self, listed: Sequence[VideoFiles]) -> Sequence[ClipSource]:
        """Names a pair of a real clip and a fake for each file and variant.

        Raises:
          UserError: All fakes are swaps, and the split has one person; or all flicker, and clips
            have one frame.
        """
        recipe = self.recipe
        assert isinstance(recipe, clip.BlendRecipe)
        families = recipe.families
        if recipe.frames_per_video == 1:
            families = tuple(family for family in families if family != recipes.FLICKER)
            if not families:
                raise UserError(
                    f"--families: {recipes.FLICKER} is seen from frame to frame; give "
                    "--frames_per_video 2 or more, or another family"
                )
        if len({files.identity for files in listed}) < 2:
            families = tuple(family for family in families if family != recipes.SWAP)
            if not families:
                raise UserError(
                    f"--families: a swap needs two people in a split, and {listed[0].identity!r} "
                    "is alone in one; add files of others, or a family"
                )
        turns, donors_of = _in_turn(families), _Donors(listed, recipe.seed)
        made = []
        for number, (files, variant) in enumerate(
            itertools.product(listed, range(recipe.variants))
        ):
            # Each round begins a pair of turns later: a number of variants that divides that of the
            # turns would always give the same families to a file.
            family = turns[(number + 2 * (number // len(turns))) % len(turns)]
            pair = dataclasses.replace(
                files, method=family, video=f"{files.video}-{variant}", label="fake"
            )
            donors = donors_of(pair) if family == recipes.SWAP else ()
            made.append(clip.BlendSource(pair, recipe, donors))
        return made

    def notes(self, layout: Layout) -> list[str]:
        """As in the base, without a word on masks."""
        return list(layout.notes)

    def examined(self, layout: Layout) -> str:
        """Says what a build would make of photographs and videos."""
        return doctor.report(self, layout)

    @staticmethod
    def read_clip(source: ClipSource) -> Pair:
        """Makes one pair, see `clip.read`."""
        assert isinstance(source, clip.BlendSource)
        return clip.read(source)


def _in_turn(families: Sequence[str]) -> list[str]:
    """The families in their order, with a swap after each of the others.

    Most of the fakes that people meet are swaps.
    """
    others = [family for family in families if family != recipes.SWAP]
    if len(others) == len(families):
        return others
    return [turn for other in others for turn in (other, recipes.SWAP)] or [recipes.SWAP]


def _listed(path: Path) -> tuple[dict[str, str] | None, list[str]]:
    """Reads who is in the file at each `_place`; and names the files that are not there.

    Without a list, there is None for the first.

    Raises:
      UserError: The list cannot be read, or gives a file two identities.
    """
    if not path.exists():
        return None, []
    listed: dict[str, str] = {}
    missing: dict[str, str] = {}
    for line, (name, identity) in read_table(path, "list of identities", ("file", "identity")):
        if not name or not identity:
            raise UserError(f"{path}: line {line} has no file or no identity")
        file, who = located(path.parent, name), one_form(identity)
        # A file has several names, such as a.jpg and ./a.jpg.
        known, key = (missing, one_form(name)) if file is None else (listed, _place(file))
        if known.setdefault(key, who) != who:
            raise UserError(
                f"{path}: line {line} gives {name} a second identity, {who!r} after "
                f"{known[key]!r}; keep one"
            )
    return listed, sorted(missing)


def _place(file: Path) -> str:
    """Where a file is, whatever way leads to its folder. A link to it is a file of its own."""
    return os.path.join(os.path.realpath(file.parent), file.name)


def _text(path: Path) -> str:
    """A path as all systems write it."""
    return one_form(as_text(path.as_posix()))


def _plain(path: Path, root: Path) -> str:
    """The name of a file without its suffix, folders included, as one word."""
    return _text(path.relative_to(root).with_suffix("")).replace("/", "_")


def _ends(files: Iterable[Path]) -> str:
    """The most frequent endings of names, and how many there are of each."""
    ends = collections.Counter(
        as_text(file.suffix.lower()) or "without an ending" for file in sorted(files)
    )
    return ", ".join(f"{end} ({count})" for end, count in ends.most_common(3))


def _split_of(identity: str) -> str:
    draw = drawn(identity, 1000)
    return "test" if draw < _TEST else "validation" if draw < _VALIDATION else "train"


class _Donors:
    """Draws files of other people of the same split, in the order in which they are tried."""

    def __init__(self, listed: Sequence[VideoFiles], seed: int) -> None:
        # Whoever it is, the files of the others are all but one piece of this list.
        self._files = sorted(listed, key=lambda files: files.identity)
        self._counts = collections.Counter(files.identity for files in listed)
        starts = itertools.accumulate(self._counts[name] for name in sorted(self._counts))
        self._ends = dict(zip(sorted(self._counts), starts, strict=True))
        self._seed = seed

    def __call__(self, pair: VideoFiles) -> tuple[Path, ...]:
        own, end = self._counts[pair.identity], self._ends[pair.identity]

        def one(attempt: int) -> Path:
            key = f"{self._seed}/{pair.video}/donor/{attempt}"
            index = drawn(key, len(self._files) - own)
            return self._files[index if index < end - own else index + own].best

        return tuple(dict.fromkeys(map(one, range(_DONORS))))


def check_families(families: Sequence[str]) -> tuple[str, ...]:
    """Returns the families as a tuple.

    Raises:
      UserError: One is unknown, or there is none.
    """
    for family in families:
        if family not in recipes.FAMILIES:
            raise UserError(f"--families: {family!r}: {nearest(family, recipes.FAMILIES)}")
    if not families or len(set(families)) < len(families):
        raise UserError("--families: give at least one, each once")
    return tuple(families)
