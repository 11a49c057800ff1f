"""Early stopping, decided by what has been logged: a resumed run decides as one never stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple


class Validation(NamedTuple):
    """Attributes: the `step` of a validation, and its mean `auc`, None where not defined."""

    step: int
    auc: float | None


def validations(workdir: Path, step: int) -> list[Validation]:
    """The validations that a run has logged up to a step, in order; lines cut off do not count."""
    path = workdir / "metrics.jsonl"
    found = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
            if entry["split"] == "validation" and entry["step"] <= step:
                found.append(Validation(entry["step"], entry["auc"]))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def reason_to_stop(history: list[Validation], patience: int) -> str | None:
    """Why training should end now.

    Args:
      history: All validations so far, one an epoch.
      patience: Number of epochs without a better mean AUC after which training ends; 0: never.

    Returns:
      One line, or None to go on. An AUC that is not defined (a split of one class) ends nothing.
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
