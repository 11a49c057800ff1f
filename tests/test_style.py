"""Lint, format, types, and the limits the project has set itself."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

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
        "assert not {'jax', 'qad_jax', 'tensorflow', 'torch'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
