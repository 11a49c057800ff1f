"""UADFV: 49 pairs of videos from the first days of such fakes."""

from data_builders.uadfv.builder import Uadfv as Builder

__all__ = ["Builder"]
