"""The frame of an HTML page in one file: no network, light, dark, narrow and printed."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence

#: Colours and forms that all pages share.
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --page: #fff; --line: #d5dae0;
  --band: #f3f5f8; --mark: #b35900; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --soft: #9aa5b1; --page: #14171b;
  --line: #363d46; --band: #1e2329; --mark: #ffa94d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem; max-width: 76rem; color: var(--ink);
  background: var(--page); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0.2rem 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 0.6rem; border-bottom: 1px solid var(--line); }
.headline { font-size: 1.2rem; border-left: 4px solid var(--mark); padding-left: 0.8rem; }
.soft, figcaption, caption { color: var(--soft); font-size: 0.9rem; }
.wide { overflow-x: auto; } .wide + .wide { margin-top: 1.4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92rem;
  white-space: nowrap; }
caption { text-align: left; white-space: normal; max-width: calc(100vw - 3.4rem); }
th, td { padding: 0.25rem 0.6rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
tbody tr:nth-child(even) { background: var(--band); }
.low { color: var(--soft); font-size: 0.85em; }
.figures, .clips { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit,
  minmax(min(100%, 21rem), 1fr)); }
figure { margin: 0; max-width: 30rem; }
figure svg { display: block; width: 100%; height: auto; }
.clips { grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
.clip { border: 1px solid var(--line); border-radius: 6px; padding: 0.6rem; }
.crops { display: flex; flex-wrap: wrap; gap: 0.5rem; }
.crops figure { width: 5.4rem; }
.crops img { width: 100%; display: block; image-rendering: auto; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: 0.2rem 1rem; }
dt { color: var(--soft); } dd { margin: 0; }
pre { white-space: pre-wrap; background: var(--band); padding: 0.8rem; font-size: 0.85rem; }
@media print { :root { --ink: #000; --soft: #444; --page: #fff; --line: #bbb;
  --band: #f2f2f2; --mark: #b35900;
  color-scheme: light; } body { max-width: none; padding: 0; font-size: 11px; }
  figure, .clip, tr { break-inside: avoid; } .wide { overflow: visible; }
  table { font-size: 9px; } th, td { padding: 0.1rem 0.3rem; } }
"""


def escaped(value: object) -> str:
    """Text that is no markup, in an element and in an attribute."""
    return html.escape(str(value))


def document(
    title: str, parts: Sequence[str], *, style: str = "", script: str = "", generator: str = ""
) -> str:
    """Puts the parts of a page into a document.

    Args:
      title: Its title, as text.
      parts: The elements of its body, as HTML.
      style: Rules that this page needs beside `STYLE`.
      script: A script; the browser runs it and no other.
      generator: The program that writes such pages, as text. It comes first in the file.

    Returns:
      The page. A browser that shows it fetches nothing.
    """
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
    named = f'<meta name="generator" content="{escaped(generator)}">\n' if generator else ""
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{named}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{escaped(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n{body}\n"
        f"{f'<script>{script}</script>' if script else ''}</body>\n</html>\n"
    )
