"""FFIW10K: videos with several people, some of whose faces are swapped."""

from data_builders.ffiw10k.builder import Ffiw10k as Builder

__all__ = ["Builder"]
