"""Serves verdicts over HTTP. The code is in `qad_jax.detection.server.command`."""

import sys

from qad_jax.detection.server.command import main

if __name__ == "__main__":
    sys.exit(main())
