"""Crops that DeepfakeBench prepared, listed in its JSON."""

from data_builders.deepfakebench.builder import Deepfakebench as Builder

__all__ = ["Builder"]
