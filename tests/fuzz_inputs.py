"""How inputs for the fuzzed readers are made: of samples that are whole, and of nothing."""

import functools
import io
import json

import av
import cv2
import numpy as np
from hypothesis import strategies as st
from safetensors import numpy as safetensors

from data_builders import h264
from data_builders.records import FinishedClip
from qad_jax.weights import array_pickle
from tests import torch_files
from tests.torch_files import Call, Global

_NUMBERS = [0, 1, 2, 7, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]


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


def torch_inputs():
    content = {"state_dict": _state(), "epoch": 3, "path": Call(Global("pathlib", "Path"), "a")}
    forms = [torch_files.zipped, torch_files.legacy]
    programs = st.lists(st.sampled_from(_OPERATIONS), max_size=40).map(b"".join)
    soup = st.builds(_wrapped, programs, st.booleans())
    return mutated([form(content) for form in forms], _OPERATIONS) | soup


def _wrapped(program, as_zip):
    """A program behind values that a file of torch begins with."""
    whole = b"\x80\x02}q\x00X\x01\0\0\0wq\x01K\x02\x85q\x02" + program + b"."
    return (torch_files.zipped_pickle if as_zip else torch_files.legacy_pickle)(whole)


def score_rows():
    """Tables of scores with damage, and of cells that are odd."""
    cells = ["a", "v", "0", "1", "0.5", "0,5", "nan", "", "1e999", "9" * 5000, "real", '"', "\0"]
    cells += ["=1", "-1", "2**3", "\uff11", "\ud7ff", "a\nb", "\x1b[2J", "1_0", "inf", "9" * 30]
    row = st.lists(st.sampled_from(cells), min_size=4, max_size=7)
    heads = ["method", "video", "frame", "label", "score", "identity", "quality"]
    head = st.permutations(heads).map(lambda names: names[:6]) | st.just(heads)
    table = st.tuples(head, st.lists(row, max_size=5), st.sampled_from([",", ";", "\t"]))
    made = table.map(lambda t: "\n".join(t[2].join(cells) for cells in [t[0], *t[1]]).encode())
    return made | mutated([CSV], [b",", b";", b'"', b"\r", b"sep=;\n"])


def tested():
    """The two files of a test in DeepfakeBench, in one."""
    return mutated([b"BESIDE".join(map(array_pickle.dump, (TESTED, SHOWN)))], [b"b", b"i2"])


CSV = b"method,video,frame,label,score,quality\na,b,0,1,0.5,raw\na,c,1,0,0.25,raw\n"
SUBMISSION = b"filename,label\na.mp4,0.5\nb.mp4,0.25\n"
TESTED = {"acc": 0.5, "pred": np.array([0.5, 0.25]), "label": np.array([1, 0])}
SHOWN = {"image": ["M/c23/frames/a/0.png", "R/c23/frames/b/1.png"], "label": [1, 0]}
MANIFEST = {
    "train": {"raw": ["0.png", "1.png"], "c40": ["1.png", "0.png"], "labels": [0, 1]},
    "test": {"raw": ["0.png"], "c40": ["0.png"], "labels": ["fake"], "video": ["v"]},
}
BENCH = {"FF": {"FF-real": {"train": {"c23": {"000": {"label": "FF-real", "frames": ["0.png"]}}}}}}
_NUMBER = {"auc": 0.5, "auc_low": None, "auc_high": 1.0}
RESULT = {"frames": 2, "videos": 1, "frame": _NUMBER, "video": _NUMBER}
RESULTS = {"step": 1, "dataset": "d", "split": "test", "qualities": {"raw": RESULT}}


@functools.cache
def frames():
    shift = [np.roll(np.arange(48 * 32 * 3, dtype=np.uint8), 9 * i) for i in range(6)]
    return [cv2.GaussianBlur(frame.reshape(48, 32, 3), (5, 5), 0) for frame in shift]


def videos():
    whole = [h264.encode(frames(), crf=30)]
    for form, options in (
        ("mp4", {"movflags": "frag_keyframe+empty_moov"}),
        *((form, {}) for form in ("matroska", "avi", "mpegts", "h264")),
    ):
        file = io.BytesIO()
        with av.open(file, "w", format=form, options=options) as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width = frames()[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.options = {"threads": "1", "preset": "ultrafast"}
            for frame in frames():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        whole.append(file.getvalue())
    boxes = [b"moov", b"trak", b"stsz", b"elst", b"moof", b"trun", b"cmov", b"stsd", b"hev1"]
    return mutated(whole, boxes)


def pictures():
    frame = frames()[0]
    made = [
        cv2.imencode(f".{kind}", frame)[1].tobytes()
        for kind in ("png", "jpg", "bmp", "webp", "tiff")
    ]
    chunks = [b"IHDR", b"IDAT", b"IEND", b"zTXt", b"acTL", b"fdAT", b"\xff\xda", b"\xff\xc2"]
    return mutated(made, [*chunks, b"%!PS-Adobe-3.0 EPSF-3.0\n"])


def staged_clip():
    image = {"raw": b"png"}
    values = {"label": "real", "method": "m", "video": "v", "identity": "i", "frame": 0}
    examples = [("m/v/0", {"image": image, **values, "box": np.zeros(4, np.float32)})]
    return FinishedClip("m/v", examples, {"faces": 2})


SAFE = safetensors.save({"fc.bias": np.ones(2), "a": np.ones((2, 3))}, {"model": "x"})
WORDS = [*MANIFEST, "raw", "labels", "video", "method", "../0.png", "a\nb", "\x1b[2J", "0"]
