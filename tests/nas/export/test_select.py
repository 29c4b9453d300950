"""Limits are read as written, and the most accurate member within them is taken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas.errors import SelectionError, UnknownNameError
from nas.export.report import Point, RunReport, build_report
from nas.export.select import by_index, knee, parse_limits, select
from tests.nas.export.runs import PROFILE, example_run

LATENCY = f"latency_ms@{PROFILE}"


@pytest.fixture(scope="module")
def report() -> RunReport:
    return build_report(example_run(), run="example-1")


def most_accurate(points: list[Point]) -> float:
    return max(p.values["accuracy"] for p in points)


@pytest.mark.parametrize("text", ["latency_ms<=0.5", f" {LATENCY} <= 5e-1 ", "latency_ms<0.5, accuracy>0.1"])
def test_the_most_accurate_within_the_limits_is_taken(report: RunReport, text: str) -> None:
    within = [p for p in report.front if p.values[LATENCY] <= 0.5]
    assert 1 < len(within) < len(report.front)
    assert select(report, text).values["accuracy"] == most_accurate(within)


@pytest.mark.parametrize("joint", [",", " and ", " AND ", " , "])
def test_all_of_several_limits_must_hold(report: RunReport, joint: str) -> None:
    first, second = parse_limits(report, f"latency_ms<=1{joint}accuracy>=0.8")
    assert (first.objective.name, first.sign, first.bound) == (LATENCY, "<=", 1.0)
    assert (second.objective.name, second.sign, second.bound) == ("accuracy", ">=", 0.8)


def test_strict_and_loose_signs_differ_at_the_bound(report: RunReport) -> None:
    bound = report.front[3].values[LATENCY]
    assert report.front[3].values[LATENCY] == bound
    loose, strict = (parse_limits(report, f"latency_ms{sign}{bound!r}")[0] for sign in ("<=", "<"))
    assert loose.holds(report.front[3])
    assert not strict.holds(report.front[3])


def test_the_cheapest_of_equally_accurate_ones_is_taken(report: RunReport) -> None:
    fast, slow = report.front[2], report.front[3]
    level = {**slow.values, "accuracy": fast.values["accuracy"]}
    tied = replace(report, front=(fast, replace(slow, values=level)))
    assert select(tied, "latency_ms<=10") is fast


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is no limit"),
        ("latency_ms", "'latency_ms' is no limit"),
        ("latency_ms=1", "is no limit"),
        ("latency_ms<=1,", "'' is no limit"),
        ("latency_ms<=1 or accuracy>=0.9", "is no limit"),
        ("latency_ms<=fast", "'fast' is no finite number"),
        ("latency_ms<=nan", "'nan' is no finite number"),
        ("accuracy>=90", "accuracy>=0.9"),
        ("macs<=1e6", f"macs is no objective of this run; it has accuracy, {LATENCY}"),
    ],
)
def test_a_malformed_expression_says_what_came(report: RunReport, text: str, said: str) -> None:
    with pytest.raises(SelectionError) as caught:
        select(report, text)
    assert said in str(caught.value)
    assert text.strip() in str(caught.value)


def test_a_malformed_expression_shows_an_example(report: RunReport) -> None:
    with pytest.raises(SelectionError, match=r"latency_ms<=1\.0"):
        select(report, "fast please")


def test_an_unknown_objective_is_named_with_the_nearest(report: RunReport) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'accuracy'"):
        select(report, "acuracy>=0.9")


def test_nothing_within_the_limits_names_the_nearest_member(report: RunReport) -> None:
    fastest = report.front[0]
    with pytest.raises(SelectionError) as caught:
        select(report, "latency_ms<=0.001")
    assert f"number 0 ({fastest.key})" in str(caught.value)
    assert "0.07779 ± 0.00078 ms" in str(caught.value)

    with pytest.raises(SelectionError, match=f"number {len(report.front) - 1} "):
        select(report, "accuracy>=0.99")


def test_members_are_numbered_from_the_fastest(report: RunReport) -> None:
    assert by_index(report, 0) is report.front[0]
    assert by_index(report, len(report.front) - 1) is report.front[-1]
    for wrong in (-1, len(report.front)):
        with pytest.raises(SelectionError, match=f"--index {wrong}: .* numbered 0 to {len(report.front) - 1}"):
            by_index(report, wrong)


def test_the_knee_is_a_member_between_the_ends(report: RunReport) -> None:
    chosen = knee(report)
    assert chosen in report.front[1:-1]


@pytest.mark.parametrize("choose", [lambda r: select(r, "latency_ms<=1"), lambda r: by_index(r, 0), knee])
def test_an_empty_front_has_nothing_to_choose_from(report: RunReport, choose: object) -> None:
    assert callable(choose)
    with pytest.raises(SelectionError, match="`nas resume example-1`"):
        choose(replace(report, front=()))
