"""Fingerprints of crops, by which the same moment of a video is known again in other files.

The same moment is found in two steps. A perceptual hash of 64 bits names what might be the same,
among any number of crops. It cannot decide: all faces in the middle of a crop are alike, and of a
thousand strangers one is always near. So what it names is laid over the other crop, moved and
scaled until both agree best, and only the correlation of the details then decides.

The hash is the one that is known as pHash (Zauner, "Implementation and benchmarking of perceptual
image hash functions", 2010): which of the lowest frequencies of the grey image are above their
median.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from data_builders.paired import PairedDatasetBuilder
from qad_jax.runs.hosts import Progress
from qad_jax.training.input_pipeline import TupleSource
from qad_jax.training.threaded_batches import Images, filled

Grey = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.uint64]

#: Side of the image that is compared, in pixels.
SIDE = 48
#: Frames of a video that are looked at, spread evenly over those that the dataset holds.
FRAMES = 8
#: The correlation from which on two crops count as the same moment; see docs/evaluation.md.
SAME = 0.88

_FREQUENCIES = 8
_BATCH = 256
_THUMBS = 4096  # that are kept in memory, of 9 kB each
# What is finer is told apart, what is coarser is the same in all faces.
_COARSE = 3.0
# The edge of a crop that has been moved has nothing to be compared with.
_MARGIN = 5
# Scale and shift, relative to the side, of the crops that are tried, and the steps of the search.
_PLACES = [
    (scale, x, y)
    for scale in (0.88, 1.0, 1 / 0.88)
    for x in (-0.06, 0.0, 0.06)
    for y in (-0.06, 0.0, 0.06)
]
_STEP = (0.07, 0.03)
# After each halving of the steps, below this nothing comes of it; most pairs end at the first.
_HOPELESS = (0.35, 0.6, 0.75, -1.0)


def _cosines() -> npt.NDArray[np.float64]:
    """`(8, SIDE)`: the lowest rows of the orthonormal DCT-II."""
    k, x = np.arange(_FREQUENCIES)[:, None], np.arange(SIDE)
    rows = math.sqrt(2 / SIDE) * np.cos(np.pi * k * (2 * x + 1) / (2 * SIDE))
    rows[0] /= math.sqrt(2)
    return rows


_DCT = _cosines()


def phash(images: Grey) -> Hashes:
    """Hashes grey images.

    Args:
      images: `(n, SIDE, SIDE)`.

    Returns:
      `(n,)`. The bits, from the highest on, are the 8 x 8 lowest frequencies row by row: whether
      each is more than the median of the 63 that are not the mean.
    """
    low = (_DCT @ images.astype(np.float64) @ _DCT.T).reshape(len(images), -1)
    bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).ravel()


def grey(image: Images) -> Grey:
    """`(SIDE, SIDE, 3)` uint8 RGB as `(SIDE, SIDE)` luma."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)


def moved(image: Grey, place: tuple[float, float, float]) -> Grey:
    """What a crop of another size and place would show of an image.

    Args:
      image: `(SIDE, SIDE)`.
      place: Side of the other crop, and how far its middle lies to the right and below, relative to
        the side of this one.
    """
    scale, x, y = place
    middle = (SIDE - 1) / 2
    matrix = np.array(
        [
            [scale, 0, middle * (1 - scale) + x * SIDE],
            [0, scale, middle * (1 - scale) + y * SIDE],
        ]
    )
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    shown = cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(shown, np.float32)


def hashes_of_places(image: Grey) -> Hashes:
    """The hashes of an image cut in 27 ways, for crops that another tool has cut otherwise."""
    return phash(np.stack([moved(image, place) for place in _PLACES]))


