"""A user's own crops, listed in a JSON file."""

from data_builders.manifest.builder import Manifest as Builder

__all__ = ["Builder"]
