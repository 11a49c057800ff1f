"""The files around the code agree with the repository: they are read and not run here."""

import fnmatch
import re
from pathlib import Path

import pytest

import qad_jax

pytestmark = pytest.mark.checkout
ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.checkout


def copied_files() -> list[str]:
    """What the Dockerfile copies from the repository."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_the_image_copies_files_that_are_there():
    assert {"pyproject.toml", "qad_jax", "data_builders", "configs"} <= set(copied_files())
    assert [source for source in copied_files() if not (ROOT / source).exists()] == []


def test_the_builder_is_sent_what_the_image_copies():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    for source in copied_files():
        last = [p for p in patterns if fnmatch.fnmatch(source, p.removeprefix("!"))][-1]
        assert last.startswith("!"), f".dockerignore leaves out {source}"


def test_the_workflow_makes_targets_that_are_there():
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"run: make (\S+)", workflow))
    assert {"test", "wheel-test", "docs"} <= targets
    assert targets <= set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))


def test_citation_has_the_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    version = re.search(r"^version: (\S+)$", text, re.MULTILINE)
    assert version
    assert version[1] == qad_jax.__version__


@pytest.mark.parametrize("file", [".github/workflows/ci.yml", ".pre-commit-config.yaml"])
def test_settings_are_yaml(file):
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
