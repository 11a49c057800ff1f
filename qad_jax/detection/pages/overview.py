"""The page over all files: how many got each answer, and a table that can be sorted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from qad_jax.detection.pages import parts, words
from qad_jax.detection.pages.parts import text
from qad_jax.detection.pages.style import STYLE
from qad_jax.detection.results import VERDICTS, Verdict, told_probability
from qad_jax.evaluation.report.document import document
from qad_jax.weights.model_file import Description

# Without it the table has the order of the command line, and no buttons that do nothing.
_SCRIPT = """
const table = document.querySelector(".files"), body = table.tBodies[0];
const keyOf = (row, column) => row.cells[column].dataset.key ?? row.cells[column].textContent;
const compare = (a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
[...table.tHead.rows[0].cells].forEach((head, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  head.setAttribute("aria-sort", "none");
  button.addEventListener("click", () => {
    const falls = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", falls ? "descending" : "ascending");
    const rows = [...body.rows], told = rows.filter((row) => keyOf(row, column) !== "");
    told.sort((a, b) => (falls ? -1 : 1) * compare(keyOf(a, column), keyOf(b, column)));
    body.append(...told, ...rows.filter((row) => keyOf(row, column) === ""));
  });
});
document.querySelector(".sortable").hidden = false;
"""


class Row(NamedTuple):
    """One file of the table.

    Attributes:
      page: Name of its page.
      file: Its path as it was given.
      verdict: One of `VERDICTS`.
      probability: Of fake; None where none is told.
      quality: The nearest measured quality.
      faces: Number of faces.
      reason: Why, in words.
    """

    page: str
    file: str
    verdict: str
    probability: float | None
    quality: str | None
    faces: int
    reason: str

    @classmethod
    def of(cls, page: str, verdict: Verdict) -> Row:
        """The row of a verdict."""
        return cls(
            page,
            verdict.file,
            verdict.verdict,
            told_probability(verdict),
            verdict.quality,
            len(verdict.faces),
            verdict.reason.removeprefix(f"{verdict.file}: "),
        )


def render(rows: Sequence[Row], model: Description, command: str) -> str:
    """Renders the page.

    Args:
      rows: The files, in the order of the command line.
      model: What the detector says of itself.
      command: The command that writes the pages.
    """
    title = words.OVERVIEW.format(files=words.counted(len(rows), "file"))
    counts = Counter(row.verdict for row in rows)
    body = [
        "<main>",
        f"<h1>{text(title)}</h1>",
        *parts.paragraphs([words.ANSWERS]),
        f"<h2>{text(words.COUNTS)}</h2>",
        parts.facts({words.SHORT[name]: counts[name] for name in VERDICTS}),
        f"<h2>{text(words.FILES)}</h2>",
        f'<p class="soft sortable" hidden>{text(words.SORTABLE)}</p>',
        _table(rows),
        *parts.conditions(model),
        *parts.command(words.ALL_COMMAND, command),
        "</main>",
    ]
    return document(title, body, style=STYLE, script=_SCRIPT, generator=parts.GENERATOR)


def _table(rows: Sequence[Row]) -> str:
    head = "".join(f'<th scope="col">{text(title)}</th>' for title in words.ALL_COLUMNS)
    lines = "".join(_line(row) for row in rows)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(words.FILES)}">'
        f'<table class="files"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
    )


def _line(row: Row) -> str:
    probability = "" if row.probability is None else f"{row.probability:.2f}"
    # The order of the answers is that of VERDICTS, and not that of the alphabet.
    place = VERDICTS.index(row.verdict)
    cells = (
        f'<td><a href="{text(row.page)}">{text(row.file)}</a></td>'
        f'<td data-key="{place}">{text(words.SHORT[row.verdict])}</td>'
        f'<td data-key="{"" if row.probability is None else row.probability}">{probability}</td>'
        f"<td>{text(row.quality or '')}</td><td>{row.faces}</td><td>{text(row.reason)}</td>"
    )
    return f"<tr>{cells}</tr>"
