"""Weights of other projects, and detectors for other runtimes. The code is in `qad_jax.weights`.

python -m qad_jax.models.pretrained FILE --out DIR
python -m qad_jax.models.pretrained DIR --export FILE.safetensors
python -m qad_jax.models.pretrained SOURCE --export FILE.onnx|FILE.stablehlo
"""

import sys

from qad_jax.weights.command import main
from qad_jax.weights.pretrained import Imported, convert, export, load, of_config, read

__all__ = ["Imported", "convert", "export", "load", "main", "of_config", "read"]

if __name__ == "__main__":
    sys.exit(main())
