"""FaceForensics++: a thousand videos of people who speak, and five manipulations of each."""

from data_builders.face_forensics.builder import FaceForensics as Builder

__all__ = ["Builder"]
