"""Search spaces, as algorithms read them."""

from supernets.space import Architecture, Choice, SearchSpace

__all__ = ["Architecture", "Choice", "SearchSpace"]
