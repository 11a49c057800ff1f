"""DF40: crops of forty methods, by the lists of its authors."""

from data_builders.df40.builder import Df40 as Builder

__all__ = ["Builder"]
