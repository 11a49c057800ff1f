"""The configuration that a run has left behind, as a file of configuration with an argument."""

from pathlib import Path

import ml_collections

from qad_jax import configs


def get_config(path: str) -> ml_collections.ConfigDict:
    """Reads `config.json` of a run."""
    return configs.stored(Path(path))