def correlation(image: Grey, other: Grey, place: int) -> float:
    """How well the details of two crops agree where they are laid over each other best.

    Args:
      image: `(SIDE, SIDE)`, which is moved.
      other: `(SIDE, SIDE)`.
      place: Which of `hashes_of_places` was nearest, from where the search starts.

    Returns:
      Pearson's correlation of what remains when the coarse shades are taken away. The search ends
      early where nothing comes of it, so a value below `SAME` may be too low.
    """
    moving, fixed = _details(image), _details(other)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    fixed = fixed - fixed.mean()
    norm = float(np.sqrt((fixed * fixed).sum()))
    at, best = _PLACES[place], -1.0
    wide, far = _STEP
    for least in _HOPELESS:
        tried = [
            (at[0] * (1 + a * wide), at[1] + b * far, at[2] + c * far)
            for a, b, c in itertools.product((-1, 0, 1), repeat=3)
        ]
        shown = np.stack([moved(moving, each) for each in tried])[
            :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN
        ]
        shown = shown - shown.mean((1, 2), keepdims=True)
        norms = np.sqrt((shown * shown).sum((1, 2))) * norm
        # An image of one colour agrees with nothing.
        agree = (shown * fixed).sum((1, 2)) / np.where(norms > 0, norms, np.inf)
        at, best = tried[int(agree.argmax())], float(agree.max())
        if best < least:
            break
        wide, far = wide / 2, far / 2
    return best


def _details(image: Grey) -> Grey:
    return np.asarray(image - cv2.GaussianBlur(image, (0, 0), _COARSE), np.float32)


class Fingerprints:
    """The hashes of a split, in 24 bytes a frame; images are read again where they are compared.

    Attributes:
      title: What the split is called.
      dataset: Full name of the dataset.
      videos: Method and name of each video.
      video: `(n,)` for each frame, which of the videos it is of.
      hashes: `(n,)`.
    """

    def __init__(self, dataset: PairedDatasetBuilder, split: str) -> None:
        """Reads up to `FRAMES` frames of each video, at the best quality.

        Args:
          dataset: A builder whose dataset is built.
          split: Name of the split.

        Raises:
          UserError: As `TupleSource`.
        """
        self._source = TupleSource(dataset, split, dataset.qualities[:1], SIDE)
        self.title, self.dataset = self._source.title, dataset.info.full_name
        frames: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for index, (method, moment) in enumerate(
            zip(self._source.facts.methods, self._source.moments(), strict=True)
        ):
            frames.setdefault((method, moment.video), []).append((moment.frame, index))
        self.videos = list(frames)
        chosen = [_spread(sorted(of)) for of in frames.values()]
        self._index = np.array([i for of in chosen for i in of], np.intp)
        self.video = np.repeat(np.arange(len(chosen)), [len(of) for of in chosen])
        self.hashes = self._hashed()
        self.thumb = functools.lru_cache(_THUMBS)(self._thumb)

    def _hashed(self) -> Hashes:
        hashes: list[Hashes] = [np.empty(0, np.uint64)]
        records = self._index.tolist()
        parts = (records[i : i + _BATCH] for i in range(0, len(records), _BATCH))
        with Progress(len(self._index), f"hashes of {self.title}", unit="frame") as progress:
            shape = self._source.shape
            for images, read in filled(self._source.fill, parts, _BATCH, shape):
                hashes.append(phash(np.stack([grey(row[0]) for row in images[: len(read)]])))
                progress.advance(len(read))
        return np.concatenate(hashes)

    def _thumb(self, frame: int) -> Grey:
        """The image of a frame, `(SIDE, SIDE)`."""
        return grey(self._source[int(self._index[frame])]["image"][0])

    def frames_of(self, video: int) -> range:
        """The frames of a video, which lie side by side."""
        first, end = np.searchsorted(self.video, (video, video + 1))
        return range(int(first), int(end))

    def of_methods_but(self, excluded: Sequence[str]) -> npt.NDArray[np.bool_]:
        """`(v,)` which of the videos are not of some methods."""
        return np.array([method not in excluded for method, _ in self.videos], bool)


def _spread(frames: Sequence[tuple[int, int]]) -> list[int]:
    """The indices of at most `FRAMES` frames, spread evenly."""
    places = np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int)
    return [frames[place][1] for place in places]
