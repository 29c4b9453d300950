"""The order of the queue and its expected starts, by rules that are computed by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from nas.service.jobs.fair_share import ActiveRun, FairShare
from nas.service.state import Priority, Submission


def waiting_run(
    run: str,
    person: str,
    submitted: float,
    priority: Priority = Priority.NORMAL,
    place: int | None = None,
    expected_s: float | None = None,
) -> Submission:
    return Submission(run, "search", submitted, person, priority=priority, place=place, expected_s=expected_s)


def waiting(*entries: str, expected_s: float | None = 600.0) -> list[Submission]:
    """Runs such as ``a1``: the first of person a; they were submitted in this order."""
    return [waiting_run(name, name[0], float(n), expected_s=expected_s) for n, name in enumerate(entries)]


def names(runs: list[Submission]) -> list[str]:
    return [run.run for run in runs]


def test_one_person_s_runs_start_in_the_order_of_their_submission() -> None:
    assert names(FairShare().order(reversed(waiting("a1", "a2", "a3")))) == ["a1", "a2", "a3"]


def test_six_people_take_turns_though_one_has_filled_the_queue() -> None:
    flood = [f"a{n}" for n in range(50)]
    ordered = names(FairShare().order(waiting(*flood, "b1", "c1", "d1", "e1", "f1", "b2")))
    assert ordered[:7] == ["a0", "b1", "c1", "d1", "e1", "f1", "a1"]
    assert ordered[7] == "b2"
    assert ordered[8:] == flood[2:]


def test_who_used_the_least_of_late_is_next() -> None:
    share = FairShare(used_s={"a": 5000.0, "b": 100.0, "c": 4000.0})
    assert names(share.order(waiting("a1", "b1", "b2", "c1"))) == ["b1", "b2", "c1", "a1"]


def test_running_runs_count_with_what_they_still_need() -> None:
    active = [ActiveRun("a0", "a", elapsed_s=100.0, expected_s=1000.0)]
    share = FairShare(used_s={"a": 100.0, "b": 900.0}, active=active)
    assert names(share.order(waiting("a1", "b1"))) == ["b1", "a1"]  # 1,000 s of a, and 900 s of b
    assert names(FairShare(used_s=share.used_s).order(waiting("a1", "b1"))) == ["a1", "b1"]


def test_short_runs_take_more_turns() -> None:
    long = [waiting_run(f"a{n}", "a", n, expected_s=3000.0) for n in range(2)]
    short = [waiting_run(f"b{n}", "b", 10 + n, expected_s=1000.0) for n in range(5)]
    assert names(FairShare().order([*long, *short])) == ["a0", "b0", "b1", "b2", "a1", "b3", "b4"]


def test_priorities_come_before_shares_and_places_before_priorities() -> None:
    runs = [
        waiting_run("low", "b", 0, Priority.LOW),
        waiting_run("normal", "a", 1),
        waiting_run("second", "a", 2, Priority.LOW, place=2),
        waiting_run("high", "a", 3, Priority.HIGH),
        waiting_run("first", "a", 4, place=1),
    ]
    assert names(FairShare(used_s={"a": 1e6}).order(runs)) == ["first", "second", "high", "normal", "low"]


def test_people_start_no_more_than_their_limit() -> None:
    share = FairShare(at_once=3, at_once_of_person=2)
    assert share.may_start("a", Counter(a=1, b=1))
    assert not share.may_start("a", Counter(a=2))
    assert share.may_start("b", Counter(a=2))
    assert not share.may_start("b", Counter(a=2, c=1))


def test_expected_starts_follow_from_durations_and_places() -> None:
    share = FairShare(at_once=2, active=[ActiveRun("x", "x", 100.0, 400.0), ActiveRun("y", "y", 50.0, 150.0)])
    starts = share.expected_starts(waiting("a1", "b1", "c1", expected_s=1000.0), now=10_000.0)
    assert starts == {"a1": 10_100.0, "b1": 10_300.0, "c1": 11_100.0}
    late = FairShare(active=[ActiveRun("x", "x", 500.0, 400.0)])  # it is overdue: at any moment
    assert late.expected_starts(waiting("a1"), now=0.0) == {"a1": 0.0}


def test_expected_starts_regard_the_limit_of_a_person() -> None:
    share = FairShare(at_once=2, at_once_of_person=1)
    starts = share.expected_starts(waiting("a1", "a2", "b1", expected_s=100.0), now=0.0)
    assert starts == {"a1": 0.0, "b1": 0.0, "a2": 100.0}


@pytest.mark.parametrize("active", [[], [ActiveRun("x", "x", 1.0)]])
def test_what_depends_on_an_unknown_duration_has_no_expected_start(active: list[ActiveRun]) -> None:
    starts = FairShare(active=active).expected_starts(waiting("a1", "a2", expected_s=None), now=5.0)
    assert starts == ({} if active else {"a1": 5.0})
