"""Which code computed something: versions of libraries and the commit; needs no JAX."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

_TREE = Path(__file__).resolve().parents[2]

# The libraries that shape what is computed; jaxlib has the compiler and the kernels.
_LIBRARIES = (
    "qad-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "numpy",
    "opencv-python-headless",
)


def packages() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"Python": platform.python_version()}
    for library in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):  # a source tree, not installed
            found[library] = metadata.version(library)
    return found


def commit(tree: Path = _TREE) -> str | None:
    """The git commit of a source tree, '+' behind it where tracked files differ from it.

    Args:
      tree: By default the one that this is run from.

    Returns:
      None where the tree is not a checkout of its own, or there is no git to ask.
    """
    if not (tree / ".git").exists():  # a file in a work tree
        return None
    head, changes = (
        _git(tree, *words) for words in (["rev-parse", "HEAD"], ["status", "-s", "-uno"])
    )
    return f"{head}+" if head and changes else head


def _git(tree: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(tree), *words], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
