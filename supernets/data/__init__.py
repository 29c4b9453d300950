"""Data sets in memory, as three parts that never mix; `load_data` makes them."""

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used: files are read and checked without torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
