"""Celeb-DF (v1): fewer people than v2, and a test list of its own."""

from data_builders.celeb_df_v1.builder import CelebDfV1 as Builder

__all__ = ["Builder"]
