"""Versions of the libraries and the commit that computed something; imports no JAX."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

_TREE = Path(__file__).resolve().parents[2]

# The libraries that numbers depend on; jaxlib has the compiler and the kernels.
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
    "onednn-cpu-gomp",
    "opencv-python-headless",
)


def packages() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    versions = {"Python": platform.python_version()}
    for library in _LIBRARIES:
        with contextlib.suppress(
            metadata.PackageNotFoundError
        ):  # not installed: run from a source tree
            versions[library] = metadata.version(library)
    return versions


def commit(tree: Path = _TREE) -> str | None:
    """The git commit of a source tree, followed by '+' where tracked files differ from it.

    Args:
      tree: The source tree, by default the one of this file.

    Returns:
      The commit; None where the tree is not a git checkout, or git is not installed.
    """
    if not (tree / ".git").exists():  # a folder, or in a worktree a file
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
