"""How the crops were made that a detector was measured on, as its model file says it.

A detector is nearly blind on crops that are made in another way (`data_builders.faces`), so what
was measured on the ones says nothing of the others.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from data_builders.faces import Detected
from data_builders.files import is_number

# For each setting of the search its range, whether it is a whole number, and whether it may be
# None. P-Net looks at 12 pixels.
_SETTINGS = {
    "min_face": (12, 10_000, False, True),
    "max_side": (12, 10_000, True, True),
    "scale": (0.1, 10, False, False),
    "max_gap": (0, 10_000, True, False),
}


def search_of(recipe: Mapping[str, Any]) -> Detected | None:
    """Reads the search for faces that a recipe names, which may come from a stranger.

    Args:
      recipe: `crop` of a `model_file.Description`. What it does not say has its default.

    Returns:
      The search; None where the crops were made in another way, or in one that is not known.

    Raises:
      ValueError: A setting is of another type, or out of its range.
    """
    settings = {name: value for name, value in recipe.items() if name != "faces"}
    if recipe.get("faces") != Detected().recipe["faces"] or not settings.keys() <= _SETTINGS.keys():
        return None
    for name, value in settings.items():
        least, most, whole, may_be_none = _SETTINGS[name]
        if value is None and may_be_none:
            continue
        if not is_number(value) or (whole and type(value) is not int) or not least <= value <= most:
            kind = "whole number" if whole else "number"
            raise ValueError(
                f"crop: {name} is {reprlib.repr(value)}, must be a {kind} from {least} to {most}"
            )
    return Detected(**settings)
