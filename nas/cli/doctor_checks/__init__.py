"""Diagnoses an installation: software, machine, runs, and server, with remedies."""

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used: a help text needs no check.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
