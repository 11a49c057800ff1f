"""DFDC: the DeepFake Detection Challenge, in 50 parts and two test sets."""

from data_builders.dfdc.builder import Dfdc as Builder

__all__ = ["Builder"]
