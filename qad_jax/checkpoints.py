"""Restoring a trained model: `from qad_jax import checkpoints`. The code is in `qad_jax.runs`."""

from qad_jax.runs.checkpoints import Checkpoints, restore_for_evaluation

__all__ = ["Checkpoints", "restore_for_evaluation"]
