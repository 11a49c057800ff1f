"""Content credentials: what they say is told, nobody is asked about it, and no verdict hangs on it.

Files are signed here by the library that defines the format, with keys of this run. What a broken
or hostile reader does is tried with modules of the same name.
"""

import contextlib
import dataclasses
import io
import os
import pathlib
import shutil
import socket
import threading

import numpy as np
import PIL.Image
import pytest

from data_builders import h264
from qad_jax.detection import credentials, manifest_reader
from qad_jax.detection.credentials import Credentials
from tests.test_detection import filmed

MARK = b"jumdc2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71"


def kept(path, data):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def image(form="JPEG"):
    file = io.BytesIO()
    PIL.Image.new("RGB", (32, 32), "red").save(file, form)
    return file.getvalue()


@pytest.fixture(scope="module")
def signing():
    pytest.importorskip("c2pa", reason="the extra c2pa is not installed")
    from tests import signing

    return signing


@pytest.fixture(scope="module")
def signed(signing):
    return signing.signed(image(), "image/jpeg")


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Puts a module in the place of the library that reads credentials."""

    def put(source):
        folder = tmp_path / "modules"
        kept(folder / "c2pa.py", source.encode())
        paths = [str(folder), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))

    return put


def test_what_is_told(signed, tmp_path):
    told = credentials.read(kept(tmp_path / "a.jpg", signed))
    assert told == Credentials(
        state="valid",
        meaning=credentials.MEANINGS["valid"],
        issuer="Cameras Ltd",
        signer="Camera 7",
        time=None,  # no authority for time stamps was asked
        tool="Paint 1.2",
        generative_ai="made",
        actions=("c2pa.created", "c2pa.color_adjustments (Brush 3)"),
        problems=(),  # that the signer is on no list is the rule here, and no flaw of the file
    )
    assert "Who signed it was not checked" in told.meaning
    assert credentials.line(dataclasses.asdict(told)) == (
        f"content credentials: {told.meaning} They say that generative AI made the file. "
        "Signed in the name of Cameras Ltd."
    )


def test_other_formats(signing, tmp_path):
    webp = signing.signed(image("WEBP"), "image/webp")
    film = signing.signed(h264.encode(filmed(2, 64), crf=30), "video/mp4")
    for name, data in (("a.webp", webp), ("a.mp4", film)):
        told = credentials.read(kept(tmp_path / name, data))
        assert (told.state, told.tool) == ("valid", "Paint 1.2"), told


def test_a_file_that_was_changed(signed, tmp_path):
    changed = bytearray(signed)
    changed[-20] ^= 1  # of the pixels
    told = credentials.read(kept(tmp_path / "a.jpg", bytes(changed)))
    assert told.state == "altered"
    assert told.problems == ("assertion.dataHash.mismatch",)
    assert "do not rely on what they say" in told.meaning


def test_credentials_that_were_changed(signed, tmp_path):
    assert signed.count(b"Paint") == 1
    told = credentials.read(kept(tmp_path / "a.jpg", signed.replace(b"Paint", b"Saint")))
    assert (told.state, told.tool) == ("altered", "Saint 1.2")
    assert "claimSignature.mismatch" in told.problems


def test_a_file_that_was_cut(signed, tmp_path):
    end = signed.index(MARK) + 600
    told = credentials.read(kept(tmp_path / "a.jpg", signed[:end]))
    assert told.state == "unreadable"
    assert told.meaning.startswith("Content credentials of the file cannot be read: ")
    assert told.issuer is None


def test_a_file_without(tmp_path, monkeypatch):
    monkeypatch.setattr(credentials.subprocess, "run", None)  # nothing is started for it
    assert credentials.read(kept(tmp_path / "a.jpg", image())) is None
    assert credentials.read(kept(tmp_path / "b.jpg", b"c2pa jumb jumd" * 99)) is None
    assert credentials.line(None) == ""


def test_the_bytes_of_a_mark_are_not_yet_a_manifest(signing, tmp_path):
    data = image().replace(b"\xff\xdb", b"\xff\xfe\x00\x1a" + MARK + b"\0" * 4 + b"\xff\xdb", 1)
    assert credentials.read(kept(tmp_path / "a.jpg", data)) is None


@pytest.mark.parametrize(("before", "after"), [(0, 99), (10, 99), (44, 90), (46, 44), (300, 5)])
def test_where_a_mark_is_found(before, after, tmp_path, monkeypatch, library):
    """In the first and the last 64 bytes, whole, however long the file is."""
    library("raise ModuleNotFoundError('c2pa')")
    monkeypatch.setattr(credentials, "PART", 64)
    path = kept(tmp_path / "a", b"\0" * before + MARK + b"\0" * after)
    assert credentials.read(path).state == "not_installed"
    middle = kept(tmp_path / "b", b"\0" * 100 + MARK + b"\0" * 100)
    assert credentials.read(middle) is None


def test_without_the_extra(tmp_path, library):
    library("raise ModuleNotFoundError(\"No module named 'c2pa'\")")
    told = credentials.read(kept(tmp_path / "a.jpg", MARK))
    assert told.state == "not_installed"
    assert credentials.line(dataclasses.asdict(told)) == (
        "content credentials: The file holds content credentials; "
        "pip install 'qad-jax[c2pa]' reads them."
    )


@contextlib.contextmanager
def listening():
    """An address of this machine, and the first bytes of whatever is asked there."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        asked.append(connection.recv(100))

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/", asked
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_nobody_is_asked(signing, tmp_path):
    """The library does ask where its own settings hold, so that this test could fail."""
    import c2pa

    with listening() as (address, asked):
        remote = signing.signed(image(), "image/jpeg", remote=address)
        revocable = signing.signed(image(), "image/jpeg", revocation=address)
        with pytest.raises(c2pa.C2paError, match="remote"):
            c2pa.Reader("image/jpeg", io.BytesIO(remote))
        assert len(asked) == 1
        with c2pa.Context.from_dict({"verify": {"ocsp_fetch": True}}) as context:
            c2pa.Reader("image/jpeg", io.BytesIO(revocable), context=context).close()
        assert len(asked) == 2

        # The settings alone, without what the process of the reader is denied.
        with c2pa.Context.from_dict(manifest_reader.SETTINGS) as context:
            with pytest.raises(c2pa.C2paError, match="must fetch"):
                c2pa.Reader("image/jpeg", io.BytesIO(remote), context=context)
            c2pa.Reader("image/jpeg", io.BytesIO(revocable), context=context).close()
        told = credentials.read(kept(tmp_path / "a.jpg", revocable))
        assert told.state == "valid"
        assert credentials.read(kept(tmp_path / "b.jpg", remote)) is None
        assert len(asked) == 2


