"""How far the marks of a detector can be trusted that shows where a face looks changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

#: A place of which at least this share looks changed is marked.
MARKED = 0.5


@dataclasses.dataclass(frozen=True)
class Marks:
    """What was measured at one quality, on fakes and real images half and half.

    Attributes:
      right: Of the places that are marked, the share that was changed (precision).
      found: Of the places that were changed, the share that is marked (recall).
    """

    right: float
    found: float

    def __post_init__(self) -> None:
        if not (0 <= self.right <= 1 and 0 <= self.found <= 1):
            raise ValueError("the shares of right and found marks are not between 0 and 1")

    @classmethod
    def of(cls, measured: Mapping[str, Any]) -> dict[str, Marks]:
        """Reads those of each quality from the description of a model file; none where it has none.

        Raises:
          ValueError: They are no shares.
        """
        stored = measured.get("localisation") or {}
        try:
            return {
                str(quality): cls(float(of["right"]), float(of["found"]))
                for quality, of in stored.items()
            }
        except (TypeError, AttributeError, KeyError) as error:
            raise ValueError("the shares of right and found marks are no numbers") from error
