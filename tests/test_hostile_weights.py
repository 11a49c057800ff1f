"""Weights that were made to take memory or time: each is one line."""

import io
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import pytest
from safetensors import numpy as safetensors

from data_builders.errors import UserError
from qad_jax.weights import (
    pickle_machine,
    pretrained,
    state_dicts,
    torch_file,
    torch_pickle,
)
from tests.test_hostile_files import refused, written
from tests.test_models import fixture
from tests.torch_files import legacy_pickle, zipped, zipped_pickle


def shared(levels):
    """A tuple that holds the same tuple twice, and so on: 2 to the power of the levels in all."""
    steps = [b"q%ch%c\x86" % (i, i) for i in range(levels)]
    return b"\x80\x02K\x01\x85" + b"".join(steps) + b"q\xff"


LISTS = b"".join(b"]q%c(h%ch%ce" % (i + 1, i, i) for i in range(60))


def numbered(count, step):
    return b"".join(step % i.to_bytes(4, "little") for i in range(count))


@pytest.mark.parametrize("form", [zipped_pickle, legacy_pickle])
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        # A key whose hash visits each of half a million tuples, and one that would never end.
        (shared(19) + b"}h\xffNs.", "steps"),
        (shared(19) + b"0\x8f(h\xff\x90.", "steps"),
        (shared(60) + b"}h\xffNs.", "damaged"),
        # A size, and a dictionary, that are copied again and again.
        (
            b"\x80\x02ctorch\nSize\nq\0(" + b"N" * 999 + b"tq\1" + b"h\0h\1\x85R" * 99 + b".",
            "steps",
        ),
        (
            b"\x80\x02ccollections\nOrderedDict\nq\0}q\1("
            + numbered(999, b"J%bN")
            + b"u"
            + b"h\0h\1\x85R" * 99
            + b".",
            "steps",
        ),
        (b"\x80\x02" + b"]" * 60_000 + b".", "steps"),
        # Keys of which many could have one hash.
        (b"\x80\x02}(" + numbered(99, b"J%b\x85N") + b"u.", "steps"),
        # An integer with which nobody could count.
        (b"\x80\x02\x8b" + struct.pack("<L", 9999) + b"\x7f" * 9999 + b".", "damaged"),
    ],
)
def test_pickles_of_some_bytes_that_ask_for_any_amount(
    tmp_path, monkeypatch, program, reason, form
):
    monkeypatch.setattr(pickle_machine, "MOST_STEPS", 50_000)
    data = form(program)
    refused(lambda path: torch_file.read(path, data), tmp_path / "a.pth", reason)


def test_lists_of_storages_that_compare_for_ever():
    """Two lists, each of which holds another one twice, and so on."""
    doubled = b"".join(b"]q%c(h%ch%ce" % (i + 1, i, i) for i in range(60))
    program = b"\x80\x02](" + 2 * (b"]q\0" + doubled) + b"e."
    data = legacy_pickle(b"N.").removesuffix(pickle.dumps([], 2)) + program
    with pytest.raises(UserError, match="damaged"):
        torch_file.read(pathlib.Path("a.pth"), data)


def test_a_memo_of_any_number_takes_no_memory():
    program = io.BytesIO(b"\x80\x02Nr\xff\xff\xff\x7f.")
    assert torch_pickle.unpickle(program) == (None, [])


def test_names_of_many_prefixes():
    found = state_dicts.find({"module." * 100 + "w": np.ones(1)})
    assert len(found.state) == 1


KEYS = (*state_dicts._PLAIN, *state_dicts._AVERAGED)


@pytest.mark.parametrize(
    ("length", "count", "reason"), [(200_000, 1, "1000 characters"), (900, 200, "32 state dicts")]
)
def test_one_long_name_in_many_state_dicts(tmp_path, length, count, reason):
    """Each dictionary is small in the file, and would hold a copy of the name."""
    name, tensor = "module." + "x" * length, np.ones(1, np.float32)
    inner = {(first, second): {name: tensor} for first in KEYS for second in KEYS}
    content = {}
    for (first, second), state in list(inner.items())[:count]:
        content.setdefault(first, {})[second] = state
    path = written(tmp_path, zipped(content), "a.pth")
    refused(lambda p: pretrained.read(p, "resnet_tiny"), path, reason, memory=8e6)


def test_a_name_that_is_a_tuple_of_long_ones(tmp_path):
    """Its text would have a hundred megabytes."""
    content = {("x" * 100_000,) * 1000: np.ones(1, np.float32)}
    path = written(tmp_path, zipped(content), "a.pth")
    refused(lambda p: pretrained.read(p, "resnet_tiny"), path, "no state dict", memory=8e6)


def test_one_tensor_under_many_names_is_not_looked_at(tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(state_dicts, "not_finite", lambda state: looked.extend(state))
    state = fixture("resnet_tiny")["state"]
    one = np.ones(1000, np.float16)
    path = written(tmp_path, zipped(state | {f"conv1.{i}": one for i in range(500)}), "a.pth")
    refused(lambda p: pretrained.read(p, "resnet_tiny"), path, "not of this model: conv1.0")
    assert not looked
    assert pretrained.read(written(tmp_path, zipped(state), "a.pth"), "resnet_tiny").dropped is None
    assert set(looked) == set(state)


def test_an_archive_of_too_many_entries(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        for i in range(3):
            info = zipfile.ZipInfo(f"archive/data/{i}")
            info.comment = bytes(2**16 - 1)
            archive.writestr(info, b"")
    data = file.getvalue()
    assert torch_file.read(tmp_path, data).value == {}
    place = data.rindex(b"PK\x05\x06")
    many = data[:place] + bytes(5 << 20) + data[place:]
    many = many[:-10] + struct.pack("<L", 5 << 20) + many[-6:]
    refused(lambda p: torch_file.read(p, many), tmp_path / "a.pth", "damaged")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (struct.pack("<Q", 100 << 20) + b"{", "takes more than 8,388,608 bytes"),
        (b"[" * 100_000, "damaged"),
        (b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}', "damaged"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', "damaged"),
        (b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}', "damaged"),
        (
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
            b'"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            "damaged",
        ),
        (b'{"a":{"dtype":"F32","shape":[' + b"1," * 99 + b'1],"data_offsets":[0,4]}}', "damaged"),
    ],
)
def test_headers_of_safetensors(tmp_path, header, reason):
    if header[:1] != b"\0":
        header = header.replace(b"[", b"{[", 1) if header[:1] == b"[" else header
        header = struct.pack("<Q", len(header)) + header + bytes(4)
    refused(pretrained.read, written(tmp_path, header, "a.safetensors"), reason)


def test_a_number_of_any_length_in_the_metadata(tmp_path):
    state = fixture("resnet_tiny")["state"]
    path = tmp_path / "a.safetensors"
    safetensors.save_file(state, path, {pretrained._NEW_HEAD: "9" * 5000})
    assert pretrained.read(path, "resnet_tiny").dropped is None
