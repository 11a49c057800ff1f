"""What is fuzzed: how inputs are made, and what reads them.

Every reader keeps one promise: it gives a result, or raises one `UserError` of one printable line,
and it does so within a bound of time and memory.
"""

import functools
import io
import json
import time
import warnings

import av
import cv2
import numpy as np
from hypothesis import strategies as st
from safetensors import numpy as safetensors

from data_builders import faces, h264, images, staging
from data_builders.deepfakebench import reader as deepfakebench
from data_builders.errors import UserError
from data_builders.manifest import reader as manifest
from data_builders.records import FinishedClip
from qad_jax import configs
from qad_jax.detection import quality
from qad_jax.detection.codec_numbers import codec_numbers
from qad_jax.evaluation import calibration, formats, matrix_rows, scores
from qad_jax.evaluation.robustness_curves import read as read_robustness
from qad_jax.weights import array_pickle, pretrained, state_dicts, torch_file
from tests import torch_files
from tests.torch_files import Call, Global

SECONDS = 10  # for one input: all of them are small
_NUMBERS = [0, 1, 2, 7, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]


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


# How inputs are made.


def mutated(samples, tokens=()):
    """Samples with some bytes changed, moved, repeated, or cut off, and with tokens put in."""
    integers = st.sampled_from(_NUMBERS)
    edit = st.one_of(
        st.tuples(st.just("byte"), st.integers(0, 255)),
        st.tuples(st.just("big"), integers),
        st.tuples(st.just("little"), integers),
        st.tuples(st.sampled_from(["delete", "repeat", "zero"]), st.integers(1, 64)),
        st.tuples(st.just("cut"), st.none()),
        st.tuples(st.just("token"), st.sampled_from([b"\0", b"\n", *tokens])),
    )
    edits = st.lists(st.tuples(st.integers(0, 2**20 - 1), edit), max_size=6)
    return st.builds(_edited, st.sampled_from(samples), edits)


def _edited(data, edits):
    for position, (kind, value) in edits:
        place = position * len(data) >> 20
        head, tail = data[:place], data[place:]
        if kind == "byte":
            data = head + bytes([value]) + tail[1:]
        elif kind in ("big", "little"):
            width = 4 if value < 2**32 and position % 2 else 8
            data = head + value.to_bytes(8, kind)[-width:] + tail[width:]
        elif kind == "delete":
            data = head + tail[value:]
        elif kind == "zero":
            data = head + bytes(len(tail[:value])) + tail[value:]
        elif kind == "repeat":
            data = head + tail[:value] * 5 + tail
        elif kind == "cut":
            data = head
        else:
            data = head + value + tail
    return data


def values(words):
    """JSON values, whose texts and names are often one of the words."""
    texts = st.sampled_from(words) | st.text(max_size=4)
    plain = st.none() | st.booleans() | st.integers() | st.floats() | texts
    return st.recursive(
        plain, lambda v: st.lists(v, max_size=4) | st.dictionaries(texts, v, max_size=4)
    )


def text_of_json(sample, words):
    """The text of JSON files: like the sample, or of no known form."""

    def changed(value):
        if isinstance(value, dict):
            parts = {name: changed(part) for name, part in value.items()}
            return st.fixed_dictionaries(parts) | values(words)
        if isinstance(value, list):
            return st.tuples(*map(changed, value)).map(list) | values(words)
        return st.just(value) | st.just(value) | values(words)

    text = json.dumps(sample).encode()
    deep = st.integers(1, 100_000).map(lambda n: b"[" * n)
    made = (changed(sample) | values(words)).map(lambda value: json.dumps(value).encode())
    return made | mutated([text], [b"[", b"{", b"1e999", b"NaN", b'"\\ud800"', b"9" * 5000]) | deep


@functools.cache
def _state():
    weight = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    return {"conv1.weight": weight.transpose(0, 2, 3, 1), "fc.bias": np.ones(2, np.float64)}


