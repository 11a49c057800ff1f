"""Makes a model file of a run. The code is in `qad_jax.evaluation.release`."""

import sys

from qad_jax.evaluation.release import main

if __name__ == "__main__":
    sys.exit(main())
