"""Lint, format, types, and the limits the project has set itself."""

import ast
import subprocess
import sys

import pytest

from tests.commands import loaded
from tests.conftest import NEED_SOURCES, ROOT

pytestmark = pytest.mark.checkout


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]],
    ids=["lint", "format", "types"],
)
def test_clean(command):
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_stay_one_room():
    packages = [ROOT / name for name in ("qad_jax", "data_builders", "configs")]
    sizes = {
        path.relative_to(ROOT): len(path.read_text().splitlines())
        for package in packages
        for path in package.rglob("*.py")
    }
    assert len(sizes) > 20
    assert not {path: lines for path, lines in sizes.items() if lines > 350}


def test_data_builders_never_import_jax():
    """Reader and renderer processes import them."""
    code = (
        "import sys, pkgutil, importlib, data_builders\n"
        "for module in pkgutil.walk_packages(data_builders.__path__, 'data_builders.'):\n"
        "    importlib.import_module(module.name)\n"
        "assert {'data_builders.clips', 'data_builders.manifest.reader'} <= set(sys.modules)\n"
        "assert not {'jax', 'qad_jax', 'tensorflow', 'torch'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_verdict_imports_no_reader_of_datasets_and_no_checkpoints():
    """They take a sixth of the time from the command to a verdict."""
    heavy = {"tensorflow_datasets", "grain", "orbax", "tensorboardX", "matplotlib"}
    assert not heavy & loaded("qad_jax.detection.command", "qad_jax.detection.detector")


def test_what_needs_the_sources_is_marked():
    """`make wheel-test` runs the others beside an installed package alone."""
    found = {True: [], False: []}
    for path in (ROOT / "tests").glob("test_*.py"):
        parts = ast.parse(path.read_text(encoding="utf-8")).body
        marks = [ast.unparse(part) for part in parts if isinstance(part, ast.Assign)]
        if path.name in NEED_SOURCES or any("pytestmark" in m and "checkout" in m for m in marks):
            continue
        for part in parts:
            if _names_sources(part):
                marks = [ast.unparse(mark) for mark in getattr(part, "decorator_list", [])]
                name = f"{path.name}: {getattr(part, 'name', ast.unparse(part))}"
                found["pytest.mark.checkout" in marks].append(name)
    assert found[True]
    assert not found[False]


def _names_sources(part):
    """Whether it names a file of the repository, other than its tests."""
    paths = (
        node.right.value.split("/")[0]
        for node in ast.walk(part)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
        if isinstance(node.right, ast.Constant) and isinstance(node.right.value, str)
        if any(name in ast.unparse(node.left) for name in ("ROOT", "__file__"))
    )
    return any((ROOT / path).exists() for path in paths if path not in ("tests", "pyproject.toml"))
