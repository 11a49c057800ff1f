"""What made a set of scores: code, versions, machine, data."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "qad-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "grain",
    "numpy",
    "opencv-python-headless",
    "tensorflow-datasets",
)


def packages() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a source tree that is not installed
            continue
    return found


def versions() -> str:
    """The same in one line."""
    return ", ".join(f"{package} {version}" for package, version in packages().items())


def commit() -> str:
    """The commit of the source tree, and whether it was changed since; '' outside of one."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return ""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def describe(**more: Any) -> dict[str, Any]:
    """What is known of the code, and more; nothing that is empty."""
    found = {**more, "versions": versions(), "commit": commit()}
    return {name.replace("_", " "): value for name, value in found.items() if value}
