"""Weights of other projects. The code is in `qad_jax.weights.pretrained`.

python -m qad_jax.models.pretrained FILE --out DIR
python -m qad_jax.models.pretrained DIR --export FILE.safetensors
"""

import sys

from qad_jax.weights.pretrained import Imported, convert, export, load, main, of_config, read

__all__ = ["Imported", "convert", "export", "load", "main", "of_config", "read"]

if __name__ == "__main__":
    sys.exit(main())
