"""What is fuzzed: which inputs are made, and what reads them.

Every reader keeps one promise: it gives a result, or raises one `UserError` of one printable line,
and it does so within a bound of time and memory.
"""

import time
import warnings

import numpy as np

from data_builders import faces, h264, images, staging
from data_builders.deepfakebench import reader as deepfakebench
from data_builders.errors import UserError
from data_builders.manifest import reader as manifest
from qad_jax import configs
from qad_jax.detection import quality
from qad_jax.detection.codec_numbers import codec_numbers
from qad_jax.evaluation import calibration, formats, matrix_rows, scores
from qad_jax.evaluation.robustness_curves import read as read_robustness
from qad_jax.weights import array_pickle, pretrained, state_dicts, torch_file
from tests import fuzz_inputs as inputs
from tests import fuzz_shared
from tests.fuzz_inputs import mutated, text_of_json

#: Who takes longer hangs: a bound of time is part of the promise. All inputs are small and
#: take less than a second, but not on a machine that has other work.
SECONDS = 120


def check(read, data, folder):
    """Lets a target read one input.

    Args:
      read: The target's function of the input and a folder.
      data: The input.
      folder: A folder for files.

    Raises:
      AssertionError: The promise is broken; or whatever else the reader raises.
    """
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(data, folder)
    except UserError as error:
        line = str(error)
        assert line.isprintable(), ascii(line)
        assert 0 < len(line) < 21_000
    assert time.perf_counter() - start < SECONDS


def _file(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


def _read_listed(data, folder):
    labels = _file(folder, "labels.csv", b"file,label\na.mp4,0\nb.mp4,1\n")
    formats.read(_file(folder, "submission.csv", data), labels=labels)


def _read_tested(data, folder):
    tested, _, shown = data.partition(b"BESIDE")
    _file(folder, "data_dict_test.pickle", shown or array_pickle.dump(inputs.SHOWN))
    formats.read(_file(folder, "metric_dict_best.pickle", tested))


def _read_torch(data, folder):
    content = torch_file.read(folder / "a.pth", data)
    found = state_dicts.find(content.value)
    if found is None:
        state_dicts.why_none(content.value)


def _read_safetensors(data, folder):
    pretrained._tensors(_file(folder, "a.safetensors", data), data)


def _read_boxes(data, folder):
    path = _file(folder, "boxes.json", data)
    faces._read_boxes.cache_clear()
    track = faces.source("file", path=path)("a", [0, 1], [np.zeros((9, 9, 3), np.uint8)] * 2)
    assert track is None or track.boxes.shape == (2, 4)


def _read_crops(data, folder, read):
    for name in ("0.png", "1.png"):
        _file(folder, name, b"")
    read(_file(folder, "data.json", data), folder)


def _read_results(data, folder):
    path = _file(folder, "metrics.json", data)
    _file(folder, "robustness.json", data)
    matrix_rows._rows(path, "run", None, (), {})
    calibration.read(path, step=1)
    read_robustness(folder, step=1)


def _read_video(data, folder):
    path = _file(folder, "a.mp4", data)
    h264.probe(path)
    assert len({frame.shape for frame in h264.decode(path)}) == 1


def _read_quantisers(data, folder):
    made = quality.estimate([], codec_numbers(_file(folder, "a", data)))
    assert quality.RAW <= made.low <= made.crf <= made.high <= quality.WORST


def _read_staged(data, folder):
    path = next(folder.glob("*.npz"), None)
    if path is None:
        staging.staged(folder, "a", inputs.staged_clip)
        path = next(folder.glob("*.npz"))
    path.write_bytes(data)
    ((key, example),) = staging.staged(folder, "a", inputs.staged_clip).examples
    assert key == "m/v/0"
    assert example["image"] == {"raw": b"png"}


#: For each target: how inputs are made, and what reads one.
TARGETS = {
    "torch": (inputs.torch_inputs, _read_torch),
    "safetensors": (
        lambda: mutated([inputs.SAFE], [b'"F8_E4M3"', b"[" * 300, b'"shape"']),
        _read_safetensors,
    ),
    "scores": (
        inputs.score_rows,
        lambda data, folder: scores.read(_file(folder, "scores.csv", data)),
    ),
    "submission": (
        lambda: mutated([inputs.SUBMISSION], [b";", b'"', b"\r", b"fusion", b"\\"]),
        _read_listed,
    ),
    "tested": (inputs.tested, _read_tested),
    "boxes": (
        lambda: text_of_json({"a": {"0": [1, 2, 3, 4], "7": [1.5, 2, 3, 4]}, "b": {}}, ["a", "0"]),
        _read_boxes,
    ),
    "manifest": (
        lambda: text_of_json(inputs.MANIFEST, inputs.WORDS),
        lambda data, folder: _read_crops(data, folder, lambda path, _: manifest.read(path)),
    ),
    "deepfakebench": (
        lambda: text_of_json(inputs.BENCH, [*inputs.WORDS, "frames", "FF-real", "c23"]),
        lambda data, folder: _read_crops(data, folder, deepfakebench.read),
    ),
    "results": (
        lambda: text_of_json(inputs.RESULTS, ["step", "qualities", "raw", "frame", "auc"]),
        _read_results,
    ),
    "configuration": (
        lambda: text_of_json(
            configs.to_dict(configs.load("common")), ["model", "awp", "gamma", "qualities"]
        ),
        lambda data, folder: configs.stored(_file(folder, "config.json", data)),
    ),
    "staged": (lambda: mutated([staging._content(inputs.staged_clip())]), _read_staged),
    "video": (inputs.videos, _read_video),
    "quantisers": (lambda: inputs.videos() | inputs.pictures(), _read_quantisers),
    "image": (
        inputs.pictures,
        lambda data, folder: images.read_image(_file(folder, "a.png", data)),
    ),
    **fuzz_shared.TARGETS,
}
