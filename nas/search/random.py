"""Random search: the baseline that every other algorithm must beat."""

from __future__ import annotations

from nas.search.history import ProposingSearch


class RandomSearch(ProposingSearch):
    """Every gene uniform over its levels, without repetition: batches of random architectures alone."""
