"""Captures any torch module as data: its operations, its tensors, and the axes that its dimensions share."""

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used: the names of models are checked without torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
