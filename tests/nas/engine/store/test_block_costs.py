"""Costs by block are read back as they were recorded, in every kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.engine.store.base import RunStore
from nas.engine.store.block_costs import BLOCK_COSTS, BlockCosts, BlockLatencies, NetworkCosts, place_of
from nas.engine.store.memory import MemoryStore
from nas.engine.store.sql import SqlStore
from tests.contracts.run_facts import search_facts
from tests.errors import raises
from tests.nas.results.export.runs import PROFILE, SPACE, TWO

PLACES = ("stem", "stage0.block0", "head")
SMALL = NetworkCosts((10, 0, 5), (100, 0, 50), {"cpu": BlockLatencies((0.5, 0.0, -0.01), 0.2)})
LARGE = NetworkCosts((10, 20, 5), (100, 200, 50))


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunStore]:
    is_file = request.param == "sqlite"
    made = SqlStore.open(tmp_path / "run.db", create=True, driver=True) if is_file else MemoryStore()
    yield made
    made.close()


def test_costs_are_kept_beside_those_recorded_before(store: RunStore) -> None:
    facts = search_facts(SPACE, TWO, profiles=[PROFILE])
    store.describe(facts)
    assert store.block_costs() == BlockCosts()
    store.record_block_costs(BlockCosts(PLACES, {"0-0": SMALL}))
    store.record_block_costs(BlockCosts(PLACES, {"1-1": LARGE}))
    assert store.block_costs() == BlockCosts(PLACES, {"0-0": SMALL, "1-1": LARGE})
    assert store.facts() == facts
    assert SMALL.latencies["cpu"].total_ms == pytest.approx(0.69)


def test_damaged_costs_are_refused(store: RunStore) -> None:
    store._set_values({BLOCK_COSTS: {"places": [], "networks": {"0": {"macs": []}}}})
    with raises("store.damaged", "parameters"):
        store.block_costs()


@pytest.mark.parametrize(
    ("module", "place"),
    [("stages.0.12", "stage0.block12"), ("blocks.3", "block3"), ("layers.11", "layer11"), ("classifier", "classifier")],
)
def test_places_are_named_as_the_choices_are(module: str, place: str) -> None:
    assert place_of(module) == place
