"""WildDeepfake: sequences of crops from fakes that people have made."""

from data_builders.wild_deepfake.builder import WildDeepfake as Builder

__all__ = ["Builder"]
