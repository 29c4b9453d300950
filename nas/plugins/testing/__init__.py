"""Contract tests for implementations of the protocols, shipped and of plug-ins; they need pytest.

A test class inherits a contract and says how to make the object under test:

    from nas.plugins.testing import SearchContract

    class TestMySearch(SearchContract):
        @staticmethod
        def make(space, seed):
            return MySearch(space, OBJECTIVES, seed=seed, constraints=())
"""

import pkgutil

import lazy_loader
import pytest

# So that failures show values.
pytest.register_assert_rewrite(*(module.name for module in pkgutil.iter_modules(__path__, f"{__name__}.")))

# The names of `__init__.pyi` are imported when they are first used: a test of an algorithm needs no torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
