"""Files that are there in full or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file so that readers see all of the content, or the file as it was before.

    Args:
      path: The file. Its folder is made where there is none.
      content: Its bytes, or text that is written as UTF-8.

    Raises:
      OSError: Where it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    os.replace(part, path)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON, indented by two, see `write_whole`."""
    write_whole(path, json.dumps(value, indent=2) + "\n")
