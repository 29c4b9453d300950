"""Checks errors by their stable code instead of their prose."""

from nas.testing.errors import raises

__all__ = ["raises"]
