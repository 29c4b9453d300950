"""Search algorithms: ask and tell, no I/O."""

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used: a help text needs none of them.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
