"""`nas.driver`: what of an earlier search's measurements a resumed one starts from."""

from __future__ import annotations

from nas.driver import calm_levels
from nas.objectives import Measurement, Request, Status
from nas.store.memory import MemoryStore
from tests.contracts.search import space_of


def test_a_resumed_search_knows_each_session_of_a_profile_once() -> None:
    store, space = MemoryStore(), space_of(4)
    networks = space.enumerate()
    for i, level in enumerate([1.0, 1.0, 2.0, 2.1, 2.0, 2.1]):  # retries leave sessions in turns
        request = Request(networks[i], "latency_ms", "cpu")
        store.add(Measurement(request, Status.OK, 1.0, 0.1, environment={"level_ms": level}))
    store.add(Measurement(Request(networks[0], "accuracy"), Status.OK, 0.9, 0.1))
    assert calm_levels(store) == {"cpu": [1.0, 2.0, 2.1]}
