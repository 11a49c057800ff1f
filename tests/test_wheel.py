"""The wheel, installed where there is no checkout, in a folder with a `configs/` of its own."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile

import pytest

import qad_jax
from tests.conftest import ROOT

pytestmark = pytest.mark.checkout


def run(*command, cwd, **variables):
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    done = run(
        *pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("qad_jax-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The bin folder of an environment that holds the wheel, and this one's libraries behind it."""
    environment = tmp_path_factory.mktemp("environment") / "venv"
    assert run(sys.executable, "-m", "venv", "--without-pip", environment, cwd="/").returncode == 0
    (site,) = environment.glob("lib/python*/site-packages")
    # A path is added as it is: the .pth file of an editable install behind it is not read.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = environment / "bin" / "python"
    done = run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python),
        *("install", "-q", "--no-deps", "--no-index", "--ignore-installed", wheel),
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    found = {path.name for path in site.iterdir()} - {"libraries.pth", "__pycache__"}
    assert found == {"qad_jax", "data_builders", f"qad_jax-{qad_jax.__version__}.dist-info"}
    return environment / "bin"


@pytest.fixture
def folder(tmp_path):
    """A user's folder, with a `configs/` that must not be taken for the project's."""
    own = tmp_path / "configs"
    own.mkdir()
    (own / "__init__.py").write_text("raise RuntimeError('the configs of another project')\n")
    (own / "mine.py").write_text(
        "from qad_jax import configs\n\n\n"
        "def get_config(batch_size='8'):\n"
        "    config = configs.load('quickstart')\n"
        "    config.batch_size = int(batch_size)\n"
        "    return config\n"
    )
    return tmp_path


def test_what_is_in_it(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    configs = {path.name for path in (ROOT / "configs").glob("*.py")}
    assert {name.rpartition("/")[2] for name in names if "/_configs/" in name} == configs
    for name in ("qad_jax/py.typed", "data_builders/py.typed"):
        assert name in names
    files = [p for name in ("data_builders", "qad_jax") for p in (ROOT / name).rglob("*")]
    data = [p for p in files if p.suffix in (".json", ".bib", ".md")]
    assert {"data_builders", "qad_jax"} == {p.relative_to(ROOT).parts[0] for p in data}
    assert {str(path.relative_to(ROOT)) for path in data} <= set(names)
    (metadata,) = (name for name in names if name.endswith("METADATA"))
    assert "Classifier: Typing :: Typed" in zipfile.ZipFile(wheel).read(metadata).decode()


def test_help_loads_next_to_nothing(installed, folder):
    python = installed / "python"
    done = run(python, "-X", "importtime", installed / "qad-jax", "--help", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "qad-jax COMMAND" in done.stdout
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.split("\n")}
    assert "qad_jax" in loaded
    assert not loaded & {"jax", "numpy", "cv2", "absl", "ml_collections", "tensorflow_datasets"}


def test_it_trains_and_evaluates_from_an_empty_folder(installed, folder):
    small = [
        *("--config", "configs/mine.py:16", "--workdir", "w"),
        "--config.dataset.name=synthetic_faces/tiny",
        "--config.dataset.data_dir=data",
        "--config.model.name=resnet_least",
        "--config.image_size=32",
        "--config.num_steps=2",
    ]
    command = installed / "qad-jax"
    trained = run(
        command, "train", "--config", "configs/mine.py:16", "--workdir", "w", *small, cwd=folder
    )
    assert trained.returncode == 0, trained.stderr
    assert "w/evaluation/test/report.html" in trained.stdout
    assert json.loads((folder / "w/config.json").read_text())["batch_size"] == 16
    # The configuration is the run's own: nothing is named but the folder.
    evaluated = run(command, "evaluate", "w", "--split", "validation", cwd=folder)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "w/evaluation/validation/report.html" in evaluated.stdout
    # A packaged configuration by its name; it is another one than the folder's.
    other = run(command, "train", "--config", "quickstart", "--workdir", "w", cwd=folder)
    assert other.returncode == 1
    assert "w holds a run of another configuration" in other.stderr
    assert other.stderr.count("error: ") == 1
