"""Links of pages: which ones lead nowhere. External links are read and never followed."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Attributes by which a page links to something, and those by which a browser loads something.
_LINKS = {"a": "href", "area": "href", "use": "href"}
_LOADS = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}
# Not loaded: the address of the page itself, and pages that come before and after it.
_UNLOADED = {"canonical", "next", "prev", "author", "search", "index", "license"}


class Page(HTMLParser):
    """The links, loaded files and anchors of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = {name: value or "" for name, value in attrs}
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        if tag in _LINKS and _LINKS[tag] in values:
            self.links.append(values[_LINKS[tag]])
        if tag in _LOADS and _LOADS[tag] in values:
            unloaded = tag == "link" and values.get("rel", "") in _UNLOADED
            (self.links if unloaded else self.loads).append(values[_LOADS[tag]])


class Markdown:
    """The links and headings of a Markdown file, outside its blocks of code."""

    def __init__(self, text: str) -> None:
        text = re.sub(r"^(```+|~~~+).*?^\1", "", text, flags=re.DOTALL | re.MULTILINE)
        self.anchors: set[str] = set()
        for heading in re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE):
            self._add(heading)
        text = re.sub(r"`[^`]*`", "", text)
        self.links = re.findall(r"\]\(\s*<?([^)\s>]+)", text)
        self.links += re.findall(r"^\[[^\]^]+\]: *(\S+)", text, re.MULTILINE)
        self.links += re.findall(r"<(\w+:[^>\s]+)>", text)
        self.links += re.findall(r"(?:href|src)=\"([^\"]*)\"", text)
        self.loads: list[str] = []

    def _add(self, heading: str) -> None:
        """The name that a host of the repository gives a heading; the second of a name gets -1."""
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        numbered = (f"{name}-{i}" for i in range(1, 100))
        self.anchors.add(name if name not in self.anchors else next(numbered))


def broken(folder: Path, files: list[Path], *, offline: bool = False) -> list[str]:
    """Says of each link that leads nowhere which file holds it.

    Args:
      folder: No link may lead out of it.
      files: HTML pages or Markdown files in it.
      offline: Whether files that a browser loads must lie in the folder.
    """
    pages: dict[Path, Page | Markdown] = {}

    def page(file: Path) -> Page | Markdown:
        if file not in pages:
            kind = Page if file.suffix == ".html" else Markdown
            pages[file] = kind(file.read_text(encoding="utf-8"))
        return pages[file]

    found = []
    for file in files:
        for link in [*page(file).links, *page(file).loads]:
            reason = _reason(folder, file, link, page)
            if offline and link in page(file).loads and urlsplit(link).netloc:
                reason = "needs the network"
            if reason:
                found.append(f"{file.relative_to(folder)}: {link}: {reason}")
    return found


def _reason(folder, file, link, page):
    parts = urlsplit(link)
    if parts.scheme in ("mailto", "data"):
        return ""
    if parts.scheme or parts.netloc:
        well_formed = re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc)
        return "" if parts.scheme == "https" and well_formed else "not an https address"
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if not target.is_relative_to(folder.resolve()):
        return "leads out of the folder"
    if not target.exists():
        return "no such file"
    has_anchors = target.suffix in (".html", ".md")
    dead = has_anchors and parts.fragment and unquote(parts.fragment) not in page(target).anchors
    return "no such anchor" if dead else ""
