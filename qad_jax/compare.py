"""Compares two detectors on what both have scored. The code is in `qad_jax.evaluation.compare`."""

import sys

from qad_jax.evaluation.compare import main

if __name__ == "__main__":
    sys.exit(main())
