"""The files of the page of the service: those of a fixed list, and no other of the disk."""

from __future__ import annotations

from pathlib import Path

from qad_jax.detection.pages.style import STYLE
from qad_jax.evaluation.report import document

_FOLDER = Path(__file__).with_name("page")
# The rules of all pages of this program, which are no file.
_SHARED = "shared.css"
_MODULES = ("detail", "downloads", "files", "page", "service", "table", "words")
_CSS = "text/css; charset=utf-8"
_TYPES = {
    _SHARED: _CSS,
    "page.css": _CSS,
    **{f"{name}.js": "text/javascript; charset=utf-8" for name in _MODULES},
    "texts.json": "application/json",
}


def index() -> bytes:
    """The page itself."""
    return (_FOLDER / "index.html").read_bytes()


def find(name: str) -> tuple[bytes, str] | None:
    """Content and media type of what the page loads; None where it loads no such file."""
    if name not in _TYPES:
        return None
    if name == _SHARED:
        return f"{document.STYLE}{STYLE}".encode(), _TYPES[name]
    return (_FOLDER / name).read_bytes(), _TYPES[name]
