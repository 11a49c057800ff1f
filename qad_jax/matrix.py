"""Many runs on many datasets in one table. The code is in `qad_jax.evaluation.matrix`."""

import sys

from qad_jax import cpu
from qad_jax.evaluation.matrix import main

if __name__ == "__main__":
    cpu.tune()
    sys.exit(main())
