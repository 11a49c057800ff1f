"""The command `qad-jax serve` with a real detector: the life of a job, from a client's side."""

import html.parser
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import cv2
import httpx
import pytest

from data_builders import command_line
from qad_jax import cli
from qad_jax.detection import command as detect
from qad_jax.detection.server import app, command
from qad_jax.detection.server.app import create
from qad_jax.detection.server.settings import Settings
from tests import fuzz_inputs, tiny_detector, trees
from tests.commands import call
from tests.conftest import ROOT
from tests.serving import until, wait
from tests.test_detection import film, filmed
from tests.test_hostile_files import with_numbers

KEPT_S = 1000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model file and some files to judge."""
    folder = tmp_path_factory.mktemp("serve")
    tiny_detector.write(folder / "tiny.safetensors")
    cv2.imwrite(str(folder / "face.png"), filmed(1)[0][..., ::-1])
    film(folder / "cut.mp4", filmed(6))
    trees.truncate(folder / "cut.mp4")
    whole = fuzz_inputs.h264.encode(fuzz_inputs.frames(), crf=30)
    # Its table counts a thousand million frames, for each of which FFmpeg would take 60 bytes.
    (folder / "bomb.mp4").write_bytes(with_numbers(whole, b"stsz", 1, 10**9, at=4))
    (folder / "private").mkdir()
    return folder


@pytest.fixture(scope="module")
def process(made):
    """The command as a user starts it, and a client of it."""
    words = ("--model", made / "tiny.safetensors", "--folder", made / "private", "--port", "0")
    words += ("--keep_seconds", str(KEPT_S), "--frames", "4")
    with subprocess.Popen(
        [sys.executable, "-m", "qad_jax.serve", *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as running:
        try:
            address = running.stderr.readline().strip()
            with httpx.Client(base_url=address, timeout=120) as client:
                yield running, client
        finally:
            running.kill()


@pytest.fixture(scope="module")
def client(process):
    """A client of a service that is ready."""
    running, client = process
    first = client.get("/healthz")
    assert (first.status_code, first.json()["status"]) in ((503, "starting"), (200, "ok"))
    end = time.monotonic() + 240
    while client.get("/healthz").status_code != 200:
        assert running.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
    return client


def send(client, path):
    with path.open("rb") as file:
        answer = client.post("/v1/jobs", files={"file": (path.name, file)})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    return answer.json()


def test_the_life_of_a_job(client, made, monkeypatch):
    before = datetime.now(UTC)
    sent = send(client, made / "face.png")
    assert set(sent) == {
        *("id", "name", "bytes", "state", "position", "progress", "reason", "verdict"),
        *("created", "expires"),
    }
    assert (sent["name"], sent["bytes"]) == ("face.png", (made / "face.png").stat().st_size)
    assert (sent["verdict"], sent["reason"]) == (None, "")
    assert len(sent["id"]) >= 32
    job = until(client, sent["id"], "done", "failed")
    assert (job["state"], job["position"], job["progress"]) == ("done", None, None)

    created, expires = (datetime.fromisoformat(job[name]) for name in ("created", "expires"))
    now, kept = datetime.now(UTC), timedelta(seconds=KEPT_S)
    assert before.replace(microsecond=0) <= created <= now  # in whole seconds
    assert created + kept <= expires <= now + kept  # from its end on

    monkeypatch.chdir(made)
    words = ("face.png", "--json", "--frames", "4", "--model", "tiny.safetensors")
    judged = call(*words, main=detect.main)
    assert judged.status == 0, judged.err
    verdict = client.get(f"/v1/jobs/{job['id']}/verdict")
    assert verdict.headers["content-type"] == "application/json"
    assert verdict.text == judged.out.rstrip("\n")
    assert verdict.json()["verdict"] == job["verdict"]

    page = client.get(f"/v1/jobs/{job['id']}/page")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "frame-ancestors 'self'" in page.headers["content-security-policy"]
    told = Page(page.text)
    assert told.links == []  # none leads to a page over all files: there is none
    assert told.loaded
    assert all(one.startswith("data:image/jpeg") for one in told.loaded)
    assert "qad-jax detect --out pages --model tiny.safetensors --frames 4 face.png" in told.text
    assert str(made) not in page.text

    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    for address in ("", "/verdict", "/page"):
        answer = client.get(f"/v1/jobs/{job['id']}{address}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
    assert list(made.glob(f"private/*/{job['id']}")) == []


class Page(html.parser.HTMLParser):
    """What a page links to and loads, and its text."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links += [found["href"]] if tag == "a" else []
        self.loaded += [found["src"]] if "src" in found else []
        assert tag not in ("script", "link", "iframe", "form")

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cut.mp4", "it is damaged or not complete"),
        ("bomb.mp4", "claims an index of 1,000,000,000 frames"),
    ],
)
def test_a_file_that_cannot_be_judged_has_a_verdict_that_says_so(client, made, name, reason):
    job = until(client, send(client, made / name)["id"], "done", "failed")
    assert (job["state"], job["verdict"]) == ("done", "error")
    verdict = client.get(f"/v1/jobs/{job['id']}/verdict").json()
    assert verdict["reason"].startswith(f"{name}: ")
    assert reason in verdict["reason"]
    page = client.get(f"/v1/jobs/{job['id']}/page").text
    assert reason in page
    assert "private" not in page + json.dumps(verdict)


@pytest.mark.checkout
def test_the_client_of_the_documentation(client, made):
    _, _, text = (ROOT / "docs/deployment.md").read_text().partition("\n## A service\n")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    defined = {}
    exec(code, defined)
    verdict = defined["judge"](made / "cut.mp4", str(client.base_url))
    assert (verdict["file"], verdict["verdict"]) == ("cut.mp4", "error")
    with pytest.raises(ValueError, match="The content of the file is no image"):
        defined["judge"](made / "tiny.safetensors", str(client.base_url))


