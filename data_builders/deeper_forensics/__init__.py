"""DeeperForensics-1.0: actors swapped into FaceForensics++, and perturbed."""

from data_builders.deeper_forensics.builder import DeeperForensics as Builder

__all__ = ["Builder"]
