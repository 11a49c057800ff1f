"""From a file to a pair of clips: the face, the camera around it, the blend, the qualities."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_builders import clips, compression, faces
from data_builders.errors import UnusableClipError
from data_builders.qualities import MESSENGER
from data_builders.records import Clip, Image, Pair
from data_builders.self_blended import blend, expression, footage, painter_files, recipes
from data_builders.self_blended.face import Face, Map, around
from data_builders.self_blended.stills import Stills, read_stills

ORIGINAL = "original"
# A generator always changes something. A fake that changes less, in grey values over a sixteenth of
# the face, is drawn again, at most so many in all: its label could not be learned.
_LEAST_CHANGE, _DRAWS = 10.0, 8
_FILMED = 4  # frames that are encoded for each that is kept: a codec needs neighbours


@dataclasses.dataclass(frozen=True)
class BlendRecipe(clips.Recipe):
    """How pairs are made.

    Attributes:
      variants: Number of pairs of a real clip and a fake from each file.
      families: The families that fakes are of, in turn.
      degraded: Share of the pairs whose clips are degraded, see `footage.draw`.
      painters: What paints the faces of the family `painted`, and of half of the swaps.
    """

    frames_per_video: int = 1
    variants: int = 8
    families: tuple[str, ...] = recipes.UNPAINTED
    degraded: float = 0.5
    painters: tuple[painter_files.File, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Adds what this dataset draws."""
        return {
            **super().describe(),
            "variants": self.variants,
            "families": list(self.families),
            "degraded": self.degraded,
            **({"painters": [file.digest for file in self.painters]} if self.painters else {}),
        }


