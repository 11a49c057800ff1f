"""Crops that DeepfakeBench has prepared and lists in its JSON."""

from data_builders.deepfakebench.builder import Deepfakebench as Builder

__all__ = ["Builder"]
