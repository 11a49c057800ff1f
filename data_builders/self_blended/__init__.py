"""Real faces of the user's own, and fakes that are blended from them."""

from data_builders.self_blended.builder import SelfBlended as Builder

__all__ = ["Builder"]
