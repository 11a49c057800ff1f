"""How far the marks of a detector can be trusted that shows where a face looks changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from data_builders.files import is_number

#: A place of which at least this share looks changed is marked.
MARKED = 0.5


@dataclasses.dataclass(frozen=True)
class Marks:
    """What was measured at one quality, on fakes and real images half and half.

    Attributes:
      right: Of the places that are marked, the share that was changed (precision).
      found: Of the places that were changed, the share that is marked (recall).
      false: Of the real images, the share with a mark anywhere.
    """

    right: float
    found: float
    false: float

    def __post_init__(self) -> None:
        if not all(0 <= share <= 1 for share in (self.right, self.found, self.false)):
            raise ValueError("the shares of marks are not between 0 and 1")

    @classmethod
    def of(cls, measured: Mapping[str, Any]) -> dict[str, Marks]:
        """Reads those of each quality from the description of a model file; none where it has none.

        Raises:
          ValueError: They are no shares.
        """
        stored = measured.get("localisation") or {}
        try:
            shares = {
                quality: [of[field.name] for field in dataclasses.fields(cls)]
                for quality, of in stored.items()
            }
        except (TypeError, AttributeError, KeyError) as error:
            raise ValueError("the shares of marks are no numbers") from error
        if not all(is_number(share) for each in shares.values() for share in each):
            raise ValueError("the shares of marks are no numbers")
        return {str(quality): cls(*map(float, each)) for quality, each in shares.items()}