_OPERATIONS = [
    *(b"(", b")", b"]", b"}", b"\x8f", b"0", b"1", b"2", b"N", b"\x88", b"t", b"\x85", b"\x86"),
    *(b"\x87", b"l", b"d", b"a", b"e", b"s", b"u", b"\x90", b"\x91", b"R", b"b", b"o", b"\x81"),
    *(b"\x92", b"Q", b"\x94", b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"h\x02", b"j\0\0\0\x10"),
    *(b"K\x02", b"J\xff\xff\xff\x7f", b"\x8a\x08" + b"\x7f" * 8, b"I01\n", b"L-7\n", b"F1e9\n"),
    *(b"U\x01a", b"X\x01\0\0\x00b", b"\x8c\x05torch", b"X\x07\0\0\0storage", b"C\x02xy"),
    *(b"ctorch\nFloatStorage\n", b"ctorch\nSize\n", b"ccollections\nOrderedDict\n", b"\x93"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"cmy\nthing\n", b"imy\nthing\n", b"Pid\n"),
    *(b"ctorch._utils\n_rebuild_parameter\n", b"ctorch._tensor\n_rebuild_from_type_v2\n"),
]


def _torch_inputs():
    content = {"state_dict": _state(), "epoch": 3, "path": Call(Global("pathlib", "Path"), "a")}
    forms = [torch_files.zipped, torch_files.legacy]
    programs = st.lists(st.sampled_from(_OPERATIONS), max_size=40).map(b"".join)
    soup = st.builds(_wrapped, programs, st.booleans())
    return mutated([form(content) for form in forms], _OPERATIONS) | soup


def _wrapped(program, as_zip):
    """A program behind values that a file of torch begins with."""
    whole = b"\x80\x02}q\x00X\x01\0\0\0wq\x01K\x02\x85q\x02" + program + b"."
    return (torch_files.zipped_pickle if as_zip else torch_files.legacy_pickle)(whole)


def _score_rows():
    cells = ["a", "v", "0", "1", "0.5", "0,5", "nan", "", "1e999", "9" * 5000, "real", '"', "\0"]
    cells += ["=1", "-1", "2**3", "\uff11", "\ud7ff", "a\nb", "\x1b[2J", "1_0", "inf", "9" * 30]
    row = st.lists(st.sampled_from(cells), min_size=4, max_size=7)
    heads = ["method", "video", "frame", "label", "score", "identity", "quality"]
    head = st.permutations(heads).map(lambda names: names[:6]) | st.just(heads)
    table = st.tuples(head, st.lists(row, max_size=5), st.sampled_from([",", ";", "\t"]))
    return table.map(lambda t: "\n".join(t[2].join(cells) for cells in [t[0], *t[1]]).encode())


_CSV = b"method,video,frame,label,score,quality\na,b,0,1,0.5,raw\na,c,1,0,0.25,raw\n"
_SUBMISSION = b"filename,label\na.mp4,0.5\nb.mp4,0.25\n"
_TESTED = {"acc": 0.5, "pred": np.array([0.5, 0.25]), "label": np.array([1, 0])}
_SHOWN = {"image": ["M/c23/frames/a/0.png", "R/c23/frames/b/1.png"], "label": [1, 0]}
_MANIFEST = {
    "train": {"raw": ["0.png", "1.png"], "c40": ["1.png", "0.png"], "labels": [0, 1]},
    "test": {"raw": ["0.png"], "c40": ["0.png"], "labels": ["fake"], "video": ["v"]},
}
_BENCH = {"FF": {"FF-real": {"train": {"c23": {"000": {"label": "FF-real", "frames": ["0.png"]}}}}}}
_NUMBER = {"auc": 0.5, "auc_low": None, "auc_high": 1.0}
_RESULT = {"frames": 2, "videos": 1, "frame": _NUMBER, "video": _NUMBER}
_RESULTS = {"step": 1, "dataset": "d", "split": "test", "qualities": {"raw": _RESULT}}


@functools.cache
def _frames():
    shift = [np.roll(np.arange(48 * 32 * 3, dtype=np.uint8), 9 * i) for i in range(6)]
    return [cv2.GaussianBlur(frame.reshape(48, 32, 3), (5, 5), 0) for frame in shift]


