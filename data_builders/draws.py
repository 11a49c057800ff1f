"""Choices that look like chance and follow from a name: the same in any order, on any machine."""

from __future__ import annotations

import hashlib


def drawn(key: str, below: int) -> int:
    """Draws a number evenly.

    Args:
      key: What it is drawn for.
      below: How many numbers there are.

    Returns:
      A number from 0 to `below - 1`.
    """
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % below
