"""What the pace records in a run's store."""

from __future__ import annotations

from nas.engine.pace import RecordedPace
from nas.engine.search_progress import SearchProgress
from nas.engine.store.memory import MemoryStore


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_end_is_expected_at_the_phases_own_pace() -> None:
    store, clock = MemoryStore(), Clock()
    pace = RecordedPace(store, clock)
    for step in range(1, 11):  # one in three seconds
        pace.step(step, 40, 0.5)
        state = store.state()
        assert (state.step, state.steps) == (step, 40)
        assert state.expected_end == (None if step == 1 else clock.now + 3.0 * (40 - step))
        clock.now += 3.0
    pace.progress(SearchProgress("searching", 5, 25))
    assert store.state().expected_end is None  # the pace of the training says nothing about the search
    clock.now += 60.0
    pace.progress(SearchProgress("searching", 15, 25))
    assert store.state().expected_end == clock.now + 60.0
    assert store.state().step == 10


def test_the_store_is_written_at_most_every_two_seconds() -> None:
    store, clock = MemoryStore(), Clock()
    pace = RecordedPace(store, clock)
    seen = set()
    for step in range(1, 101):
        pace.step(step, 100, 0.5)
        seen.add(store.state().step)
        clock.now += 0.1
    assert len(seen) == 5
