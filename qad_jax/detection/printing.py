"""What `qad-jax detect` prints of a file: a line for people, a row of a table, or JSON."""

from __future__ import annotations

from collections.abc import Iterator

from data_builders.errors import one_line
from data_builders.files import csv_text
from qad_jax.detection.results import FAKE, REAL, Verdict, told_probability
from qad_jax.evaluation.results import Estimate

#: The columns of `--csv`.
COLUMNS = ("file", "sha256", "verdict", "probability", "quality", "reason")
_PRINTABLE = ("utf-8", "backslashreplace")  # names of files may have bytes that are no characters


def line(verdict: Verdict) -> str:
    """What the terminal says of a file."""
    parts = [f"{verdict.file}: {verdict.verdict.replace('_', ' ')}"]
    if (probability := told_probability(verdict)) is not None:
        parts.append(f"probability of fake {probability:.2f}")
    if verdict.quality is not None:
        parts.append(f"quality near {verdict.quality}")
    if verdict.verdict == FAKE:
        parts += _how_often(verdict.false_positive_rate, "real clips", FAKE)
    if verdict.verdict == REAL:
        parts += _how_often(verdict.false_negative_rate, "fakes", REAL)
    if verdict.reason:
        reason = verdict.reason.removeprefix(f"{verdict.file}: ")
        parts.append(reason)
    return one_line("; ".join(parts))


def _how_often(rate: Estimate | None, clips: str, called: str) -> Iterator[str]:
    """How often this answer is wrong, where it was measured."""
    if rate is None or rate.value is None:
        return
    count = f"about {1000 * rate.value:.0f}"
    if rate.value == 0:
        if rate.high is None:  # of one person, which says nothing of others
            return
        count = f"fewer than {rate.most_of_1000}"
    elif 1000 * rate.value < 0.5:
        count = "fewer than 1"
    yield f"of 1000 {clips} of this quality {count} are called {called}"


def row(verdict: Verdict) -> str:
    """The row of a table, with the end of its line."""
    cells = [getattr(verdict, column) for column in COLUMNS]
    return csv_text(cells, []).encode(*_PRINTABLE).decode()
