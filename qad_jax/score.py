"""Evaluates the scores of another tool. The code is in `qad_jax.evaluation.external_scores`."""

import sys

from qad_jax.evaluation.external_scores import main

if __name__ == "__main__":
    sys.exit(main())
