"""DFDC preview: two methods, and actors who are named by number."""

from data_builders.dfdc_preview.builder import DfdcPreview as Builder

__all__ = ["Builder"]
