"""The family of all networks that a user's captured network contains."""

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used: the names of families are listed without torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
