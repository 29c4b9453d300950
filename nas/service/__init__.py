"""The service: jobs by HTTP, by web page and by command, run as Ray Jobs and kept through restarts."""

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used: a client needs no part of the server.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