@dataclasses.dataclass(frozen=True)
class BlendSource(clips.ClipSource):
    """One pair: `files` name the file, the family as the method, and the pair as the video.

    Both clips come from one source, so both are in the dataset or neither is.

    Attributes:
      donors: Files of other people, for a swap: the first that shows a face is used.
    """

    donors: tuple[Path, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The real clip and the fake."""
        return f"{ORIGINAL}/{self.files.video}", str(self)

    @property
    def inputs(self) -> list[Path]:
        """The file, and those of the donors."""
        return [*super().inputs, *self.donors]

    @property
    def drawn_for(self) -> str:
        """The name of the pair: both clips are compressed alike."""
        return self.files.video

    @property
    def length(self) -> int:
        """Number of frames that are filmed."""
        return _FILMED * self.recipe.frames_per_video

    def random(self, purpose: str) -> np.random.Generator:
        """Random numbers of the pair, alike for its real clip and its fake."""
        key = f"{self.recipe.seed}/{self.files.video}/{purpose}"
        return np.random.default_rng(list(hashlib.sha256(key.encode()).digest()[:16]))

    def stills(self) -> Stills:
        """Reads the file.

        Raises:
          UserError: It cannot be read, or no face was found.
        """
        return read_stills(self.files.best, self.length, float(self.random("start").random()))


def read(source: BlendSource) -> Pair:
    """Makes a pair.

    The fake is blended in the pixels of the file, before the camera, its noise and any encoding.

    Args:
      source: The pair.

    Raises:
      UserError: The file cannot be read, no face was found, or in no donor's file.
      BrokenBuildError: A painter's file is gone or was changed.
    """
    recipe = source.recipe
    assert isinstance(recipe, BlendRecipe)
    images, found, _ = source.stills()
    acting = source.random("expression")
    lids = expression.draw(acting)
    images = [expression.shown(one, face, lids) for one, face in zip(images, found, strict=True)]
    donor = _donor(source.donors, acting) if source.donors else None
    filmed = footage.draw(
        images[0].shape[:2],
        around(found),
        source.length,
        source.random("footage"),
        moves=len(images) == 1,
        degraded=recipe.degraded,
    )
    family = source.files.method
    aged = _aged(images, found, filmed)
    rng, before = source.random("blend"), next(aged())
    for _ in range(_DRAWS):
        drawn = recipes.draw(family, found[0].size, filmed.scale, rng, len(recipe.painters))
        painters = recipe.painters
        paint = None if drawn.painter is None else painters[drawn.painter].load(drawn.detail)
        blended = _blended(images, aged(), found, drawn, donor, paint)
        first = next(blended)
        if blend.change(before, first, found[0], filmed.scale) >= _LEAST_CHANGE:
            break
    fakes = itertools.chain([first], blended)
    real = _filmed(source, filmed, aged(), found)
    fake = _filmed(source, filmed, fakes, found)
    return Pair(
        dataclasses.replace(real, method=ORIGINAL, label="real"),
        dataclasses.replace(fake, method=family, label="fake"),
    )


def _donor(files: Sequence[Path], acting: np.random.Generator) -> tuple[Image, Face]:
    """The face of the first file that shows one. It closes its eyes as often as the others."""
    for path in files:
        try:
            others = read_stills(path, 1, 0.5)
        except MemoryError:  # of the machine and not of the file
            raise
        except Exception as error:  # the pairs that are made of this file name it
            last = error
        else:
            image, face = others.images[0], others.faces[0]
            return expression.shown(image, face, expression.draw(acting)), face
    raise UnusableClipError(
        f"none of {len(files)} files of other people shows a face for the swap; the last: {last}"
    )


def _aged(
    images: Sequence[Image], found: Sequence[Face], filmed: footage.Footage
) -> Callable[[], Iterator[Image]]:
    """Gives the real image for each frame. A photograph is one for all, and is aged once."""
    if len(images) > 1:  # one at a time: they are large
        return lambda: map(footage.aged, images, itertools.repeat(filmed.past), found)
    once = footage.aged(images[0], filmed.past, found[0])
    return functools.partial(itertools.repeat, once, len(filmed.path))


def _blended(
    images: Sequence[Image],
    aged: Iterator[Image],
    found: Sequence[Face],
    drawn: recipes.Recipe,
    donor: tuple[Image, Face] | None,
    paint: Callable[[Map, Face], Map] | None,
) -> Iterator[Image]:
    """The image with the new face for each frame, one at a time: they are large."""
    alike = len(images) == 1 and not drawn.flicker
    fake: Image | None = None
    for moment, real in enumerate(aged):
        index = moment % len(images)
        if fake is None or not alike:
            fake = blend.apply(
                real,
                found[index],
                drawn,
                clean=images[index],
                donor=donor,
                paint=paint,
                moment=moment,
            )
        yield fake


def _filmed(
    source: BlendSource, filmed: footage.Footage, stills: Iterator[Image], found: Sequence[Face]
) -> Clip:
    """Films, encodes and cuts one clip of a pair."""
    faces_in = found if len(found) > 1 else [*found] * len(filmed.path)
    frames, placed = footage.film(filmed, stills, faces_in)
    indices = [int((i + 0.5) * _FILMED) for i in range(source.recipe.frames_per_video)]
    boxes = [faces.square_box(placed[i].box, filmed.size) for i in indices]
    crops = {
        quality: [faces.crop(frame, box) for frame, box in zip(seen, boxes, strict=True)]
        for quality, seen in _at_qualities(frames, indices, source).items()
    }
    return Clip(
        method=source.files.method,
        video=source.files.video,
        identity=source.files.identity,
        label=source.files.label,
        frames=indices,
        boxes=np.asarray(boxes, np.float32),
        crops=crops,
    )


def _at_qualities(
    frames: list[Image], indices: Sequence[int], source: BlendSource
) -> dict[str, list[Image]]:
    """The chosen frames of a clip at each quality."""
    encoded = [q for q in source.recipe.qualities if q not in ("raw", MESSENGER)]
    crfs = {quality: source.crf(quality) for quality in encoded}
    made = compression.compressed(frames, crfs.values(), indices) if crfs else {}
    seen: dict[str, list[Image]] = {}
    for quality in source.recipe.qualities:  # in their order
        if quality == "raw":
            seen[quality] = [frames[index] for index in indices]
        elif quality == MESSENGER:
            sent = list(compression.messenger(frames, frames[0].shape[:2]))
            seen[quality] = [sent[index] for index in indices]
        else:
            seen[quality] = made[crfs[quality]]
    return seen
