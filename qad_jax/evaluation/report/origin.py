"""What produced a set of scores: code, versions, machine, data."""

from __future__ import annotations

from typing import Any

from qad_jax.runs.versions import commit, packages


def describe(**more: Any) -> dict[str, Any]:
    """Lists the code, its versions and further facts by title; empty facts are left out."""
    versions = ", ".join(f"{package} {version}" for package, version in packages().items())
    facts = {**more, "versions": versions, "commit": commit()}
    return {name.replace("_", " "): value for name, value in facts.items() if value}