DOES = """
import contextlib, os, resource, socket

class C2paError(Exception):
    class ManifestNotFound(Exception):
        pass

class Context:
    from_dict = contextlib.nullcontext

def Reader(form, file, context):
    {deed}
"""


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("socket.socket()", "Too many open files"),
        ("open('written', 'w')", "Too many open files"),
        ("bytes(3 << 30)", "MemoryError"),
        ("raise ValueError(resource.getrlimit(resource.RLIMIT_CPU))", "(60, 60)"),
        ("os.abort()", "their reader ended before it was done"),
        ("raise C2paError('a\\x1b[31m\\nb' * 999)", r"a\x1b[31m ba\x1b[31m b"),
        ("return contextlib.nullcontext(None)", "'NoneType' object has no attribute"),
    ],
)
def test_what_a_reader_cannot_do(deed, reason, library, tmp_path):
    library(DOES.format(deed=deed))
    told = credentials.read(kept(tmp_path / "a.jpg", MARK))
    assert told.state == "unreadable"
    assert reason in told.meaning
    assert len(told.meaning) < 300
    assert told.meaning.isprintable()


def test_a_reader_that_never_ends(library, tmp_path, monkeypatch):
    library(DOES.format(deed="import time; time.sleep(600)"))
    monkeypatch.setattr(credentials, "_PATIENCE", 0.01)
    told = credentials.read(kept(tmp_path / "a.jpg", MARK))
    assert told.meaning.endswith("cannot be read: that takes more than 0.01 s.")


def test_no_code_of_the_folder_of_the_file_is_loaded(signed, tmp_path, monkeypatch):
    """The library looks for its compiled part in the current folder first: here lies another."""
    # One that needs no library beside it: what cannot be loaded would be passed over.
    other = next(pathlib.Path(np.__file__).parent.rglob("_pcg64*.so"))
    shutil.copy(other, tmp_path / "libc2pa_c.so")
    for module in ("c2pa", "json", "resource"):
        kept(tmp_path / f"{module}.py", b"raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    kept(tmp_path / "a.jpg", signed)
    assert credentials.read("a.jpg").state == "valid"
