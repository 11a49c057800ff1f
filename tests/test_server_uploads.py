"""What clients send to the service: files of all kinds, forms that are none, and too much of it."""

import contextlib
import io
import json
import socket
import sqlite3
import time

import av
import httpx
import numpy as np
import PIL.Image
import pytest

from qad_jax.detection.server import folders, guard, protocol, sniffing
from qad_jax.detection.server.problems import Problem
from qad_jax.detection.server.settings import Settings
from qad_jax.detection.server.uploads import name_of
from tests.serving import served
from tests.serving_worker import MAGIC, file_of

MOST = 100_000
TOKEN = "a-token-of-more-than-16-signs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def running(folder):
    settings = Settings(
        port=0, folder=folder, most_bytes=MOST, upload_seconds=1.5, uploads_per_minute=1000
    )
    with served(settings) as one:
        yield one


def problem(answer, status, kind):
    """Checks that an answer is of RFC 9457; returns what it says."""
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert set(told) == {"type", "title", "status", "detail"}
    assert (answer.status_code, told["status"], told["type"]) == (
        status,
        status,
        f"urn:qad-jax:problem:{kind}",
    )
    assert told["detail"].endswith(".")
    return told["detail"]


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


def test_a_slow_client(running, folder):
    start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nGIF8'
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    answer = raw(running, head + start)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not come within 1.5 s" in answer
    assert left(folder) == []


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
    monkeypatch.setattr(protocol, "PATIENCE", 0.2)
    answer = raw(running, b"GET /v1/limits HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v1")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_full_disk(running, folder, monkeypatch):
    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(running.service.store, "add", full)
        problem(running.send("fine"), 507, "disk-full")
        patch.setattr(folders.os, "open", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        problem(running.send("fine"), 507, "disk-full")
    with monkeypatch.context() as patch:
        patch.setattr(running.service.store, "finish", full)
        assert "cannot be stored" in running.judged("fine")["reason"]
    assert running.judged("fine")["verdict"] == "real"
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


# Who may ask


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8000", 200),
        ("192.168.0.7", 200),  # no name server gives an address of another machine this name
        ("evil.example", 421),
        ("evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost:80:80", 421),
        ("", 421),
    ],
)
def test_names_of_the_host(running, host, status):
    answer = running.client.get("/v1/limits", headers={"Host": host})
    assert answer.status_code == status
    if status != 200:
        problem(answer, status, "wrong-host")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_forms_of_other_sites(running, headers):
    problem(running.send("fine", headers=headers), 403, "other-site")
    answer = running.client.get("/v1/limits", headers=headers)
    assert "access-control-allow-origin" not in answer.headers


def test_the_own_page_may_send(running):
    origin = {"Origin": f"http://127.0.0.1:{running.port}", "Sec-Fetch-Site": "same-origin"}
    assert running.send("fine", headers=origin).status_code == 202


def test_every_answer_tells_the_browser_what_it_may_do(running):
    job = running.judged("fine")["id"]
    for address in ("/", "/static/page.css", "/v1/limits", "/nowhere", f"/v1/jobs/{job}/verdict"):
        headers = running.client.get(address).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
    page = running.client.get(f"/v1/jobs/{job}/page").headers["content-security-policy"]
    assert "frame-ancestors 'self'" in page
    assert "script" not in page


def test_a_token(folder):
    with served(Settings(port=0, folder=folder, token=TOKEN)) as running:
        client = running.client
        assert client.get("/v1/limits").json()["token_needed"] is True
        for given in (None, TOKEN, f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", "Bearer \xe9"):
            headers = {} if given is None else {"Authorization": given.encode("latin-1")}
            answer = running.send("fine", headers=headers)
            problem(answer, 401, "token")
            assert answer.headers["www-authenticate"] == "Bearer"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        job = running.send("fine", headers=headers).json()["id"]
        addresses = [f"/v1/jobs/{job}{of}" for of in ("", "/verdict", "/page")]
        for address in (*addresses, "/metrics"):
            assert client.get(address).status_code == 401
            assert client.get(address, headers=headers).status_code in (200, 409)
        assert client.delete(f"/v1/jobs/{job}").status_code == 401
        assert client.delete(f"/v1/jobs/{job}", headers=headers).status_code == 204


def test_a_client_that_sends_too_often(folder):
    with served(Settings(port=0, folder=folder, uploads_per_minute=2)) as running:
        answers = [running.send("fine") for _ in range(3)]
        assert [one.status_code for one in answers] == [202, 202, 429]
        problem(answers[2], 429, "too-many-requests")
        assert 1 <= int(answers[2].headers["retry-after"]) <= 30
        transport = httpx.HTTPTransport(local_address="127.0.0.9")
        with httpx.Client(transport=transport, base_url=str(running.client.base_url)) as other:
            files = {"file": ("a.gif", file_of("fine"))}
            assert other.post("/v1/jobs", files=files).status_code == 202


@pytest.mark.parametrize(("proxy", "status"), [(None, 429), ("127.0.0.1", 202)])
def test_who_a_proxy_says_that_the_client_is(folder, proxy, status):
    """It is believed where it was named alone: else anybody is as many clients as he wants."""
    with served(Settings(port=0, folder=folder, uploads_per_minute=1, proxy=proxy)) as running:
        first = running.send("fine", headers={"X-Forwarded-For": "192.0.2.1"})
        second = running.send("fine", headers={"X-Forwarded-For": "192.0.2.2"})
    assert (first.status_code, second.status_code) == (202, status)


def test_a_rate_by_hand():
    """Three a minute: three at once, and then one each 20 s."""
    now = [100.0]
    rates = guard.Rates(3, clock=lambda: now[0])
    for _ in range(3):
        rates.take("ann")
    with pytest.raises(Problem) as refused:
        rates.take("ann")
    assert refused.value.headers == {"Retry-After": "20"}
    rates.take("bob")
    now[0] += 20.5
    rates.take("ann")
    with pytest.raises(Problem):
        rates.take("ann")
    now[0] += 3600
    for _ in range(3):
        rates.take("ann")
    with pytest.raises(Problem):
        rates.take("ann")


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (None, "unknown"),
    ],
)
def test_who_a_client_is(host, client):
    assert guard.client_of(host) == client


# The disk


def test_links_are_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_text("a secret")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(OSError, match="exists"):
        folders.create(tmp_path / "link")
    with pytest.raises(OSError, match="symbolic"):
        folders.content(tmp_path / "link", 100)
    with pytest.raises(OSError, match="at most 3 bytes"):
        folders.content(target, 3)
    with pytest.raises(OSError, match="no plain file"):
        folders.content(tmp_path, 100)
    assert folders.content(target, 100) == b"a secret"
    private = folders.PrivateFolder(tmp_path)
    assert private.path.stat().st_mode & 0o777 == 0o700
    job = private.make("job")
    (job / "out").symlink_to(tmp_path)
    private.remove("job")
    private.close()
    assert target.read_text() == "a secret"
    assert not private.path.exists()


def test_a_folder_of_a_service_that_was_killed_is_removed_and_no_other(tmp_path):
    living = folders.PrivateFolder(tmp_path)
    dead = folders.PrivateFolder(tmp_path)
    (dead.make("job") / "file").write_text("a file of a stranger")
    folders.os.close(dead._lock)  # as its end does
    kept = tmp_path / "qad-jax-serve-of-mine"
    kept.mkdir()
    (tmp_path / "qad-jax-serve-link").symlink_to(living.path)
    folders.PrivateFolder(tmp_path).close()
    assert not dead.path.exists()
    assert living.path.exists()
    assert kept.exists()
    living.close()


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
