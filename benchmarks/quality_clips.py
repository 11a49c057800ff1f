"""The clips of `benchmarks/quality.py`: faces filmed, encoded in many ways, and the CRF of each.

The true CRF of a file of x264's default preset is the one that it was encoded at. That of any
other file is the CRF at which this preset changes the luminance of the crops as much: the mean
squared difference from what was filmed, between those of the CRFs that were tried on the same clip.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

from data_builders import faces, h264
from data_builders.images import read_image
from data_builders.records import Image
from data_builders.self_blended import footage
from data_builders.self_blended.face import Face
from data_builders.self_blended.stills import NoFaceError
from qad_jax.detection.codec_numbers import CodecNumbers, codec_numbers
from qad_jax.detection.pixel_features import pixel_features
from qad_jax.detection.quality import RAW, WORST

FRAMES, KEPT = 16, (3, 8, 13)
TESTED_CRFS = (13, 18, 23, 28, 33, 37, 40, 43, 48)
_TESTED_TWICE = ((40, 20), (28, 18), (23, 40))
_TESTED_JPEG = (95, 85, 70, 50, 30, 15)
_OTHER_H264 = ("abr", "baseline", "ultrafast", "veryfast", "slow")
_OTHER_CODECS = ("vp9", "hevc", "mpeg4")


@dataclasses.dataclass(frozen=True)
class Row:
    """One file.

    Attributes:
      kind: How it was made.
      detail: With which setting.
      crf: The true CRF.
      features: `(crops, k)`, from `pixel_features`.
      numbers: What its codec says; None for frames that were never encoded.
    """

    kind: str
    detail: str
    crf: float
    features: npt.NDArray[np.float64]
    numbers: CodecNumbers | None


class _Clip:
    """The filmed frames, and from a loss of pixels in them to a CRF."""

    def __init__(self, frames: list[Image], boxes: Sequence[Any]) -> None:
        self.frames, self._boxes = frames, boxes
        self._clean = _luminance(self.crops(frames))
        self._marks: list[tuple[float, float]] = []

    def crops(self, frames: Sequence[Image]) -> list[Image]:
        return [faces.crop(frames[i], box) for i, box in zip(KEPT, self._boxes, strict=True)]

    def _loss(self, crops: Sequence[Image]) -> float:
        pairs = zip(_luminance(crops), self._clean, strict=True)
        return float(np.log(max(1e-6, np.mean([np.mean((a - b) ** 2) for a, b in pairs]))))

    def at(self, crf: int, kind: str) -> tuple[Row, list[Image]]:
        """The file at a CRF, whose loss is a mark of the scale; and its frames."""
        file = h264.encode(self.frames, crf=crf)
        decoded = list(h264.decode(file))
        crops = self.crops(decoded)
        self._marks = sorted([*self._marks, (crf, self._loss(crops))])
        return Row(kind, str(crf), crf, pixel_features(crops), codec_numbers(file)), decoded

    def row(self, kind: str, detail: str, crops: list[Image], file: bytes) -> Row:
        """Another file, whose CRF is read off the scale."""
        crf = self._crf(self._loss(crops))
        return Row(kind, detail, crf, pixel_features(crops), codec_numbers(file))

    def video(self, kind: str, detail: str, file: bytes) -> Row:
        return self.row(kind, detail, self.crops(list(h264.decode(file))), file)

    def _crf(self, loss: float) -> float:
        crfs, losses = np.array(self._marks).T
        losses = np.maximum.accumulate(losses)
        if losses[0] <= loss <= losses[-1]:
            return float(np.interp(loss, losses, crfs))
        # Beyond the marks, on the line through the last two.
        near, far = (0, 1) if loss < losses[0] else (-1, -2)
        slope = abs(crfs[far] - crfs[near]) / max(abs(losses[far] - losses[near]), 0.05)
        return float(np.clip(crfs[near] + slope * (loss - losses[near]), RAW, WORST))


def _luminance(crops: Sequence[Image]) -> list[npt.NDArray[np.float64]]:
    return [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float64) for crop in crops]


def rows(path: Path, *, tested: bool) -> Iterator[Row]:
    """Films a photograph and encodes the clip in many ways.

    Args:
      path: The photograph. All that is drawn follows from its name.
      tested: Whether the settings are those of the test instead.

    Raises:
      NoFaceError: No face was found.
    """
    rng = _random(f"quality/{path.name}")
    frames, boxes = _filmed(path, rng)
    yield from _files(_Clip(frames, boxes), rng, tested=tested)
    if tested or rng.random() < 0.5:
        yield from _platforms(frames, boxes, rng, tested=tested)
    yield from soft(path, tested=tested)


def _random(key: str) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(key.encode()).digest()[:16]))


def soft(path: Path, *, tested: bool) -> Iterator[Row]:
    """Files of a picture that lacks fine detail before any encoding, as one that was enlarged."""
    rng = _random(f"soft/{path.name}")
    image = read_image(path)
    height, width = image.shape[:2]
    middle = image[height // 5 : height * 4 // 5, width // 5 : width * 4 // 5]
    side = int(rng.integers(80, 140))
    small = cv2.resize(middle, (side, side), interpolation=cv2.INTER_AREA)
    factor, noise = float(rng.uniform(1.3, 2.5)), float(max(0.0, rng.uniform(-1, 2)))
    size = int(side * factor) // 2 * 2
    step = rng.normal(0, 0.6, 2)
    frames = []
    for moment in range(8):
        shift = np.array([[factor, 0, moment * step[0]], [0, factor, moment * step[1]]])
        frame = cv2.warpAffine(
            small, shift, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        grain = noise * rng.standard_normal(frame.shape, np.float32)
        frames.append(np.asarray(np.rint(np.clip(frame + grain, 0, 255)), np.uint8))
    yield Row("soft raw", "", RAW, pixel_features(frames[2::3]), None)
    for crf in (
        (18, 23, 28, 40) if tested else [int(12 + 13 * i + rng.integers(13)) for i in range(3)]
    ):
        file = h264.encode(frames, crf=crf)
        features = pixel_features(list(h264.decode(file))[2::3])
        yield Row("soft", str(crf), crf, features, codec_numbers(file))


def _filmed(path: Path, rng: np.random.Generator) -> tuple[list[Image], list[Any]]:
    image = read_image(path)
    found = faces.detector().detect([image])[0]
    if not len(found.boxes):
        raise NoFaceError(f"{path}: no face was found")
    largest = int(np.argmax(found.boxes[:, 2] - found.boxes[:, 0]))
    face = Face(found.boxes[largest], found.landmarks[largest])
    camera = footage.draw(image.shape[:2], face, FRAMES, rng, moves=True, degraded=0.5)
    camera = dataclasses.replace(camera, crf=0, shrink=1.0, jpeg=0)  # all encodings are known
    image = footage.aged(image, camera.past, face)
    frames, placed = footage.film(camera, [image] * FRAMES, [face] * FRAMES)
    return frames, [faces.square_box(placed[i].box, camera.size) for i in KEPT]


def _files(clip: _Clip, rng: np.random.Generator, *, tested: bool) -> Iterator[Row]:
    frames = clip.frames
    yield Row("raw", "", RAW, pixel_features(clip.crops(frames)), None)
    drawn = [int(10 + 7 * i + rng.integers(0, 7)) for i in range(0 if tested else 6)]
    decoded = {}
    for crf in sorted(drawn or TESTED_CRFS):
        row, decoded[crf] = clip.at(crf, "h264")
        yield row
    twice = [(first, int(rng.integers(14, 36))) for first in _one(drawn, rng)]
    for first, second in twice or _TESTED_TWICE:
        file = h264.encode(decoded[first], crf=second)
        yield clip.video("twice", f"{first}, {second}", file)
    for name in _OTHER_H264 if tested else _one(_OTHER_H264, rng):
        yield clip.video("other h264", name, _other_h264(name, frames, rng))
    for name in _OTHER_CODECS if tested else _one(_OTHER_CODECS, rng):
        yield clip.video(name, "", _other_codec(name, frames, rng))
    for quality in _TESTED_JPEG if tested else [int(rng.integers(10, 97))]:
        images, file = list(frames), b""
        for i in KEPT:
            file = _jpeg(frames[i], quality)
            images[i] = np.asarray(PIL.Image.open(io.BytesIO(file)))
        yield clip.row("jpeg", str(quality), clip.crops(images), file)


def _one(items: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    return [items[int(rng.integers(0, len(items)))]] if items else []


def _platforms(
    frames: list[Image], boxes: list[Any], rng: np.random.Generator, *, tested: bool
) -> Iterator[Row]:
    """Files that were encoded, made smaller and encoded again."""
    height, width = frames[0].shape[:2]
    factor = float(rng.uniform(0.45, 0.85))
    size = [max(32, int(side * factor) // 2 * 2) for side in (height, width)]
    where = faces.moved_to(np.array(boxes), (height, width), (size[0], size[1]))

    def smaller(large: Sequence[Image]) -> list[Image]:
        return [cv2.resize(f, size[::-1], interpolation=cv2.INTER_AREA) for f in large]

    clip = _Clip(smaller(frames), list(where))
    first = int(rng.integers(16, 42))
    uploaded = smaller(list(h264.decode(h264.encode(frames, crf=first))))
    for crf in (18, 23, 28, 33, 40, 46) if tested else (18, 28, 38, 48):
        yield clip.at(crf, "resized")[0]
    for crf in (20, 28) if tested else (int(rng.integers(16, 40)),):
        yield clip.video("platform", str(crf), h264.encode(uploaded, crf=crf))
    sent = list(h264.decode(h264.encode(clip.frames, crf=28)))
    yield clip.video("messenger", "", h264.encode(sent, crf=32))


def _other_h264(name: str, frames: list[Image], rng: np.random.Generator) -> bytes:
    if name == "abr":
        height, width = frames[0].shape[:2]
        bits = float(np.exp(rng.uniform(np.log(0.01), np.log(0.4))))  # a pixel
        rate = int(height * width * 25 * bits)
        return encoded(frames, "libx264", {"preset": "veryfast"}, bit_rate=rate)
    options = {"crf": str(int(rng.integers(14, 46))), "preset": name}
    if name == "baseline":
        options |= {"profile": "baseline", "preset": "ultrafast"}
    return encoded(frames, "libx264", options)


def _other_codec(name: str, frames: list[Image], rng: np.random.Generator) -> bytes:
    if name == "vp9":
        quality = str(int(rng.integers(15, 63)))
        options = {"crf": quality, "b": "0", "deadline": "realtime", "cpu-used": "7"}
        return encoded(frames, "libvpx-vp9", options)
    if name == "hevc":
        quiet = "log-level=none:pools=1:frame-threads=1"
        options = {"crf": str(int(rng.integers(16, 44))), "preset": "veryfast"}
        return encoded(frames, "libx265", {**options, "x265-params": quiet})
    quantiser = str(int(rng.integers(2, 28)))
    return encoded(frames, "mpeg4", {"qmin": quantiser, "qmax": quantiser})


def encoded(
    frames: Sequence[Image], codec: str, options: dict[str, str], bit_rate: int = 0
) -> bytes:
    """Encodes frames with any encoder, as MP4.

    Unlike `h264.encode`, two runs on a processor with AVX-512 may give slightly different files.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.pix_fmt, stream.options = "yuv420p", {"threads": "1", **options}
        stream.height, stream.width = frames[0].shape[:2]
        if bit_rate:
            stream.bit_rate = bit_rate
        for frame in frames:
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(image.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return file.getvalue()


def _jpeg(frame: Image, quality: int) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(frame).save(file, "JPEG", quality=quality)
    return file.getvalue()
