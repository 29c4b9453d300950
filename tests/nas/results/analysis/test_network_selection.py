"""Limits are read as written, and the most accurate member within them is taken."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from nas.errors import REPEAT, Remedy
from nas.results.analysis.network_selection import by_index, choose, knee, limits_of, parse_limits, select, within
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import RunReport, build_report
from nas.results.analysis.report_json import selection_json
from nas.search.problem.objectives import Fidelity, Measurement, Objective, Status
from nas.search.problem.variants import Variants
from tests.errors import raises
from tests.nas.results.export.runs import BOARD, PROFILE, TWO, example_run, table_of

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
    loose, strict = (parse_limits(report, f"latency_ms{sign}{bound!r}")[0] for sign in ("<=", "<"))
    assert loose.allows(bound)
    assert not strict.allows(bound)
    at_most, below = ({point.key for point in within(report, [limit]).front} for limit in (loose, strict))
    assert at_most - below == {report.front[3].key}


@pytest.mark.parametrize("text", ["key={}", " key = {} "])
def test_a_key_is_the_network_of_that_key(report: RunReport, text: str) -> None:
    chosen = report.evaluated[5]
    found = select(report, text.format(chosen.key))
    assert (found.key, found.source) == (chosen.key, "measured")
    member = report.front[2]
    assert select(report, text.format(member.key)) == member


def test_a_network_whose_longer_measurement_failed_is_found_by_its_key() -> None:
    store = example_run()
    chosen = build_report(store, run="example-1").evaluated[5]
    latency = Objective.parse(LATENCY, [PROFILE])
    request = Variants().request(chosen.architecture, latency, Fidelity.FINAL)
    store.add(Measurement(request, Status.FAILED, None, None, attempt=1, message="the worker died"))
    found = build_report(store, run="example-1")
    assert chosen.key not in found.candidates.places
    assert select(found, f"key={chosen.key}").values == chosen.values


@pytest.mark.parametrize("key", ["9-9-9", "../x", "x"])
def test_an_unknown_key_is_rejected(report: RunReport, key: str) -> None:
    with raises("selection.unknown-network", repr(key)):
        select(report, f"key={key}")


def test_the_cheapest_of_equally_accurate_ones_is_taken(report: RunReport) -> None:
    fast, slow = report.front[2], report.front[3]
    level = {**slow.values, "accuracy": fast.values["accuracy"]}
    candidates = table_of(report.space, TWO, [replace(slow, values=level), fast])
    tied = replace(report, candidates=candidates, evaluated=table_of(report.space, TWO, [slow, fast]))
    assert select(tied, "latency_ms<=10") == fast


@pytest.mark.parametrize(
    ("text", "code", "mentioned"),
    [
        ("", "malformed", "''"),
        ("latency_ms", "malformed", "'latency_ms'"),
        ("latency_ms=1", "malformed", "latency_ms<=1.0"),  # an example
        ("latency_ms<=1,", "malformed", "''"),
        ("latency_ms<=1 or accuracy>=0.9", "malformed", "latency_ms<=1.0"),
        ("latency_ms<=fast", "malformed", "'fast'"),
        ("latency_ms<=nan", "malformed", "'nan'"),
        ("accuracy>=90", "malformed", "accuracy>=0.9"),
        ("macs<=1e6", "unknown-metric", f"accuracy, {LATENCY}"),
    ],
)
def test_an_expression_that_states_no_limits_is_rejected(
    report: RunReport, text: str, code: str, mentioned: str
) -> None:
    with raises(f"selection.{code}", text.strip(), mentioned):
        select(report, text)


def test_an_unknown_objective_is_named_with_the_nearest(report: RunReport) -> None:
    with raises("objective.unknown", "'acuracy'", "'accuracy'"):
        select(report, "acuracy>=0.9")


def test_nothing_within_the_limits_names_the_nearest_member(report: RunReport) -> None:
    fastest = report.front[0]
    broken = f"{LATENCY} 0.07779 ms (at most 0.001 ms: 77.8 times as much)"
    with raises("selection.nothing-satisfies", fastest.key, "0.07779 ± 0.00078 ms", broken):
        select(report, "latency_ms<=0.001")
    with raises("selection.nothing-satisfies", report.front[-1].key, "at least 99 %"):
        select(report, "accuracy>=0.99")
    bound = fastest.values[LATENCY]
    with raises("selection.nothing-satisfies", fastest.key):
        select(report, f"latency_ms<{bound!r}")


def test_members_are_numbered_from_the_fastest(report: RunReport) -> None:
    assert by_index(report, 0) is report.front[0]
    assert by_index(report, len(report.front) - 1) is report.front[-1]
    for wrong in (-1, len(report.front)):
        with raises("selection.unknown-network", f"index {wrong}", f"0 to {len(report.front) - 1}"):
            by_index(report, wrong)


def test_the_knee_is_a_member_between_the_ends(report: RunReport) -> None:
    chosen = knee(report)
    assert chosen in report.front[1:-1]


@pytest.mark.parametrize("choose", [lambda r: select(r, "latency_ms<=1"), lambda r: by_index(r, 0), knee])
def test_an_empty_front_has_nothing_to_choose_from(report: RunReport, choose: object) -> None:
    assert callable(choose)
    with raises("run.nothing-measured", remedy=Remedy("resume", "example-1")):
        choose(replace(report, front=(), candidates=report.candidates[:0], evaluated=report.evaluated[:0]))


def leads(one: Point, other: Point, signs: dict[str, float]) -> bool:
    """Dominance by hand, in values to minimise by their signs."""
    pairs = [(sign * one.values[name], sign * other.values[name]) for name, sign in signs.items()]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def test_all_that_was_measured_is_chosen_from(report: RunReport) -> None:
    """Within a band between two members of the front, the best is none of it."""
    ends = [p.values[LATENCY] for p in report.front]
    band = next(
        (low, high)
        for low, high in itertools.pairwise(ends)
        if sum(low < p.values[LATENCY] < high for p in report.candidates) > 1
    )
    text = f"latency_ms>{band[0]!r}, latency_ms<{band[1]!r}"
    best = select(report, text)
    kept = [p for p in report.candidates if band[0] < p.values[LATENCY] < band[1]]
    assert best.values["accuracy"] == max(p.values["accuracy"] for p in kept)
    assert best.key not in {p.key for p in report.front}
    inside = within(report, parse_limits(report, text))
    signs = {"accuracy": -1.0, LATENCY: 1.0}
    assert {p.key for p in inside.front} == {p.key for p in kept if not any(leads(q, p, signs) for q in kept)}
    data = selection_json(inside, parse_limits(report, text), best)
    assert data["key"] == best.key
    assert data["limits"] == [
        {"figure": LATENCY, "sign": ">", "bound": band[0]},
        {"figure": LATENCY, "sign": "<", "bound": band[1]},
    ]
    assert [p["key"] for p in data["front"]] == [p.key for p in inside.front]


def test_a_figure_that_is_no_objective_can_be_limited() -> None:
    found = build_report(example_run(limits={"macs": (None, 1e9)}), run="x")
    bound = sorted(p.values["macs"] for p in found.candidates)[8]
    best = select(found, f"macs<={bound}")
    kept = [p for p in found.candidates if p.values["macs"] <= bound]
    assert best.values["accuracy"] == max(p.values["accuracy"] for p in kept)


def test_limits_replace_the_constraints_of_the_job() -> None:
    found = build_report(example_run(limits={LATENCY: (None, 0.3)}), run="x")
    assert max(p.values[LATENCY] for p in found.front) <= 0.3
    looser = select(found, "latency_ms<=1")
    assert 0.3 < looser.values[LATENCY] <= 1
    free = build_report(example_run(), run="x")
    assert looser.key == select(free, "latency_ms<=1").key
    again = within(found, limits_of(found.constraints))
    assert again.front == found.front


def test_figures_of_the_shorter_protocol_are_told_and_compared_with_their_like() -> None:
    found = build_report(example_run(n_final=12), run="x")
    again = {p.key for p in found.candidates if p.fidelity is Fidelity.FINAL}
    assert len(again) == 12
    assert [found.is_short(p) for p in found.candidates] == [p.key not in again for p in found.candidates]
    # no limit: all final values are 10 % lower, yet only those non-dominated in search values may be on the front
    inside = within(found, parse_limits(found, "latency_ms<=1000"))
    search = {p.key: p for p in found.evaluated}
    signs = {"accuracy": -1.0, LATENCY: 1.0}
    leading = {p.key for p in found.evaluated if not any(leads(q, p, signs) for q in search.values())}
    assert {p.key for p in inside.front} <= again | leading
    assert any(inside.is_short(p) for p in inside.front)
    unfinished = build_report(example_run(final=False), run="x")
    assert not any(unfinished.is_short(p) for p in unfinished.candidates)


def test_a_selection_keeps_to_each_profile() -> None:
    found = build_report(example_run((*TWO, f"latency_ms@{BOARD}")), run="x")
    inside = within(found, parse_limits(found, f"latency_ms@{BOARD}<=5"))
    assert list(inside.fronts) == [PROFILE, BOARD]
    for profile, front in inside.fronts.items():
        signs = {"accuracy": -1.0, f"latency_ms@{profile}": 1.0}
        kept = [p for p in found.candidates if p.values[f"latency_ms@{BOARD}"] <= 5]
        assert {p.key for p in front} == {p.key for p in kept if not any(leads(q, p, signs) for q in kept)}


def test_nothing_feasible_tells_what_to_do() -> None:
    found = build_report(example_run(limits={"latency_ms": (None, 0.001), "accuracy": (0.5, None)}), run="x")
    for chosen in (lambda: by_index(found, 0), lambda: knee(found)):
        with raises("selection.nothing-satisfies", "0-0-0-0-x-x", remedy=Remedy(REPEAT, options={"select": "LIMITS"})):
            chosen()
    assert select(found, "latency_ms<=1").values[LATENCY] <= 1


@pytest.mark.parametrize(
    ("limit", "values"), [("accuracy>=90%", ("accuracy>=0.9",)), ("latency_ms<=-1", ("latency_ms", "at least 0"))]
)
def test_a_bound_in_per_cent_or_below_0_is_malformed(report: RunReport, limit: str, values: tuple[str, ...]) -> None:
    with raises("selection.malformed", *values):
        parse_limits(report, limit)


def test_an_expression_and_a_number_exclude_each_other(report: RunReport) -> None:
    with raises("selection.ambiguous", "exclude each other"):
        choose(report, "latency_ms<=100", 0)
