"""How many videos the check for leakage knows again, after what other datasets do to them.

python benchmarks/leaked_videos.py

Films rendered people and cuts two datasets out of the films: a training split, and test splits with
the same videos in other forms, or with other people. Prints the table of docs/evaluation.md, and
how many pairs of two people were wrongly named. Takes minutes.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from data_builders import h264
from data_builders.progress import Progress
from data_builders.records import Image
from data_builders.synthetic_faces import manipulate
from data_builders.synthetic_faces.builder import SyntheticFaces, SyntheticVideo, film
from qad_jax.evaluation import fingerprints, leakage
from qad_jax.training.resizing import resize_into

SEED, FRAMES, REAL = 3, 4, "original"
SMALLER = 0.6
#: Side of a crop relative to the other dataset's, and how far its middle is moved, of the side.
Cut = tuple[float, float, float]
SAME_CUT: Cut = (1.0, 0.0, 0.0)


class Crops:
    """The crops of a split in memory, as `Fingerprints` has those of a dataset."""

    def __init__(self, title: str, videos: Iterable[tuple[str, Sequence[Image]]]) -> None:
        """Hashes the crops of each video, which is named by its person."""
        self.title = title
        found = list(videos)
        self.videos = [(REAL, name) for name, _ in found]
        self.video = np.repeat(np.arange(len(found)), [len(images) for _, images in found])
        self._thumbs = np.stack([_thumb(image) for _, images in found for image in images])
        self.hashes = fingerprints.phash(self._thumbs)

    def thumb(self, frame: int) -> fingerprints.Grey:
        """The image of a frame."""
        return np.asarray(self._thumbs[frame])

    frames_of = fingerprints.Fingerprints.frames_of


def _thumb(image: Image) -> fingerprints.Grey:
    small = np.empty((fingerprints.SIDE, fingerprints.SIDE, 3), np.uint8)
    resize_into(np.ascontiguousarray(image), small)
    return fingerprints.grey(small)


def _cut(frames: Sequence[Image], boxes: npt.NDArray[np.float32], cut: Cut) -> list[Image]:
    scale, right, below = cut
    crops = []
    for frame, (x0, y0, x1, y1) in zip(frames, boxes, strict=True):
        side = (x1 - x0) * scale
        middle = (x0 + x1) / 2 + right * (x1 - x0), (y0 + y1) / 2 + below * (y1 - y0)
        left, top = (int(np.clip(at - side / 2, 0, len(frame) - side)) for at in middle)
        crops.append(frame[top : top + int(side), left : left + int(side)])
    return crops


def _enlarged(frames: Sequence[Image], times: int) -> list[Image]:
    how = cv2.INTER_CUBIC
    return [cv2.resize(f, None, fx=times, fy=times, interpolation=how) for f in frames]


def _smaller(image: Image) -> Image:
    how = cv2.INTER_AREA
    return np.asarray(cv2.resize(image, None, fx=SMALLER, fy=SMALLER, interpolation=how), np.uint8)


def measure(people: int, times: int) -> list[tuple[str, int, int]]:
    """Measures crops of one size: training shows the first half of the people.

    Args:
      people: Number of people.
      times: How many times as wide as it was rendered a film is before it is encoded.

    Returns:
      What was done to the videos, how many were found, and how many pairs are of two people.
    """
    films: dict[str, list[list[Image]]] = {"real": [], "fake": []}
    boxes = []
    with Progress(people, f"films, {times} times as wide", unit="person") as progress:
        for person in range(people):
            method = manipulate.METHODS[person % len(manipulate.METHODS)]
            real, fake = (
                SyntheticVideo(SEED, FRAMES, of, person, (person + 1) % people, ("raw",))
                for of in (REAL, method)
            )
            films["real"].append(_enlarged(film(real), times))
            films["fake"].append(_enlarged(film(fake), times))
            boxes.append(times * SyntheticFaces.read_clip(real).boxes)
            progress.advance()
    random = np.random.default_rng(1)
    cuts = [
        (random.uniform(0.86, 1.12), *random.uniform(-0.05, 0.05, 2).tolist())
        for _ in range(people)
    ]

    def split(
        kind: str,
        which: range,
        crf: int | None = None,
        cut_otherwise: bool = False,
        change: Callable[[Image], Image] = lambda image: image,
    ) -> Crops:
        def videos() -> Iterable[tuple[str, Sequence[Image]]]:
            for i in which:
                frames = films[kind][i]
                if crf is not None:
                    frames = list(h264.decode(h264.encode(frames, crf=crf)))
                crops = _cut(frames, boxes[i], cuts[i] if cut_otherwise else SAME_CUT)
                yield str(i), [change(crop) for crop in crops]

        return Crops(kind, videos())

    known, strangers = range(people // 2), range(people // 2, people)
    training = split("real", known)
    cases = {
        "at CRF 23": functools.partial(split, "real", known, 23),
        "cut otherwise": functools.partial(split, "real", known, cut_otherwise=True),
        "cut otherwise, CRF 23, resized": functools.partial(
            split, "real", known, 23, cut_otherwise=True, change=_smaller
        ),
        "at CRF 40": functools.partial(split, "real", known, 40),
        "cut otherwise, at CRF 40": functools.partial(split, "real", known, 40, cut_otherwise=True),
        "fakes made from them": functools.partial(split, "fake", known),
        "other people": functools.partial(split, "real", strangers),
        "other people, at CRF 40": functools.partial(split, "real", strangers, 40),
        "fakes of other people": functools.partial(split, "fake", strangers),
    }
    rows = []
    for name, made in cases.items():
        test = made()
        pairs = [
            (test.videos[match.test][1], training.videos[match.training][1])
            for match in leakage.search(test, training)  # type: ignore[arg-type]
        ]
        found = {tested for tested, trained in pairs if tested == trained}
        rows.append((name, len(found), sum(tested != trained for tested, trained in pairs)))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--people", type=int, default=60, help="half of them are in training")
    args = parser.parse_args(argv)
    large, small = (measure(args.people, times) for times in (2, 1))
    print(f"{'videos':32} found, 140 px  found, 70 px  wrong pairs")
    for (name, found, wrong), (_, found_small, wrong_small) in zip(large, small, strict=True):
        print(f"{name:32} {found:13} {found_small:13} {wrong + wrong_small:12}")


if __name__ == "__main__":
    main()
