"""The user's own crops, which a JSON file lists."""

from data_builders.manifest.builder import Manifest as Builder

__all__ = ["Builder"]
