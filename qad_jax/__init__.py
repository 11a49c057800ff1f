"""QAD in JAX/Flax: deepfake detection on compressed video, with its error rates at each quality.

Nothing is imported here before it is used, so that `qad-jax --help` answers at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qad_jax.detection.detector import Detector

__version__ = "0.1.0"
__all__ = ["Detector", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Detector":
        return importlib.import_module("qad_jax.detection.detector").Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
