"""Patches of other libraries' insides: one file each, so that nobody has to search for them.

The rule for a file in this folder:

- It patches one thing of one library, and says why the public interface does not suffice.
- It names the upstream report, or says that none is filed.
- It asks `applies` first: outside the versions it was tested with it changes nothing.
- Everything else works without it. The file states what is lost then, and a message says so when it
  happens.
"""

from __future__ import annotations

import importlib.metadata
import re


def applies(distribution: str, *, below: str, since: str = "0") -> bool:
    """Tells whether an installed distribution is in the range that a patch was tested with.

    Args:
      distribution: Name of the distribution, as `pip list` shows it.
      below: The first version that the patch is not for, such as '5' or '0.13'.
      since: The first version that it is for.

    Returns:
      Whether `since` <= version < `below`, by the numbers of the release alone: a pre-release
      counts as its release. False where the distribution is not installed.
    """
    try:
        installed = _release(importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        return False
    return _release(since) <= installed < _release(below)


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a release without zeros at the end: 5 and 5.0 are one version."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    if numbers is None:
        raise ValueError(f"{version!r} is not a version")
    parts = [int(number) for number in numbers[0].split(".")]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)
