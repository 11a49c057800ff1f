"""QAD in JAX/Flax: a deepfake detector that stays right when the video is compressed.

Nothing is imported here, so that `qad-jax --help` answers at once.
"""

__version__ = "0.1.0"