def test_limits_and_numbers(client, made):
    limits = client.get("/v1/limits").json()
    assert limits == {
        "most_bytes": 500_000_000,
        "most_seconds": 300.0,
        "most_queued": 200,
        "kept_seconds": KEPT_S,
        "stored": False,
        "token_needed": False,
        "model": {
            "name": "blue",
            "version": "1",
            "sha256": detect.media.sha256(made / "tiny.safetensors"),
        },
        "version": cli.__version__,
    }
    line = 'qad_jax_jobs_total{{verdict="error"}} {}.0'
    before = next((n for n in range(9) if line.format(n) in client.get("/metrics").text), 0)
    until(client, send(client, made / "cut.mp4")["id"], "done")
    wait(lambda: line.format(before + 1) in client.get("/metrics").text)  # after it is done
    numbers = client.get("/metrics")
    assert numbers.headers["content-type"].startswith("text/plain")
    assert "qad_jax_workers 1.0" in numbers.text
    assert "cut" not in numbers.text


def test_the_end_removes_all_files(process, client, made):
    """SIGTERM, as a system sends it to its services, in the middle of a job."""
    running, _ = process
    send(client, made / "face.png")
    (private,) = made.glob("private/*")
    assert private.stat().st_mode & 0o777 == 0o700
    workers = [
        int(pid) for pid in os.listdir("/proc") if pid.isdecimal() and _parent(pid) == running.pid
    ]
    assert workers
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0
    assert running.stderr.read() == ""
    assert list(made.glob("private/*")) == []
    assert not [pid for pid in workers if _parent(pid) == running.pid]


def _parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return None


# What cannot be started


def serve(*words):
    return call(*words, main=command.main)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--host", "0.0.0.0"), "a token is needed"),
        (("--host", "192.0.2.1", "--token_file", "{token}"), "cannot listen there"),
        (("--token_file", "none.txt"), "none.txt: cannot be read"),
        (("--token_file", "{short}"), "the token must be 16 or more"),
        (("--workers", "0"), "--workers: is 0, must be at least 1"),
        (("--max_mb", "0"), "--max_mb: is 0 bytes, must be at least 1"),
        (("--max_queue", "0"), "--max_queue: is 0, must be at least 1"),
        (("--max_seconds", "nan"), "--max_seconds: is nan, must be at least 1"),
        (("--keep_seconds", "inf"), "--keep_seconds: is inf, must be at most 1,000,000,000"),
        (("--proxy", "*"), "--proxy *: is no address"),
        (("--port", "70000"), "--port: is 70000"),
        (("--folder", "/none/where", "--port", "0"), "no folder for the files can be made"),
        (("--store", "{token}", "--port", "0"), "file is not a database"),
        (("--model", "none.safetensors", "--port", "0"), "none.safetensors: cannot be read"),
    ],
)
def test_settings_that_cannot_be(tmp_path, words, reason):
    files = {"token": tmp_path / "token", "short": tmp_path / "short"}
    files["token"].write_text("a-token-of-more-than-16-signs\n")
    files["short"].write_text("guess me\n")
    result = serve(*(word.format(**files) for word in words))
    assert result.status == 1
    error = result.err.splitlines()[-1]
    assert error.startswith("error: ")
    assert reason in error
    assert "Traceback" not in result.err


@pytest.mark.parametrize("size", ["nan", "inf", "1e308"])
def test_sizes_that_are_none(size):
    result = serve("--max_mb", size)
    assert result.status == command_line.USAGE
    assert f"--max_mb: {size} is no size" in result.err


def test_a_signal_before_the_service_is_there(tmp_path, monkeypatch):
    """It is not lost: the service ends before it says that its model is none."""
    make = app.Service

    def made(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        return make(*args)

    monkeypatch.setattr(app, "Service", made)
    result = serve("--port", "0", "--folder", tmp_path, "--model", tmp_path / "none.safetensors")
    assert result.status == 0, result.err
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken():
    with command._listening(Settings(port=0)) as taken:
        result = serve("--port", taken.getsockname()[1])
    assert result.status == 1
    assert "cannot listen there: Address already in use" in result.err


def test_the_extra_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = serve("--port", "0")
    assert result.status == 1
    assert "pip install 'qad-jax[serve]'" in result.err


def test_a_token_from_the_environment(monkeypatch):
    monkeypatch.setenv("QAD_JAX_TOKEN", "too short")
    assert "the token must be 16 or more" in serve().err
    assert "too short" not in repr(Settings(token="too-short-of-no-length"))


def test_the_document_of_the_interface():
    document = create(Settings()).openapi()
    methods = {(path, method) for path, of in document["paths"].items() for method in of}
    assert methods == {
        ("/healthz", "get"),
        ("/metrics", "get"),
        ("/v1/limits", "get"),
        ("/v1/jobs", "post"),
        ("/v1/jobs/{job}", "get"),
        ("/v1/jobs/{job}", "delete"),
        ("/v1/jobs/{job}/verdict", "get"),
        ("/v1/jobs/{job}/page", "get"),
    }
    refused = document["paths"]["/v1/jobs"]["post"]["responses"]
    assert {"202", "400", "401", "413", "415", "429"} <= set(refused)
    assert "application/problem+json" in refused["413"]["content"]
    assert "components" in document
    assert "securitySchemes" not in document["components"]
    wanted = create(Settings(token="a-token-of-more-than-16-signs")).openapi()
    assert wanted["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert {
        path for path, of in wanted["paths"].items() for one in of.values() if "security" not in one
    } == {"/healthz", "/v1/limits"}
