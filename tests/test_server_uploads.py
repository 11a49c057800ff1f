"""What clients send to the service: files of all kinds, forms that are none, and too much of it."""

import asyncio
import contextlib
import dataclasses
import io
import json
import os
import socket
import sqlite3
import time
from typing import ClassVar

import av
import numpy as np
import PIL.Image
import pytest

from qad_jax.detection.server import folders, protocol, sniffing, uploads
from qad_jax.detection.server.problems import Problem
from qad_jax.detection.server.settings import Settings
from qad_jax.detection.server.uploads import name_of
from tests.serving import problem, served
from tests.serving_worker import MAGIC

MOST = 100_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def running(folder):
    settings = Settings(
        port=0, folder=folder, most_bytes=MOST, upload_seconds=60, uploads_per_minute=1000
    )
    with served(settings) as one:
        yield one


def left(folder):
    """Files of strangers that lie on the disk."""
    return [path for path in folder.rglob("*") if path.name == "file"]


def sent(running, content, name="a.mp4", **more):
    return running.client.post("/v1/jobs", files={"file": (name, content)}, **more)


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        (b"", 400, "empty"),
        (b"this is a text" * 100, 415, "not-media"),
        (b"x", 415, "not-media"),
        (b"<html><script>alert(1)</script>", 415, "not-media"),
        (b"#EXTM3U\n/etc/passwd\n", 415, "not-media"),
        (b"G" * 3000, 202, None),  # 0x47, as each packet of a transport stream begins
        (b"G" * 188 + b"H" * 2000, 415, "not-media"),
        (MAGIC + bytes(MOST - 4), 202, None),
        (MAGIC + bytes(MOST - 3), 413, "too-large"),
        (MAGIC + bytes(20 * MOST), 413, "too-large"),
    ],
)
def test_the_content_decides(running, folder, content, status, kind):
    answer = sent(running, content)
    if kind is None:
        assert answer.status_code == status
        running.until(answer.json()["id"], "done", "failed")
    else:
        problem(answer, status, kind)
    assert left(folder) == []
    assert running.service.jobs._held == 0


def test_a_size_that_is_not_told_is_bounded_all_the_same(running, folder):
    def pieces():
        yield (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.gif"\r\n\r\n' + MAGIC
        )
        for _ in range(200):
            yield bytes(1000)

    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = running.client.post("/v1/jobs", content=pieces(), headers=headers)
    assert "send a smaller one" in problem(answer, 413, "too-large")
    assert left(folder) == []


def part(text, name="file", filename="a.gif"):
    of = f'; filename="{filename}"' if filename else ""
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{of}\r\n\r\n{text}\r\n'


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ("", "malformed", 400),
        ("no parts at all", "malformed", 400),
        (part("GIF8 a"), "malformed", 400),  # no end
        (part("GIF8 a", name="other") + "--b--\r\n", "malformed", 400),
        (part("GIF8 a", filename="") + "--b--\r\n", "malformed", 400),
        (part("GIF8 a") * 2 + "--b--\r\n", "malformed", 400),
        (part("x", name="more", filename="") * 9 + "--b--\r\n", "malformed", 400),
        (f"--b\r\nX: {'y' * 9000}\r\n\r\n--b--\r\n", "malformed", 400),
        (part("GIF8 a" + "x" * 90_000, name="other") + part("GIF8 a") + "--b--\r\n", "", 202),
        (part("x" * 190_000, name="other") + part("GIF8 a") + "--b--\r\n", "too-large", 413),
    ],
)
def test_forms_that_are_none(running, folder, body, kind, status):
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = running.client.post("/v1/jobs", content=body, headers=headers)
    if kind:
        problem(answer, status, kind)
    else:
        assert answer.status_code == status
        running.until(answer.json()["id"], "done")
    assert left(folder) == []


@pytest.mark.parametrize("named", ["_on_field", "_on_value"])
def test_headers_of_parts_are_bounded_whatever_the_parser_does(tmp_path, named):
    """Older versions of it pass on all that comes; here it is called as they do."""
    incoming = uploads._Incoming(tmp_path / "file", MOST, lambda count: None)
    piece = b"a" * 65_536
    take = getattr(incoming, named)
    take(piece, 0, len(piece))
    with pytest.raises(Problem, match="the headers of its parts have more than 65,536 bytes"):
        take(piece, 0, len(piece))
    assert len(incoming._field + incoming._value) == len(piece)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 415),
        ("", 415),
        ("multipart/form-data", 400),
        (f"multipart/form-data; boundary={'b' * 71}", 400),
    ],
)
def test_other_types_of_bodies(running, kind, status):
    answer = running.client.post("/v1/jobs", content=b"{}", headers={"content-type": kind})
    problem(answer, status, "not-multipart" if status == 415 else "malformed")


def raw(running, data, seconds=30.0):
    """What the service answers to bytes, until it closes the connection."""
    answer = b""
    with (
        socket.create_connection(("127.0.0.1", running.port), timeout=seconds) as connection,
        contextlib.suppress(ConnectionError),  # it may be closed while this is sent
    ):
        connection.sendall(data)
        while piece := connection.recv(65536):
            answer += piece
    return answer


def test_a_slow_client(running, folder, monkeypatch):
    settings = dataclasses.replace(running.service.settings, upload_seconds=1.5)
    monkeypatch.setattr(running.service, "settings", settings)
    start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nGIF8'
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    answer = raw(running, head + start)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not come within 1.5 s" in answer
    assert left(folder) == []


class Endless:
    """A request that begins and does not go on."""

    headers: ClassVar = {"content-type": "multipart/form-data; boundary=b"}

    async def stream(self):
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        await asyncio.sleep(600)


