"""MTCNN in JAX: finds faces with the weights of the `mtcnn` wheel, without TensorFlow.

Three small networks in a cascade: P looks at every place of an image pyramid, R and O look closer
at what the one before let through, move its box, and let less through.

References:
  Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
  Networks", IEEE Signal Processing Letters 2016. The weights, thresholds and arithmetic of boxes
  are those of the Python package `mtcnn` 1.0.0 (MIT), with which `tests/test_faces.py` compares.
"""

from data_builders.mtcnn.detector import Detections, Detector

__all__ = ["Detections", "Detector"]
