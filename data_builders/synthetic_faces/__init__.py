"""The embedded dataset: no download, a minute to make, and hard in the way the real task is."""

from data_builders.synthetic_faces.builder import SyntheticFaces as Builder

__all__ = ["Builder"]
