"""Lists of images, and images, that were made to take memory or time, or that are none."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from data_builders import images
from data_builders.deepfakebench import reader as deepfakebench
from data_builders.manifest import reader
from tests.fuzz_inputs import BENCH, MANIFEST
from tests.test_hostile_files import refused, written

_TWO = {"raw": ["0.png", "1.png"], "labels": [0, 1]}
DEEP = json.loads("[" * 900 + "]" * 900)


def changed(name, value):
    return {"train": {**MANIFEST["train"], name: value}}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 100_000, "not valid JSON: its values lie too deep"),
        ('{"train": {"raw": ["\\ud800"], "labels": [0]}}', "does not exist"),
        (changed("labels", None), "has no list 'labels'"),
        (changed("labels", [DEEP, 0]), r"train.labels\[0\] is \[\["),
        (changed("raw", [DEEP, 0]), r"train.raw\[0\] is \[\[.*, not a path"),
        (
            {"train": {**_TWO, "video": [DEEP, 0]}},
            r"train.video\[0\] is \[\[.*; must be text or a number",
        ),
        (changed("raw", ["9" * 5000, "0.png"]), "does not exist"),
        (changed("raw", ["a\0", "0.png"]), "does not exist"),
        (changed("a\n\x1b[2J", 3), r"train.a \\x1b\[2J is not a list"),
        (changed("a\x1b[2J", ["0.png"] * 2), r"'a\\x1b\[2J' is no name of a quality, which has 1"),
        (changed("\ud800", ["0.png"] * 2), r"'\\ud800' is no name of a quality"),
        (changed("", ["0.png"] * 2), "'' is no name of a quality"),
        (changed("q" * 101, ["0.png"] * 2), r"'q+\.\.\.q+' is no name of a quality"),
    ],
)
def test_a_manifest(tmp_path, content, reason):
    for name in ("0.png", "1.png"):
        written(tmp_path, b"", name)
    text = content if isinstance(content, str) else json.dumps(content)
    refused(reader.read, written(tmp_path, text.encode(), "data.json"), reason)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "not valid JSON: its values lie too deep"),
        (json.dumps(BENCH).replace('["0.png"]', "null"), "frames must be a list"),
        (json.dumps(BENCH).replace("000", "\\ud800"), "not a JSON file of DeepfakeBench"),
        (json.dumps(BENCH).replace("0.png", "9" * 5000), "no crop that it lists"),
        (json.dumps(BENCH).replace("c23", "c" + "9" * 5000), "is no name of a quality"),
        (json.dumps(BENCH).replace("c23", "c" + "9" * 99), "no crop that it lists"),
        (json.dumps(BENCH).replace("c23", "\\ud800"), "is no name of a quality"),
        (json.dumps(BENCH).replace("c23", ""), "is no name of a quality"),
    ],
)
def test_a_listing_of_deepfakebench(tmp_path, text, reason):
    path = written(tmp_path, text.encode(), "data.json")
    refused(lambda p: deepfakebench.read(p, tmp_path), path, reason)


def test_an_image_of_a_format_that_is_a_program(tmp_path):
    """Pillow gives PostScript to another program, and reads it as an image."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(file, "EPS")
    Image.open(io.BytesIO(file.getvalue()))
    refused(images.read_image, written(tmp_path, file.getvalue(), "a.png"), "not a readable image")


def test_a_jpeg_that_is_decoded_again_and_again(tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    assert images.read_image(written(tmp_path, data, "a.jpg")).shape == (64, 64, 3)
    last = data.rindex(b"\xff\xda")
    many = data[:last] + data[last:-2] * 200 + data[-2:]
    refused(images.read_image, written(tmp_path, many, "b.jpg"), "scans, more than 100")


def test_a_png_whose_pixels_claim_gigabytes(tmp_path):
    """Pillow asks for as many bytes as a chunk is said to have left."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(file, "PNG")
    data = file.getvalue()
    at = data.index(b"IDAT") - 4
    long = data[:at] + (2**31 - 1).to_bytes(4, "big") + data[at + 4 :]
    refused(images.read_image, written(tmp_path, long, "a.png"), "it is cut short")
    behind = written(tmp_path, data + b"what an editor has left", "b.png")
    assert images.read_image(behind).shape == (9, 9, 3)
