"""MTCNN in JAX: finds faces with the weights of the `mtcnn` wheel, without TensorFlow.

Three small networks form a cascade. P-Net looks at every place of an image pyramid. R-Net and O-Net
look closer at the boxes that the network before has passed, move them, and pass fewer of them.

JAX is imported where a detector is made or called, and not with the package.

References:
  Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
  Networks", IEEE Signal Processing Letters 2016. The weights, thresholds and arithmetic of boxes
  are those of the Python package `mtcnn` 1.0.0 (MIT); `tests/test_faces.py` compares with it.
"""

from data_builders.mtcnn.detector import Detections, Detector

__all__ = ["Detections", "Detector"]
