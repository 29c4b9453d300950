"""The store in memory keeps the contract."""

from __future__ import annotations

import pytest

from nas.engine.store.memory import MemoryStore
from tests.contracts.store import NOW, StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore(clock=lambda: NOW)
