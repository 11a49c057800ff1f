"""The house: rooms from top to bottom, no import that runs up, no circle."""

import ast
import graphlib

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.checkout

#: Of the packages, from top to bottom: a module imports from its own room and from those below.
ROOMS = [
    ("qad_jax.cli",),
    (
        "qad_jax.main",
        "qad_jax.compare",
        "qad_jax.score",
        "qad_jax.matrix",
        "qad_jax.detect",
        "qad_jax.serve",
    ),
    (
        "qad_jax.models.pretrained",
        "qad_jax.checkpoints",
        "qad_jax.release",
    ),  # doors: old names of what lies below
    ("qad_jax.run",),
    ("qad_jax.detection.server",),
    ("qad_jax.detection",),
    ("qad_jax.evaluation",),
    ("qad_jax.training",),
    ("qad_jax.weights",),
    ("qad_jax.runs",),
    ("qad_jax.models", "qad_jax.losses", "qad_jax.transforms"),
    ("qad_jax.configs", "qad_jax.stored_config", "qad_jax.cpu"),
    ("data_builders",),
]
#: The whole of these files is imports and names.
DOORS = (
    "compare.py",
    "score.py",
    "matrix.py",
    "detect.py",
    "serve.py",
    "release.py",
    "checkpoints.py",
    "models/pretrained.py",
)


def modules():
    """Name and file of every module of the packages."""
    for package in ("qad_jax", "data_builders"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


NAMES = dict(modules())


def room_of(module):
    """Index of a module's room: the longest name that it begins with decides."""
    rooms = [
        (len(name), index)
        for index, names in enumerate(ROOMS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    return max(rooms)[1] if rooms else None


def imports(path):
    """The modules of the project that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in NAMES else node.module for name in inner]
        else:
            continue
        yield from (
            name for name in names if name.partition(".")[0] in ("qad_jax", "data_builders")
        )


def for_types_only(path):
    """What is imported under TYPE_CHECKING."""
    return {
        name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for held in ast.walk(node)
        if isinstance(held, ast.ImportFrom)
        for alias in held.names
        for name in (held.module, f"{held.module}.{alias.name}")
    }


GRAPH = {
    module: set(imports(path)) - for_types_only(path) - {module} for module, path in NAMES.items()
}


def test_every_module_has_a_room():
    assert len(NAMES) > 80
    allowed = {"qad_jax"}  # the package itself holds its version alone
    assert not [module for module in NAMES if room_of(module) is None and module not in allowed]


def test_every_import_names_a_module_that_exists():
    assert not {
        (module, other) for module, others in GRAPH.items() for other in others - NAMES.keys()
    }


def test_no_import_runs_up():
    up = {
        (module, other)
        for module, others in GRAPH.items()
        for other in others
        if other != "qad_jax" and module != "qad_jax" and room_of(other) < room_of(module)
    }
    assert not up


def test_no_two_modules_import_each_other_in_a_circle():
    graphlib.TopologicalSorter(GRAPH).prepare()  # raises an error that names the circle


@pytest.mark.parametrize("door", DOORS)
def test_a_door_holds_no_code(door):
    tree = ast.parse((ROOT / "qad_jax" / door).read_text())
    kinds = (ast.Import, ast.ImportFrom, ast.Expr, ast.Assign, ast.If)
    assert all(isinstance(node, kinds) for node in tree.body)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def test_the_rooms_of_data_builders():
    """Datasets stand on the shared base; nothing shared knows a dataset."""
    datasets = {path.parent.name for path in (ROOT / "data_builders").glob("*/builder.py")}
    assert len(datasets) >= 6
    for module, others in GRAPH.items():
        parts = module.split(".")
        if parts[0] == "data_builders" and not (len(parts) > 1 and parts[1] in datasets):
            assert not {
                other
                for other in others
                if other.split(".")[1:2][:1] and other.split(".")[1] in datasets
            }, module
