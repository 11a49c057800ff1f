"""The thresholds of a detector, for benchmarks that judge at qualities of their own."""

from __future__ import annotations

from collections.abc import Sequence

from data_builders.errors import UserError
from qad_jax.evaluation.verdicts import Thresholds
from qad_jax.weights.model_file import Description


def of(described: Description, qualities: Sequence[str]) -> dict[str, Thresholds]:
    """The thresholds of each quality.

    Args:
      described: What the model says of itself.
      qualities: At which the benchmark judges.

    Raises:
      UserError: The model was not measured at one of them, or its thresholds are none.
    """
    known = described.qualities
    if missing := [quality for quality in qualities if quality not in known]:
        raise UserError(
            f"{described.name} {described.version}: was not measured at {', '.join(missing)}, only "
            f"at {', '.join(known)}; name another model"
        )
    try:
        return {name: Thresholds.from_dict(known[name]["thresholds"]) for name in qualities}
    except ValueError as error:
        raise UserError(f"{described.name} {described.version}: {error}") from error
