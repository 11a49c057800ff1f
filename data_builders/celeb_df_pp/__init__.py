"""Celeb-DF++: the real videos of Celeb-DF, and fakes of 22 methods."""

from data_builders.celeb_df_pp.builder import CelebDfPp as Builder

__all__ = ["Builder"]
