"""DeepFakeDetection: actors who play scenes, and swaps among them."""

from data_builders.deep_fake_detection.builder import DeepFakeDetection as Builder

__all__ = ["Builder"]
