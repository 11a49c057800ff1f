"""The demo: it says what the command says, keeps within its limits, and asks nobody elsewhere."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib

import numpy as np
import PIL.Image
import pytest

from qad_jax.detection.results import VERDICTS, Verdict
from qad_jax.weights import model_file
from tests.conftest import ROOT
from tests.test_verdict_pages import Page

pytestmark = pytest.mark.checkout
DEMO = ROOT / "demo"

# Serves the page and judges a file as a browser does. A connection to another machine is an error.
_SERVED = """
import importlib.util, ipaddress, json, sys

elsewhere = []

def watch(event, arguments):
    here = ("localhost", "127.0.0.1", "::1", None)
    if event == "socket.getaddrinfo" and arguments[0] not in here:
        elsewhere.append(arguments[0])
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        if not ipaddress.ip_address(arguments[1][0]).is_loopback:
            elsewhere.append(arguments[1][0])

sys.addaudithook(watch)
spec = importlib.util.spec_from_file_location("app", sys.argv[1])
app = importlib.util.module_from_spec(spec)
spec.loader.exec_module(app)
page = app.create()
app.launch(page, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
from gradio_client import Client, handle_file
client = Client(page.local_url, verbose=False, download_files=False, analytics_enabled=False)
told = client.predict(handle_file(sys.argv[2]), api_name="/judge")
page.close()
print(json.dumps({"told": told, "elsewhere": elsewhere, "config": client.config}))
"""


@pytest.fixture(scope="module")
def app():
    """The demo without Gradio, whose import leaves sockets open."""
    spec = importlib.util.spec_from_file_location("demo_app", DEMO / "app.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """What a served page says of an image that is called numpy.py, and its settings."""
    tmp_path = tmp_path_factory.mktemp("served")
    path = tmp_path / "numpy.py"
    PIL.Image.fromarray(np.full((64, 64, 3), 99, np.uint8)).save(path, "PNG")
    done = subprocess.run(
        [sys.executable, "-c", _SERVED, str(DEMO / "app.py"), str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "GRADIO_TEMP_DIR": str(tmp_path / "kept")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_file_goes_through_the_page(served):
    """From an upload to an answer. The file has the name of a module, which is not imported."""
    assert served["elsewhere"] == []
    config = served["config"]
    assert (config["analytics_enabled"], config["run_history"]) == (False, False)
    answer, frame = map(Page, served["told"])
    assert answer.text.startswith("No face was found Reason: no face was found.")
    (attributes,) = frame.all("iframe")
    assert attributes["sandbox"] is None  # the strictest: it has the attribute without a value
    page = Page(attributes["srcdoc"])
    assert "No face was found" in page.text
    assert "numpy.py" in page.text
    assert "/tmp" not in page.text
    assert page.all("a") == []


def test_all_answers_look_alike(app, monkeypatch):
    """That nothing can be told has the same heading, size and frame as "fake"."""
    shapes = set()
    for verdict in VERDICTS:
        told = Verdict("a.mp4", None, verdict, reason="a.mp4: <b>why</b>")
        monkeypatch.setattr(app, "_detect", lambda path, seconds, told=told: (told, "<p>page</p>"))
        answer, frame = app.judge(str(DEMO / "app.py"))
        page = Page(answer)
        assert app.words.TITLES[verdict] in page.text
        assert "Reason: <b>why</b>." in page.text
        assert app.words.MEANINGS[verdict] in page.text
        shapes.add(re.sub(r">[^<]*<", "><", answer))
        assert Page(frame).all("iframe")[0]["srcdoc"] == "<p>page</p>"
    assert len(shapes) == 1


def test_files_beyond_the_limits(app, tmp_path):
    assert "no file was chosen" in app.judge(None)[0]
    path = tmp_path / "a.mp4"
    with path.open("wb") as file:
        file.truncate(101 * 10**6)
    answer, frame = app.judge(str(path))
    assert "the file has 101 MB, and 100 are the most" in answer
    assert frame == ""


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        # A child that keeps the pipe open would be waited for, if only its parent were ended.
        ("sleep 600 & sleep 600", "judging it takes more than 0.5 s here"),
        ("kill -ABRT $$", "ended before it had an answer"),
        ("echo no verdict", "ended before it had an answer"),
        # As one does that the file of a stranger has taken over.
        ("echo [ > verdict.json; touch page.html", "ended before it had an answer"),
        ("ln -s {whole} verdict.json; touch page.html", "ended before it had an answer"),
        ("mkfifo verdict.json; touch page.html", "ended before it had an answer"),
        ("cp {whole} verdict.json; printf '\\377' > page.html", "ended before it had an answer"),
        ("sleep 601", "judging it takes more than 0.001 MB of memory here"),
    ],
)
def test_a_program_that_hangs_or_ends(app, tmp_path, monkeypatch, program, reason):
    started = subprocess.Popen
    whole = tmp_path / "whole.json"
    whole.write_text(Verdict("a.mp4", None, "real").as_json())

    def other(command, **options):
        return started(["sh", "-c", program.format(whole=whole)], **options)

    monkeypatch.setattr(app.subprocess, "Popen", other)
    if "memory" in reason:
        monkeypatch.setattr(app, "MOST_MEMORY_MEGABYTES", 0.001)
    (tmp_path / "a.mp4").write_text("x")
    answer, frame = app.judge(str(tmp_path / "a.mp4"), seconds=0.5 if "0.5 s" in reason else 60)
    assert "The file could not be judged" in answer
    assert reason in answer
    assert frame == ""


def test_the_page_says_what_the_model_is(app, served):
    """Its name, on what it was measured, its limits and its card."""
    model = model_file.describe(model_file.SHIPPED)
    parts = served["config"]["components"]
    values = [str(part["props"].get("value")) for part in parts]
    text = "\n".join(values)
    for said in (
        f"**{model.name} {model.version}**",
        f"measured on {model.measured['clips']} clips of {model.measured['identities']} people",
        f"{app.MOST_MEGABYTES} MB",
        f"{app.MOST_SECONDS:.0f} seconds",
        model_file.SHIPPED.with_suffix(".md").read_text().splitlines()[0],
    ):
        assert said in text


def test_a_space_has_what_it_needs():
    """Its header names the application and the pinned Gradio, its text the limits of the code."""
    yaml = pytest.importorskip("yaml")
    _, header, text = (DEMO / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    settings = yaml.safe_load(header)
    assert (settings["sdk"], settings["license"]) == ("gradio", "apache-2.0")
    assert (DEMO / settings["app_file"]).exists()
    assert len(settings["short_description"]) <= 60
    pinned = ROOT / f"requirements/py{settings['python_version'].replace('.', '')}.txt"
    assert f"gradio=={settings['sdk_version']}" in pinned.read_text().splitlines()
    model = model_file.describe(model_file.SHIPPED)
    assert f"`{model.name}`" in text
    assert f"{model.measured['clips']} clips of {model.measured['identities']} people" in text
    lines = (DEMO / "requirements.txt").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [line for line in lines if not line.startswith("#")] == project["dependencies"]
