"""Which harmless changes of a real face does a detector take for a fake?

python benchmarks/harmless_changes.py FACES [--models MODEL.safetensors ...] [--sheet SHEET.png]

Each photograph of the test split is shown with closed eyes, with words or things over the face, and
as old cameras, screens and bad light show it: what people send, and what portraits hardly ever
show. Nothing of it makes a face a fake. Prints for each change the mean score, and how many of the
real faces lie above the threshold from which a clip is called fake.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import photographs
import thresholds
from measured import new_file

from data_builders import compression, faces
from data_builders.command_line import DONE, Parser, run
from data_builders.files import write_whole
from data_builders.records import Image
from data_builders.self_blended import expression
from data_builders.self_blended.builder import SelfBlended
from data_builders.self_blended.face import Face
from data_builders.self_blended.stills import read_stills
from qad_jax import cpu
from qad_jax.detection.detector import Detector
from qad_jax.weights import model_file

CRFS = {"c23": 23, "c40": 40}
FRAMES, KEPT = 12, 6  # encoded, and the one that is judged

Points = Sequence[tuple[float, float]]
Colour = tuple[float, float, float]


def _at(face: Face, point: tuple[float, float]) -> tuple[int, int]:
    """The pixel of a place in the coordinates of the face, see `Face.coordinates`."""
    matrix = face.coordinates()
    x, y = np.linalg.solve(matrix[:, :2], np.array(point) - matrix[:, 2])
    return round(x), round(y)


def _painted(image: Image, face: Face, outline: Points, colour: Colour) -> Image:
    """The image with one colour inside of an outline."""
    inside = np.zeros(image.shape[:2], np.uint8)
    pixels = np.array([_at(face, point) for point in outline], np.int32)
    cv2.fillPoly(inside, [pixels], 255, cv2.LINE_AA)
    weight = inside[..., None] / 255
    return np.asarray(np.rint(image * (1 - weight) + np.array(colour) * weight), np.uint8)


def _oval(middle: tuple[float, float], wide: float, high: float) -> Points:
    angles = np.linspace(0, 2 * np.pi, 40)
    return [(middle[0] + wide * np.cos(a), middle[1] + high * np.sin(a)) for a in angles]


def eyes(closed: float) -> Callable[[Image, Face], Image]:
    """Closes the eyes by a share."""
    lids = expression.Lids(closed, closed)
    return lambda image, face: expression.shown(image, face, lids)


def caption(image: Image, face: Face) -> Image:
    """White words with a black outline over the mouth."""
    shown, size, place = image.copy(), face.size / 200, _at(face, (-1.0, 1.1))
    for colour, width in ((0, 5), (255, 2)):
        thick = max(1, round(width * size))
        cv2.putText(
            shown, "BREAKING NEWS", place, cv2.FONT_HERSHEY_DUPLEX, 0.9 * size, (colour,) * 3, thick
        )
    return shown


def watermark(image: Image, face: Face) -> Image:
    """A translucent name over the nose."""
    shown, size = image.copy(), face.size / 200
    cv2.putText(
        shown,
        "@channel",
        _at(face, (-0.9, 0.4)),
        cv2.FONT_HERSHEY_SIMPLEX,
        1.2 * size,
        (255, 255, 255),
        max(1, round(3 * size)),
    )
    return np.asarray(cv2.addWeighted(shown, 0.5, image, 0.5, 0), np.uint8)


def mask(image: Image, face: Face) -> Image:
    """A cloth over nose, mouth and chin."""
    half = ((0.0, 0.3), (0.95, 0.35), (0.8, 1.3), (0.3, 1.75))
    outline = [*half, *((-x, y) for x, y in half[:0:-1])]
    return _painted(image, face, outline, (170, 200, 220))


def sunglasses(image: Image, face: Face) -> Image:
    """Black glasses."""
    bridge = ((-0.15, -0.05), (0.15, -0.05), (0.15, 0.03), (-0.15, 0.03))
    for part in (_oval((-0.5, 0.03), 0.4, 0.3), _oval((0.5, 0.03), 0.4, 0.3), bridge):
        image = _painted(image, face, part, (15, 15, 18))
    return image


def microphone(image: Image, face: Face) -> Image:
    """A microphone before the chin."""
    image = _painted(image, face, _oval((0.3, 1.45), 0.22, 0.3), (25, 25, 28))
    return _painted(image, face, ((0.2, 1.7), (0.4, 1.7), (0.5, 2.6), (0.3, 2.6)), (60, 60, 60))


def interlaced(image: Image, face: Face) -> Image:
    """Every other line is of a moment later, as of an old camera."""
    shown = image.copy()
    shown[1::2] = np.roll(image, max(2, round(0.02 * face.size)), axis=1)[1::2]
    return shown


def filmed_screen(image: Image, face: Face) -> Image:
    """The fine waves of a screen that was filmed."""
    del face
    rows, columns = np.indices(image.shape[:2])
    waves = 0.08 * np.sin(rows * 2 * np.pi / 2.7)
    waves += 0.08 * np.sin((columns + 0.1 * rows) * 2 * np.pi / 3.1)
    return np.asarray(np.clip(image * (1 + waves[..., None]), 0, 255), np.uint8)


def half_in_shadow(image: Image, face: Face) -> Image:
    """One side of the face gets less than half of the light."""
    across = face.coordinates()[0]
    rows, columns = np.indices(image.shape[:2])
    u = across[0] * columns + across[1] * rows + across[2]
    return np.asarray(image * (1 - 0.55 / (1 + np.exp(-12 * u)))[..., None], np.uint8)


def dark(image: Image, face: Face) -> Image:
    """A quarter of the light."""
    del face
    return np.asarray(image // 4, np.uint8)


def grey(image: Image, face: Face) -> Image:
    """Black and white."""
    del face
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


CHANGES: dict[str, Callable[[Image, Face], Image]] = {
    "as it is": lambda image, face: image,
    "eyes half closed": eyes(0.5),
    "eyes nearly closed": eyes(0.75),
    "eyes closed": eyes(1.0),
    "caption": caption,
    "watermark": watermark,
    "mask": mask,
    "sunglasses": sunglasses,
    "microphone": microphone,
    "interlaced": interlaced,
    "filmed screen": filmed_screen,
    "half in shadow": half_in_shadow,
    "dark": dark,
    "black and white": grey,
}


def crops_of(path: Path) -> dict[tuple[str, str], Image]:
    """The crop of a photograph after each change, at each quality."""
    (image, *_), (face, *_), _ = read_stills(path, 1, 0.5)
    height, width = (side // 2 * 2 for side in image.shape[:2])  # as a codec needs them
    image = image[:height, :width]
    box = faces.square_box(face.box, (height, width))
    crops = {}
    for name, change in CHANGES.items():
        shown = change(image, face)
        crops[name, "raw"] = faces.crop(shown, box)
        encoded = compression.compressed([shown] * FRAMES, CRFS.values(), [KEPT])
        crops |= {(name, q): faces.crop(encoded[crf][0], box) for q, crf in CRFS.items()}
    return crops


def sheet(crops: Sequence[dict[tuple[str, str], Image]]) -> Image:
    """A row of each photograph after each change."""
    rows = [
        np.concatenate([cv2.resize(of[name, "raw"], (128, 128)) for name in CHANGES], axis=1)
        for of in crops
    ]
    return np.concatenate(rows)


def picture(path: str) -> Path:
    """The `type` of an option that names a picture to write, see `new_file`."""
    file = new_file(path)
    if not cv2.haveImageWriter(file.name):
        raise argparse.ArgumentTypeError(f"{path}: no picture can be written with such an ending")
    return file


def _job(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="python benchmarks/harmless_changes.py", description=__doc__.splitlines()[0]
    )
    parser.add_argument("faces", type=Path, help="a folder as self_blended takes it")
    parser.add_argument("--models", type=Path, nargs="+", default=[model_file.SHIPPED])
    parser.add_argument("--sheet", type=picture, help="a picture of the changes to write")
    args = parser.parse_args(argv)
    cpu.tune()
    files = SelfBlended.find(args.faces).splits["test"]
    detectors = [Detector.from_pretrained(path) for path in args.models]
    bounds = [thresholds.of(one.model.description, ("raw", *CRFS)) for one in detectors]
    scores: dict[tuple[int, str, str], list[float]] = {}
    first: list[dict[tuple[str, str], Image]] = []
    for _, crops in photographs.used(files, lambda listed: crops_of(listed.best), "judged"):
        first += [crops] * (len(first) < 3)
        for number, detector in enumerate(detectors):
            found = detector.scores(list(crops.values()))
            for key, score in zip(crops, found, strict=True):
                scores.setdefault((number, *key), []).append(float(score))
    if args.sheet is not None:
        _, data = cv2.imencode(args.sheet.suffix, sheet(first)[..., ::-1])
        write_whole(args.sheet, data.tobytes())
    for number, detector in enumerate(detectors):
        of = detector.model.description
        print(f"\n| {of.name} {of.version} | {' | '.join(bounds[number])} |")
        print("|---" * (len(CRFS) + 2) + "|")
        for name in CHANGES:
            cells = []
            for quality, of_quality in bounds[number].items():
                values = np.array(scores[number, name, quality])
                above = np.mean(values > of_quality.upper)
                cells.append(f"{values.mean():.2f}, {100 * above:.1f} %")
            print(f"| {name} | {' | '.join(cells)} |")
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
