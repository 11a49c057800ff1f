"""What importing parts of `data_builders` loads, and that no import runs in a circle."""

import ast
import graphlib

import pytest

from tests.commands import loaded
from tests.conftest import ROOT

LARGE = {"tensorflow_datasets", "cv2", "av", "PIL", "joblib", "jax", "qad_jax", "apache_beam"}
SMALL = {"numpy", "argparse", "multiprocessing", "concurrent.futures.process"}


def test_counting_cores_and_naming_mistakes_load_nothing():
    assert not (LARGE | SMALL) & loaded("data_builders.workers", "data_builders.errors")


def test_commands_and_files_load_no_arrays():
    modules = loaded("data_builders.files", "data_builders.build")
    assert not (LARGE | {"numpy"}) & modules


def test_the_record_needs_neither_tfds_nor_a_codec():
    assert not LARGE & loaded("data_builders.records", "data_builders.png")


def test_videos_and_faces_are_read_without_tfds():
    modules = loaded("data_builders.clips", "data_builders.h264", "data_builders.faces")
    assert not {"tensorflow_datasets", "jax", "qad_jax"} & modules


@pytest.mark.checkout
@pytest.mark.parametrize("package", ["data_builders"])
def test_no_import_runs_in_a_circle(package):
    """Imports inside functions, and those for types alone, count as well."""
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / package).rglob("*.py")
    }
    graph = {name: set() for name in paths}
    for name, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: a relative import"
                imported = [
                    f"{node.module}.{alias.name}"
                    if f"{node.module}.{alias.name}" in paths
                    else node.module
                    for alias in node.names
                ]
            else:
                continue
            graph[name].update(module for module in imported if module in paths)
    assert sum(map(len, graph.values())) > 50
    graphlib.TopologicalSorter(graph).prepare()  # raises an error that names the circle
