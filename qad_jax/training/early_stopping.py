"""Early stopping, decided by the log: a resumed run decides as one that was never stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple


class Validation(NamedTuple):
    """One validation.

    Attributes:
      step: Steps taken.
      auc: Mean AUC over the qualities, None where it is not defined.
    """

    step: int
    auc: float | None


def validations(workdir: Path, step: int) -> list[Validation]:
    """Reads the validations that a run has logged up to a step; incomplete lines do not count."""
    path = workdir / "metrics.jsonl"
    logged = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
            if entry["split"] == "validation" and entry["step"] <= step:
                logged.append(Validation(entry["step"], entry["auc"]))
        except (ValueError, KeyError, TypeError):
            continue
    return logged


def reason_to_stop(history: list[Validation], patience: int) -> str | None:
    """Says why training should end now.

    Args:
      history: All validations so far, one for each epoch.
      patience: Training ends after this many epochs without a better mean AUC; 0: never.

    Returns:
      One line, or None where training should continue. An epoch whose AUC is not defined (a split
      of one class) does not count.
    """
    scored = [(validation.auc, validation) for validation in history if validation.auc is not None]
    if not patience or not scored:
        return None
    auc, best = max(scored, key=lambda pair: pair[0])  # the first, where several are equal
    since = sum(validation.step > best.step for _, validation in scored)
    if since < patience:
        return None
    return (
        f"stopped early at step {history[-1].step}: {since} epochs without a mean validation AUC "
        f"above the {auc:.4f} of step {best.step} (config.early_stop_patience)"
    )
