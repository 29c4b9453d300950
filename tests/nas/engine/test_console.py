"""The display: the time that is left, from a pace that neither batches nor a resumed search's past confuse."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from nas.engine.console import ConsoleProgress, MinuteProgress
from nas.engine.progress import Pace
from nas.engine.search_progress import SearchProgress
from nas.engine.store.folder import RunFolder
from nas.search.problem.budget import Budget
from nas.search.problem.constraints import NearestInfeasible
from nas.search.problem.objectives import Constraint, Objective
from supernets.space import Architecture
from tests.contracts.run_facts import search_facts


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_wait_is_in_the_last_bar_with_its_time_and_elsewhere_a_line() -> None:
    for terminal in (True, False):
        clock, out = Clock(), io.StringIO()
        display = ConsoleProgress(Console(file=out, force_terminal=terminal, width=160), clock)
        display.progress(SearchProgress("searching", 1, 30))
        display.waiting("waiting for process 7")
        clock.now += 42
        shown = Console(file=io.StringIO(), width=160)
        shown.print(display.bars)
        assert "waiting for 42 s" in shown.file.getvalue()
        display.waiting("")
        shown.print(display.bars)
        assert shown.file.getvalue().count("waiting for") == 1
        assert "waiting for process 7" in out.getvalue()


def test_a_run_of_a_program_prints_a_line_a_minute_and_nothing_of_a_short_one() -> None:
    clock, out = Clock(), io.StringIO()
    display = MinuteProgress(Console(file=out, force_terminal=False, width=80), clock)
    display.note("a note of the run")
    for step in range(1, 60):
        clock.now += 1.0
        display.step(step, 300, 0.5)
    assert out.getvalue() == ""
    for n in range(1, 101):
        clock.now += 3.0
        display.progress(SearchProgress("searching", n, 100, front=4))
    lines = out.getvalue().splitlines()
    assert [line.partition(" of ")[0] for line in lines] == [f"searching: {n}" for n in (1, 21, 41, 61, 81)]
    assert all("left" in line and "front 4" in line for line in lines[1:])


def test_an_even_pace_foretells_the_rest() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.left(0, 100) is None
    for done in range(1, 41):
        clock.now += 2.0
        left = pace.left(done, 100)
    assert left == pytest.approx(120.0)
    clock.now += 1.5  # nothing new: the rest comes nearer
    assert pace.left(40, 100) == pytest.approx(118.5)
    assert pace.left(100, 100) is None


def test_batches_whose_figures_arrive_together() -> None:
    clock = Clock()
    pace = Pace(clock)
    for batch in range(5):
        clock.now += 8.0
        for done in range(8 * batch, 8 * batch + 9):
            left = pace.left(done, 80)
            clock.now += 0.001
    assert left == pytest.approx(40.0, rel=0.02)


def test_what_a_resumed_search_had_done_is_no_pace() -> None:
    clock = Clock()
    pace = Pace(clock)
    for done in range(61):  # replayed in a moment
        pace.left(done, 100)
        clock.now += 0.001
    for done in range(61, 80):
        clock.now += 3.0
        left = pace.left(done, 100)
    assert left == pytest.approx(63.0, rel=0.01)


def test_lines_tell_it_where_there_is_no_terminal() -> None:
    clock, text = Clock(), io.StringIO()
    with ConsoleProgress(Console(file=text, width=200), clock) as observer:
        for done in range(0, 101, 10):
            observer.progress(SearchProgress("searching", done, 100, 0.5, 7))
            clock.now += 30.0
    lines = text.getvalue().splitlines()
    assert "searching: 50 of 100  2.5 min left  front 7  hypervolume 0.5" in lines
    assert lines[-1] == "searching: 100 of 100  front 7  hypervolume 0.5"


@pytest.mark.parametrize("width", [80, 120, 200])
def test_count_bar_and_time_left_stay_on_a_narrow_terminal(width: int) -> None:
    latency = Objective.parse("latency_ms", ["cpu-1-thread-batch-16"])
    miss = NearestInfeasible.from_values(Architecture((0, 1)), {latency.name: 3.0}, [Constraint(latency, maximum=2.0)])
    clock, out = Clock(), io.StringIO()
    with ConsoleProgress(Console(file=out, width=width, force_terminal=True, color_system=None), clock) as observer:
        for done in (8, 16, 24):
            clock.now += 60.0
            observer.step(done, 4000, 0.5)
            observer.progress(SearchProgress("searching", done, 1000, 0.5, 7, 3, miss))
            observer.progress(SearchProgress("measuring the front again", done, 120))
    training, searching, measuring = out.getvalue().splitlines()[-4:-1]
    for line, shown in ((training, "24/4000 +8.3 h"), (searching, "24/1000 +2 h"), (measuring, "━━━━ +24/120 +12 min")):
        assert re.search(f"{shown} left", line), line
        assert len(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", line)) <= width
    assert ("nearest: latency_ms@cpu-1-thread-batch-16 3 ms" in searching) is (width == 200)


def test_the_clock_of_a_phase_stops_with_it() -> None:
    clock, out = Clock(), io.StringIO()
    console = Console(file=out, width=120, force_terminal=True, color_system=None, get_time=lambda: clock.now)
    with ConsoleProgress(console, clock) as observer:
        observer.count("reading images", 1, 10)
        clock.now += 60.0
        observer.count("measuring again", 1, 10)
        clock.now += 600.0
        observer.count("measuring again", 2, 10)
    reading, measuring = out.getvalue().splitlines()[-3:-1]
    assert "60 s so far" in reading
    assert "10 min so far" in measuring


@pytest.mark.parametrize(
    ("evaluations", "guidance"),
    [(40, "guided: models choose from evaluation 27 on"), (16, "guided: 16 evaluations end before there are models")],
)
def test_a_run_begins_with_its_folder_and_its_guidance(evaluations: int, guidance: str) -> None:
    out = io.StringIO()
    facts = search_facts(algorithm="guided", models_from=27)
    with ConsoleProgress(Console(file=out, width=200)) as observer:
        observer.begin(RunFolder(Path("runs/glyphs-1")), facts, Budget(evaluations), 0)
    first, second = out.getvalue().splitlines()
    assert first == "run glyphs-1 in runs/glyphs-1"
    assert second.startswith(guidance)


def test_the_nearest_is_told_while_nothing_keeps_the_limits() -> None:
    latency = Objective.parse("latency_ms", ["cpu"])
    limit = Constraint(latency, maximum=2.0)
    miss = NearestInfeasible.from_values(Architecture((0, 1)), {latency.name: 3.0}, [limit])
    out = io.StringIO()
    with ConsoleProgress(Console(file=out, width=200)) as observer:
        observer.progress(SearchProgress("searching", 10, 20, 0.0, 0, 0, miss))
        observer.progress(SearchProgress("searching", 20, 20, 0.1, 3))
    told = out.getvalue()
    assert "nothing keeps the limits yet, nearest: latency_ms@cpu 3 ms (at most 2 ms: 50.0 % over)" in told
    assert "front 3" in told.splitlines()[-1]
