"""Facts and states of earlier versions are read with the defaults; damaged ones, and those of later versions, are not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nas.engine.store.run_facts import VERSION, RunFacts, SearchFacts
from nas.engine.store.run_state import RunState
from nas.engine.store.sql import SqlStore
from nas.search.problem.budget import Budget, Stop, StopReason
from nas.search.problem.variants import Variants
from tests.contracts.run_facts import ONE_CHOICE, search_facts
from tests.errors import raises
from tests.nas.engine.store.test_sql import by_hand

OLDEST: Mapping[str, Any] = {
    "kind": "search",
    "space": ONE_CHOICE.to_json(),
    "profiles": [],
    "objectives": ["accuracy"],
    "evaluations": 30,
}
"""What the first versions stored, and nothing that was added later."""


def test_what_the_first_versions_did_not_store_has_its_default() -> None:
    facts = RunFacts.from_json(OLDEST)
    assert facts is not None
    assert isinstance(facts.search, SearchFacts)
    assert facts.search.variants == Variants(("fp32",))
    assert (facts.search.constraints, facts.search.reused, facts.search.prior_results) == ((), (), ())
    assert (facts.name, facts.epochs) == ("", 0)
    assert RunState.from_json(OLDEST) == RunState(budget=Budget(30))


def test_a_stored_sentence_is_a_stop() -> None:
    assert RunState.from_json({"stopped": "the budget of evaluations is used up"}).stop == Stop(StopReason.EVALUATIONS)
    assert RunState.from_json({"stopped": None}).stop is None


def test_facts_without_a_kind_are_those_of_a_run_that_was_killed_while_they_were_written() -> None:
    assert RunFacts.from_json({"name": "half", "seed": 3}) is None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store = SqlStore.open(tmp_path / "run.db", create=True, driver=True)
    store.describe(search_facts(), budget=Budget(30))
    store.close()
    return tmp_path / "run.db"


@pytest.mark.parametrize(
    ("name", "value", "mentions"),
    [
        ("space", {"a": 1}, "space"),
        ("objectives", ["speed"], "speed"),
        ("final", ["no key"], "no key"),
        ("plateau", {"evaluations": 1}, "gain"),
    ],
)
def test_a_damaged_description_is_an_error_that_names_the_store(
    path: Path, name: str, value: object, mentions: str
) -> None:
    by_hand(path, "DELETE FROM info WHERE name = ?", name)
    by_hand(path, "INSERT INTO info VALUES (?, ?)", name, json.dumps(value))
    store = SqlStore.open(path, create=False, driver=False)
    try:
        with raises("store.damaged", str(path), mentions):
            store.facts(), store.state()
    finally:
        store.close()


def test_facts_of_a_later_version_are_not_called_damaged(path: Path) -> None:
    by_hand(path, "DELETE FROM info WHERE name = ?", "facts_version")
    by_hand(path, "INSERT INTO info VALUES (?, ?)", "facts_version", json.dumps(VERSION + 1))
    store = SqlStore.open(path, create=False, driver=False)
    try:
        with raises("store.unknown-version", str(VERSION + 1)):
            store.facts()
    finally:
        store.close()