def _videos():
    whole = [h264.encode(_frames(), crf=30)]
    for form, options in (
        ("mp4", {"movflags": "frag_keyframe+empty_moov"}),
        *((form, {}) for form in ("matroska", "avi", "mpegts", "h264")),
    ):
        file = io.BytesIO()
        with av.open(file, "w", format=form, options=options) as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width = _frames()[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.options = {"threads": "1", "preset": "ultrafast"}
            for frame in _frames():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        whole.append(file.getvalue())
    boxes = [b"moov", b"trak", b"stsz", b"elst", b"moof", b"trun", b"cmov", b"stsd", b"hev1"]
    return mutated(whole, boxes)


def _pictures():
    frame = _frames()[0]
    made = [
        cv2.imencode(f".{kind}", frame)[1].tobytes()
        for kind in ("png", "jpg", "bmp", "webp", "tiff")
    ]
    chunks = [b"IHDR", b"IDAT", b"IEND", b"zTXt", b"acTL", b"fdAT", b"\xff\xda", b"\xff\xc2"]
    return mutated(made, [*chunks, b"%!PS-Adobe-3.0 EPSF-3.0\n"])


def _staged_clip():
    image = {"raw": b"png"}
    values = {"label": "real", "method": "m", "video": "v", "identity": "i", "frame": 0}
    examples = [("m/v/0", {"image": image, **values, "box": np.zeros(4, np.float32)})]
    return FinishedClip("m/v", examples, {"faces": 2})


# What reads them.


def _file(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


def _read_listed(data, folder):
    labels = _file(folder, "labels.csv", b"file,label\na.mp4,0\nb.mp4,1\n")
    formats.read(_file(folder, "submission.csv", data), labels=labels)


def _read_tested(data, folder):
    tested, _, shown = data.partition(b"BESIDE")
    _file(folder, "data_dict_test.pickle", shown or array_pickle.dump(_SHOWN))
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
        staging.staged(folder, "a", _staged_clip)
        path = next(folder.glob("*.npz"))
    path.write_bytes(data)
    ((key, example),) = staging.staged(folder, "a", _staged_clip).examples
    assert key == "m/v/0"
    assert example["image"] == {"raw": b"png"}


_SAFE = safetensors.save({"fc.bias": np.ones(2), "a": np.ones((2, 3))}, {"model": "x"})
_WORDS = [*_MANIFEST, "raw", "labels", "video", "method", "../0.png", "a\nb", "\x1b[2J", "0"]

#: For each target: how inputs are made, and what reads one.
TARGETS = {
    "torch": (_torch_inputs, _read_torch),
    "safetensors": (
        lambda: mutated([_SAFE], [b'"F8_E4M3"', b"[" * 300, b'"shape"']),
        _read_safetensors,
    ),
    "scores": (
        lambda: mutated([_CSV], [b",", b";", b'"', b"\r", b"sep=;\n"]) | _score_rows(),
        lambda data, folder: scores.read(_file(folder, "scores.csv", data)),
    ),
    "submission": (
        lambda: mutated([_SUBMISSION], [b";", b'"', b"\r", b"fusion", b"\\"]),
        _read_listed,
    ),
    "tested": (
        lambda: mutated([b"BESIDE".join(map(array_pickle.dump, (_TESTED, _SHOWN)))], [b"b", b"i2"]),
        _read_tested,
    ),
    "boxes": (
        lambda: text_of_json({"a": {"0": [1, 2, 3, 4], "7": [1.5, 2, 3, 4]}, "b": {}}, ["a", "0"]),
        _read_boxes,
    ),
    "manifest": (
        lambda: text_of_json(_MANIFEST, _WORDS),
        lambda data, folder: _read_crops(data, folder, lambda path, _: manifest.read(path)),
    ),
    "deepfakebench": (
        lambda: text_of_json(_BENCH, [*_WORDS, "frames", "FF-real", "c23"]),
        lambda data, folder: _read_crops(data, folder, deepfakebench.read),
    ),
    "results": (
        lambda: text_of_json(_RESULTS, ["step", "qualities", "raw", "frame", "auc"]),
        _read_results,
    ),
    "configuration": (
        lambda: text_of_json(
            configs.to_dict(configs.load("common")), ["model", "awp", "gamma", "qualities"]
        ),
        lambda data, folder: configs.stored(_file(folder, "config.json", data)),
    ),
    "staged": (lambda: mutated([staging._content(_staged_clip())]), _read_staged),
    "video": (_videos, _read_video),
    "quantisers": (lambda: _videos() | _pictures(), _read_quantisers),
    "image": (
        _pictures,
        lambda data, folder: images.read_image(_file(folder, "a.png", data)),
    ),
}
