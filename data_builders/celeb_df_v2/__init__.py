"""Celeb-DF (v2): interviews with celebrities, and fakes with faces swapped among them."""

from data_builders.celeb_df_v2.builder import CelebDfV2 as Builder

__all__ = ["Builder"]
