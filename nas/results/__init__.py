"""What is made of measurements: their analysis, plots, and exported networks."""

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used: reading a run needs neither torch nor matplotlib.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
