"""QAD in JAX/Flax: a deepfake detector that stays right when the video is compressed.

Nothing is imported here, so that ``python -m qad_jax.main --help`` answers at once.
"""
