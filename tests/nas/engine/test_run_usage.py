"""What runs take, recorded by phase, beside what a plan expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.engine.run_usage import _MAX_PLANS, PLAN, RunUsage, keep_plan, kept_plan, usage_json
from nas.engine.store.folder import RunsFolder
from nas.engine.store.memory import MemoryStore

EXPECTED = {"time": {"total": {"seconds": 10.0, "low": 5.0, "high": 20.0}}, "memory": {"mib": 500.0}}


def test_drivers_of_a_run_add_their_phases_and_the_larger_peak_counts() -> None:
    store = MemoryStore()
    assert usage_json(store) == {"time": {}, "peak_mib": None, "planned": None}
    store.record_event(PLAN, EXPECTED)
    for _ in range(2):
        with RunUsage(store, is_command=False) as usage, usage.phase("search"):
            pass
    events = [event.detail for event in store.events()][1:]
    taken = usage_json(store)
    assert taken["planned"] == EXPECTED
    assert taken["time"] == {"search": sum(event["time"]["search"] for event in events)}
    assert taken["peak_mib"] == max(event["peak_mib"] for event in events) > 10


def test_the_start_of_a_command_counts() -> None:
    store = MemoryStore()
    with RunUsage(store, is_command=True):
        pass
    assert usage_json(store)["time"]["start"] > 0


def test_a_driver_that_fails_records_nothing() -> None:
    store = MemoryStore()
    with pytest.raises(ValueError, match="fails"), RunUsage(store, is_command=False):
        raise ValueError("it fails")
    assert usage_json(store)["time"] == {}


def test_a_plan_is_of_one_job_and_way(tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path)
    keep_plan(runs, "name: a", EXPECTED, inline=True)
    assert kept_plan(runs, "name: a", inline=True) == EXPECTED
    assert kept_plan(runs, "name: a", inline=False) is None
    assert kept_plan(runs, "name: b", inline=True) is None
    assert runs.list() == []
    for number in range(_MAX_PLANS + 5):
        keep_plan(runs, f"name: a{number}", EXPECTED, inline=True)
    files = list((runs.root / ".plans").iterdir())
    assert len(files) == _MAX_PLANS
    for file in files:
        file.write_text("{")
    assert kept_plan(runs, f"name: a{_MAX_PLANS + 4}", inline=True) is None
