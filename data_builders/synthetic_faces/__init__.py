"""The embedded dataset: no download, made in a minute, and hard as the real task is."""

from data_builders.synthetic_faces.builder import SyntheticFaces as Builder

__all__ = ["Builder"]
