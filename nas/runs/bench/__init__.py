"""Benchmarks that users run on their own data."""

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used: a help text needs no scikit-learn.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
