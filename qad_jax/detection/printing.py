"""What `qad-jax detect` prints of a file: a line for people, a row of a table, or JSON."""

from __future__ import annotations

from data_builders.errors import one_line
from data_builders.files import csv_text
from qad_jax.detection.results import FAKE, REAL, Verdict

#: The columns of `--csv`.
COLUMNS = ("file", "sha256", "verdict", "probability", "quality", "reason")
_PRINTABLE = ("utf-8", "backslashreplace")  # names of files may have bytes that are no characters


def line(verdict: Verdict) -> str:
    """What the terminal says of a file."""
    parts = [f"{verdict.file}: {verdict.verdict.replace('_', ' ')}"]
    if verdict.probability is not None:
        parts.append(f"probability of fake {verdict.probability:.2f}")
        parts.append(f"quality near {verdict.quality}")
    rate = verdict.false_positive_rate
    if verdict.verdict == FAKE and rate is not None and rate.value is not None:
        parts.append(
            f"of 1000 real clips of this quality about {1000 * rate.value:.0f} are called fake"
        )
    rate = verdict.false_negative_rate
    if verdict.verdict == REAL and rate is not None and rate.value is not None:
        parts.append(f"of 1000 fakes of this quality about {1000 * rate.value:.0f} are called real")
    if verdict.reason:
        reason = verdict.reason.removeprefix(f"{verdict.file}: ")
        parts.append(reason)
    return one_line("; ".join(parts))


def row(verdict: Verdict) -> str:
    """The row of a table, with the end of its line."""
    cells = [getattr(verdict, column) for column in COLUMNS]
    return csv_text(cells, []).encode(*_PRINTABLE).decode()
