"""FFIW10K: videos of several people, some of whom have a swapped face."""

from data_builders.ffiw10k.builder import Ffiw10k as Builder

__all__ = ["Builder"]
