"""How many videos the check for leakage knows again, after what other datasets do to them.

python benchmarks/leaked_videos.py [--built DATA_DIR]

Films rendered people and cuts two datasets out of the films: a training split, and test splits with
the same videos in other forms, or with other people. Prints the table of docs/evaluation.md, how
many pairs of two people were wrongly named, and how many bits of the hash differ: from the same
crop of training, and for other people from the nearest crop. Takes minutes.

With `--built`, it looks instead at `synthetic_faces/sweep` as it is built in a folder: no test
video of it shows anybody who is in its training videos.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import cv2
import held_out
import numpy as np
import numpy.typing as npt

from data_builders import h264
from data_builders.command_line import DONE, Parser, run
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


class Row(NamedTuple):
    """What was done to the videos, and what the check makes of it.

    Attributes:
      name: What was done.
      found: How many were found.
      wrong: How many pairs are of two people.
      bits: The fewest and the most bits of a crop's hash that differ from training: from the same
        crop, and for other people from the nearest one.
    """

    name: str
    found: int
    wrong: int
    bits: tuple[int, int]


def measure(people: int, times: int) -> list[Row]:
    """Measures crops of one size: training shows the first half of the people.

    Args:
      people: Number of people.
      times: How many times as wide as it was rendered a film is before it is encoded.
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
        wrong = sum(tested != trained for tested, trained in pairs)
        bits = np.bitwise_count(test.hashes[:, None] ^ training.hashes)
        of_crop = bits.min(1) if "other people" in name else bits.diagonal()
        rows.append(Row(name, len(found), wrong, (int(of_crop.min()), int(of_crop.max()))))
    return rows


def strangers(data_dir: str) -> str:
    """Looks for the test videos of `synthetic_faces/sweep` in its training split."""
    splits = ("test", "train")
    dataset = held_out.opened("synthetic_faces/sweep", data_dir, splits)
    start = time.process_time()
    test, training = (fingerprints.Fingerprints(dataset, split) for split in splits)
    taken = len({match.test for match in leakage.search(test, training)})
    seconds = time.process_time() - start
    counts = f"{taken} of {len(test.videos)} test videos", f"{len(training.videos)} training videos"
    return f"{counts[0]} were taken for one of {counts[1]}; {seconds:.0f} s of computing"


def _job(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="python benchmarks/leaked_videos.py", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--people", type=int, default=60, help="half of them are in training")
    parser.add_argument("--built", metavar="DATA_DIR", help="where synthetic_faces/sweep is")
    args = parser.parse_args(argv)
    if args.people < 2:
        parser.error(f"--people: is {args.people}, must be at least 2")
    if args.built:
        print(strangers(args.built))
        return DONE
    measured = {size: measure(args.people, times) for size, times in (("140 px", 2), ("70 px", 1))}
    print(f"{'videos':32}" + "".join(f"{f'found, {s}':>15}{'bits':>9}" for s in measured), end="")
    print(f"{'wrong pairs':>13}")
    for rows in zip(*measured.values(), strict=True):
        cells = "".join(f"{r.found:15}{f'{r.bits[0]}-{r.bits[1]}':>9}" for r in rows)
        print(f"{rows[0].name:32}{cells}{sum(row.wrong for row in rows):13}")
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
