"""The JSON models of the REST API, for the server and its clients."""

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
