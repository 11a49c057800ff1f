"""How pixels are obtained: source videos and crops become paired, versioned TFDS datasets.

This package never imports jax: it runs in reader and renderer processes.
"""
