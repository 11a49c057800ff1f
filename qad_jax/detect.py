"""Judges files. The code is in `qad_jax.detection.command`."""

import sys

from qad_jax.detection.command import main

if __name__ == "__main__":
    sys.exit(main())
