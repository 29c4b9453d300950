"""Contract tests for implementations of the protocols, shipped and of plug-ins; they need pytest.

A test class inherits a contract and says how to make the object under test:

    from nas.testing import SearchContract

    class TestMySearch(SearchContract):
        @staticmethod
        def make(space, seed):
            return MySearch(space, OBJECTIVES, seed=seed, constraints=())
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

_HOMES = {
    "ConstraintContract": "search",
    "DataContract": "data",
    "FamilyContract": "family",
    "MetricContract": "metric",
    "OBJECTIVES": "search",
    "RuntimeContract": "runtime",
    "SearchContract": "search",
    "StrategyContract": "strategy",
    "TaskContract": "task",
}
for _module in set(_HOMES.values()):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")  # so that failures show values

if TYPE_CHECKING:
    from nas.testing.data import DataContract as DataContract
    from nas.testing.family import FamilyContract as FamilyContract
    from nas.testing.metric import MetricContract as MetricContract
    from nas.testing.runtime import RuntimeContract as RuntimeContract
    from nas.testing.search import OBJECTIVES as OBJECTIVES
    from nas.testing.search import ConstraintContract as ConstraintContract
    from nas.testing.search import SearchContract as SearchContract
    from nas.testing.strategy import StrategyContract as StrategyContract
    from nas.testing.task import TaskContract as TaskContract

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """The names above, imported when they are first used: a test of an algorithm needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
