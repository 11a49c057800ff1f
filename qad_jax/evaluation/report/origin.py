"""What made a set of scores: code, versions, machine, data."""

from __future__ import annotations

from typing import Any

from qad_jax.runs.versions import commit, packages


def describe(**more: Any) -> dict[str, Any]:
    """What is known of the code, and more; nothing that is empty."""
    versions = ", ".join(f"{package} {version}" for package, version in packages().items())
    found = {**more, "versions": versions, "commit": commit()}
    return {name.replace("_", " "): value for name, value in found.items() if value}