def test_a_disk_that_is_slower_than_the_time_of_a_request(tmp_path, monkeypatch):
    """The file that is just being made is there a moment later: it is closed and removed, too."""
    opened, create = [], folders.create

    def slow(path):
        time.sleep(0.3)
        opened.append(create(path))
        return opened[0]

    monkeypatch.setattr(folders, "create", slow)
    held = []
    with pytest.raises(Problem, match="did not come within"):
        asyncio.run(
            uploads.receive(Endless(), tmp_path / "file", most=MOST, seconds=0.05, hold=held.append)
        )
    assert sum(held) == 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


def test_a_client_that_goes_away(running, folder):
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nGIF8'
        )
        end = time.monotonic() + 30
        while not left(folder):
            assert time.monotonic() < end
            time.sleep(0.01)
    while left(folder) or running.service.jobs._held or running.service.jobs._places:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_headers_of_any_size(running):
    many = b"".join(b"X%d: y\r\n" % number for number in range(20_000))
    for headers in (b"X: " + b"y" * 200_000, many):
        answer = raw(running, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ") or not answer
    assert running.client.get("/v1/limits").status_code == 200


@pytest.mark.parametrize("start", [b"", b"GET /healthz HT", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_a_client_that_never_asks(running, monkeypatch, start):
    monkeypatch.setattr(protocol, "PATIENCE", 0.2)
    assert raw(running, start) == b""


def test_a_client_that_asks_once_and_a_half(running, monkeypatch):
    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as connection:
        connection.sendall(b"GET /v1/limits HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        monkeypatch.setattr(protocol, "PATIENCE", 0.2)
        connection.sendall(b"GET /v1")  # from now on uvicorn itself waits for ever
        while piece := connection.recv(65536):
            assert b"HTTP/1.1" not in piece


def test_a_full_disk(running, folder, monkeypatch):
    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    opened = os.open

    def nothing_new(path, flags, *rest, **options):
        if flags & os.O_CREAT:
            raise OSError(28, "full")
        return opened(path, flags, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(running.service.store, "add", full)
        problem(running.send("fine"), 507, "disk-full")
        patch.setattr(folders.os, "open", nothing_new)
        problem(running.send("fine"), 507, "disk-full")
    with monkeypatch.context() as patch:
        patch.setattr(running.service.store, "finish", full)
        assert "cannot be stored" in running.judged("fine")["reason"]
    job = running.judged("fine")
    assert job["verdict"] == "real"
    address = f"/v1/jobs/{job['id']}"
    with monkeypatch.context() as patch:
        patch.setattr(running.service.store, "delete", full)
        problem(running.client.delete(address), 507, "disk-full")
    assert running.client.get(f"{address}/verdict").status_code == 200  # it can be deleted again
    assert running.client.delete(address).status_code == 204
    assert running.service.store.verdict_object(job["id"]) is None
    assert left(folder) == []
    assert running.service.jobs._held == 0


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ann\\clip.mp4", "clip.mp4"),
        ("/", "file"),
        ("..", "file"),
        ("", "file"),
        ("a\nb\x1b[2J.mp4", "a b\\x1b[2J.mp4"),
        ("abc\u202e4pm.exe", "abc\\u202e4pm.exe"),
        ("x" * 5000, "x" * 200),
    ],
)
def test_names_are_text_and_no_paths(given, name):
    assert name_of(given) == name


def test_a_name_that_climbs(running, folder):
    before = sorted(folder.parent.iterdir())
    job = running.judged("fine", name="../../../climbed.gif")
    assert job["name"] == "climbed.gif"
    assert running.client.get(f"/v1/jobs/{job['id']}/verdict").json()["file"] == "climbed.gif"
    assert sorted(folder.parent.iterdir()) == before


@pytest.mark.parametrize(
    "address",
    [
        "/v1/jobs/..%2f..%2fresults.sqlite",
        "/v1/jobs/%2e%2e/verdict",
        "/v1/jobs/../../../etc/passwd",
        "/v1/jobs/none/page",
        "/static/..%2fapp.py",
        "/static/index.html",
        "/static/%2fetc%2fpasswd",
        "/docs",
        "/redoc",
        "/nowhere",
    ],
)
def test_addresses_of_nothing(running, address):
    answer = raw(
        running,
        f"GET {address} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(),
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert json.loads(body)["status"] == 404


def test_a_method_that_is_none(running):
    assert "openapi.json" in problem(running.client.put("/v1/limits"), 405, "wrong-method")


def test_all_that_is_read_passes_by_its_first_bytes():
    """Files that Pillow and FFmpeg have written, in each format that is read."""
    image = PIL.Image.fromarray(np.zeros((16, 16, 3), np.uint8))
    for name in ("jpeg", "png", "gif", "bmp", "tiff", "webp"):
        file = io.BytesIO()
        image.save(file, name)
        assert sniffing.may_be_media(file.getvalue()[: sniffing.HEAD]), name
    for name, codec in {
        **dict.fromkeys(
            ("mp4", "mov", "matroska", "avi", "flv", "mpegts", "mxf", "h264"), "libx264"
        ),
        **{"webm": "libvpx", "ogg": "libvpx", "asf": "wmv2", "mpeg": "mpeg1video"},
        **{"nut": "mpeg4", "rm": "rv10", "yuv4mpegpipe": "wrapped_avframe", "ivf": "libvpx"},
        **{"m4v": "mpeg4", "mpeg1video": "mpeg1video", "wtv": "mpeg2video"},
    }.items():
        head = _written(name, codec)[: sniffing.HEAD]
        assert sniffing.may_be_media(head), name


def _written(form, codec):
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 176, 144, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(176, 144, "yuv420p")))
        container.mux(stream.encode(None))
    return file.getvalue()
