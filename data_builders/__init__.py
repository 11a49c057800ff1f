"""How pixels are obtained: source videos and crops become paired, versioned TFDS datasets.

No module of this package imports JAX when it is imported, because reader and renderer processes
need none. Only the face detector (`mtcnn`) uses JAX, and imports it when it is called.
"""
