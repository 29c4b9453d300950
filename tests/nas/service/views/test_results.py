"""Results of searches, compared with values computed independently from their stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.opening import open_store
from nas.errors import SelectionError, UnknownNameError
from nas.runs.run import Run
from nas.search.problem.objectives import Fidelity
from nas.search.problem.pareto import hypervolume
from nas.service.api.schemas import Network
from nas.service.service import Service
from nas.service.views.comparison import thinned
from nas.service.views.networks import NetworkQuery
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.nas.results.export.runs import BOARD, FOUR, PROFILE, TWO, measure
from tests.nas.service.made_runs import searched, trained

LATENCY = TWO[1]


def dominated(one: Network, others: tuple[Network, ...] | list[Network]) -> bool:
    def costs(network: Network) -> tuple[float, float]:
        return -network.figures["accuracy"].value, network.figures[LATENCY].value

    mine = costs(one)
    return any(o != mine and o[0] <= mine[0] and o[1] <= mine[1] for o in map(costs, others))


def test_a_front_has_final_values_and_the_ends_of_the_space(service: Service, runs: RunsFolder) -> None:
    run = searched(runs).id
    front = service.results.front(run)
    assert [o.name for o in front.objectives] == list(TWO)
    assert [(o.unit, o.goal) for o in front.objectives] == [("share", "maximize"), ("ms", "minimize")]
    assert [m.number for m in front.members] == list(range(len(front.members)))
    latencies = [m.figures[LATENCY].value for m in front.members]
    assert latencies == sorted(latencies)
    assert {m.fidelity for m in front.members} == {"final"}
    assert all(m.test is not None and m.source == "measured" for m in front.members)
    everything = service.results.evaluations(run, limit=100).networks
    assert sorted(m.key for m in front.members) == sorted(n.key for n in everything if not dominated(n, everything))
    with Run.open(runs, run).store() as store:
        space = store.search_facts().space
    assert front.smallest is not None
    assert front.largest is not None
    assert (front.smallest.key, front.largest.key) == (space.smallest.key, space.largest.key)


def test_limits_replace_the_jobs(service: Service, runs: RunsFolder) -> None:
    run = searched(runs, limits={LATENCY: (None, 0.5)}).id
    own, other = service.results.front(run), service.results.front(run, select="latency_ms<=1.0")
    assert max(m.figures[LATENCY].value for m in own.members) <= 0.5
    assert 0.5 < max(m.figures[LATENCY].value for m in other.members) <= 1.0
    assert all(m.within_limits for m in other.members)
    numbers = {m.key: m.number for m in own.members}
    assert {m.key: m.number for m in other.members if m.number is not None}.items() <= numbers.items()
    assert own.largest is not None
    assert not own.largest.within_limits


def test_the_nearest_network_is_given_where_none_is_within_the_limits(service: Service, runs: RunsFolder) -> None:
    run = searched(runs, limits={LATENCY: (None, 1e-4)}).id
    front = service.results.front(run)
    everything = service.results.evaluations(run, limit=100).networks
    assert front.members == ()
    assert front.nearest is not None
    assert front.nearest.key == min(everything, key=lambda n: n.figures[LATENCY].value).key


def test_one_profile_has_a_front_of_its_own(service: Service, runs: RunsFolder) -> None:
    run = searched(runs, names=(*TWO, f"latency_ms@{BOARD}")).id
    front = service.results.front(run, profile=BOARD)
    assert [o.name for o in front.objectives] == ["accuracy", f"latency_ms@{BOARD}"]
    assert {m.key for m in front.members} != {m.key for m in service.results.front(run, profile=PROFILE).members}
    with pytest.raises(UnknownNameError):
        service.results.front(run, profile="nowhere")


def test_evaluations_are_paged_in_the_order_of_their_evaluation(service: Service, runs: RunsFolder) -> None:
    run = searched(runs).id
    with Run.open(runs, run).store() as store:
        asked = [a.key for step in store.asks() for a in step]
    pages = [service.results.evaluations(run, offset=i, limit=15) for i in range(0, 45, 15)]
    assert [n.key for page in pages for n in page.networks] == asked
    assert {page.total for page in pages} == {len(asked)}
    assert [n.key for n in service.results.evaluations(run, NetworkQuery(descending=True), limit=2).networks] == asked[
        :-3:-1
    ]


def test_evaluations_are_sorted_by_a_metric(service: Service, runs: RunsFolder) -> None:
    run = searched(runs, names=FOUR).id
    found = service.results.evaluations(run, NetworkQuery(sort="macs", descending=True), limit=100).networks
    macs = [n.figures["macs"].value for n in found]
    assert macs == sorted(macs, reverse=True)
    assert service.results.evaluations(run, NetworkQuery(sort="latency_ms"), limit=1).networks[0].figures[
        LATENCY
    ].value == min(n.figures[LATENCY].value for n in found)
    with raises("selection.invalid", "activation_bytes", run):
        service.results.evaluations(run, NetworkQuery(sort="activation_bytes"))
    with pytest.raises(UnknownNameError):
        service.results.evaluations(run, NetworkQuery(sort="speed"))


def test_a_report_is_made_again_only_when_the_run_has_changed(service: Service, runs: RunsFolder) -> None:
    folder = searched(runs, final=False)
    before = service.results.report(folder.id)
    rested(service, folder.id)
    assert service.results.report(folder.id) is service.results.report(folder.id)
    store = open_store(folder, driver=True)
    network = before.front[0].architecture
    measure(store, network, [o for o in before.objectives if o.profile], Fidelity.FINAL)
    changed = service.results.report(folder.id)  # while its driver has it open
    store.close()
    assert changed.measured_again
    assert not before.measured_again
    assert service.results.report(folder.id).measured_again


def rested(service: Service, run: str) -> None:
    """Polls until the files are old enough for their stamps to be reliable."""
    first = service.results.report(run)
    while (again := service.results.report(run)) is not first:
        first = again


def test_predictions_are_marked(service: Service, runs: RunsFolder) -> None:
    run = searched(runs).id
    page = service.results.predicted(run, limit=5)
    evaluated = {n.key for n in service.results.evaluations(run, limit=100).networks}
    assert len(page.networks) == 5
    assert page.total > 5
    assert {n.source for n in page.networks} == {"predicted"}
    assert not evaluated & {n.key for n in page.networks}
    assert all(n.figures["accuracy"].error > 0 for n in page.networks)


def test_predictors_are_listed_by_step(service: Service, runs: RunsFolder) -> None:
    found = {p.objective: p for p in service.results.predictors(searched(runs).id)}
    assert list(found) == list(TWO)
    assert [entry["step"] for entry in found["accuracy"].history] == [1, 2, 3, 4]
    assert found["accuracy"].latest["mape"] == pytest.approx(0.1 / 4)


def test_steps_are_paged_with_their_models(service: Service, runs: RunsFolder) -> None:
    run = searched(runs).id
    whole = service.results.steps(run)
    assert whole.total == len(whole.steps) == 5
    assert [step.bred for step in whole.steps] == [None, 1201, 1202, 1203, 1204]
    last = whole.steps[-1]
    assert (last.proposed, last.measured, last.generations, last.candidates) == (8, 8, 15, 900)
    assert last.models["accuracy"].weights == pytest.approx({"ridge": 0.6, "LightGBM": 0.4})
    assert last.models["accuracy"].kendall_tau == 0.8
    assert service.results.steps(run, offset=3, limit=1).steps == whole.steps[3:4]


def test_a_pick_is_the_most_accurate_within_limits(service: Service, runs: RunsFolder) -> None:
    run = searched(runs).id
    everything = service.results.evaluations(run, limit=100).networks
    kept = [n for n in everything if n.figures[LATENCY].value <= 0.4]
    best = max(n.figures["accuracy"].value for n in kept)
    assert service.results.pick(run, "latency_ms<=0.4").figures["accuracy"].value == best
    with pytest.raises(SelectionError, match=r"1e-05|0\.00001"):
        service.results.pick(run, "latency_ms<=0.00001")
    with pytest.raises(SelectionError, match="fast please"):
        service.results.pick(run, "fast please")


def test_runs_are_compared_from_one_reference_point(service: Service, runs: RunsFolder) -> None:
    short, longer = searched(runs, n=20).id, searched(runs, names=FOUR, n=40).id
    compared = service.results.compare([short, longer, short])
    assert [o.name for o in compared.objectives] == list(TWO)
    assert [r.run for r in compared.runs] == [short, longer]
    references = [service.results.report(r).reference for r in (short, longer)]
    assert compared.reference["accuracy"] == min(r["accuracy"] for r in references)
    assert compared.reference[LATENCY] == max(r[LATENCY] for r in references)
    corner = np.array([-compared.reference["accuracy"], compared.reference[LATENCY]])
    for one in compared.runs:
        everything = service.results.evaluations(one.run, limit=100).networks
        assert {m.key for m in one.front} == {n.key for n in everything if not dominated(n, everything)}
        figures = [[-m.figures["accuracy"].value, m.figures[LATENCY].value] for m in one.front]
        assert one.hypervolume == pytest.approx(float(hypervolume(np.array(figures), corner)))
        steps, volumes = zip(*one.curve, strict=True)
        assert list(steps) == sorted(set(steps))
        assert list(volumes) == sorted(volumes)
    assert compared.runs[1].curve[-1][0] == 40


def test_a_curve_keeps_where_it_rises_and_its_ends() -> None:
    assert thinned([(1, 0.0), (2, 0.0), (3, 1.0), (4, 1.0), (5, 1.0)]) == ((1, 0.0), (3, 1.0), (5, 1.0))
    long = thinned([(i, float(i)) for i in range(2000)])
    assert (long[0], long[-1], len(long)) == ((0, 0.0), (1999, 1999.0), 500)
    assert thinned([]) == ()


def test_runs_without_a_common_objective_are_not_compared(service: Service, runs: RunsFolder) -> None:
    one, other = searched(runs, names=("accuracy", "macs")).id, searched(runs, names=(LATENCY, "parameters")).id
    with raises("selection.no-common-objective", one, other):
        service.results.compare([one, other])


def test_a_common_front_has_the_networks_that_no_other_run_dominates(service: Service, runs: RunsFolder) -> None:
    one = searched(runs, n=20).id
    other = searched(runs, n=40, limits={LATENCY: (None, 0.5)}).id
    compared = service.results.compare([one, other])
    assert not compared.obstacles
    everyone = [(run.run, network) for run in compared.runs for network in run.front]
    leading = {(run, n.key) for run, n in everyone if not dominated(n, [network for _, network in everyone])}
    assert {(member.run, member.key) for member in compared.common_front} == leading
    assert {run for run, _ in leading} == {one, other}
    values = {(run, n.key): n.figures[LATENCY].value for run, n in everyone}
    latencies = [values[member.run, member.key] for member in compared.common_front]
    assert latencies == sorted(latencies)


def set_basis(folder: RunFolder, *, validation: str = "a", threads: int = 1, cpu: str = "x") -> None:
    """Records what the values of a made-up run were measured on."""
    store = open_store(folder, driver=True)
    facts = store.facts()
    assert facts is not None
    conditions = {"data": {"validation": validation}, "profiles": {PROFILE: {"threads": threads}}}
    store.describe(replace(facts, compatibility=conditions), environments={f"profile {PROFILE}": {"cpu": cpu}})
    store.close()


@pytest.mark.parametrize(
    ("other", "mentions"),
    [
        ({}, ()),
        ({"validation": "b"}, ("accuracy", "validation examples")),
        ({"threads": 2}, (PROFILE, "threads 1 and 2")),
        ({"cpu": "y"}, (PROFILE, "cpu: was x, is y")),
    ],
)
def test_there_is_no_common_front_of_values_that_cannot_be_compared(
    service: Service, runs: RunsFolder, other: Mapping[str, Any], mentions: Sequence[str]
) -> None:
    set_basis(searched(runs, n=10))
    set_basis(searched(runs, n=10), **other)
    compared = service.results.compare(["made-1", "made-2"])
    assert bool(compared.common_front) == (not mentions)
    assert len(compared.obstacles) == bool(mentions)
    for text in (*mentions, *(("made-1 and made-2",) if mentions else ())):
        assert text in compared.obstacles[0]


def test_job_files_are_compared_by_key_with_their_defaults(service: Service, runs: RunsFolder) -> None:
    first, second = searched(runs), searched(runs)
    text = SMALL_JOB.replace("epochs: 4", "epochs: 9").replace("hardware: [cpu-1-thread]\n", "")
    second.job_file.write_text(text + "constraints: {latency_ms: {max: 2}}\n")
    first.job_file.write_text(SMALL_JOB.replace("search: {", "search: {screen_images: 100, "))  # of an earlier version
    found = {one.key: one.values for one in service.results.compare([first.id, second.id]).job_differences}
    assert found == {  # the profile is the default
        "training.epochs": {first.id: "4", second.id: "9"},
        "constraints.latency_ms.max": {first.id: None, second.id: "2.0"},
    }
    second.job_file.write_text("name: [")
    assert service.results.compare([first.id, second.id]).job_differences == ()


ASKS: list[Callable[[Service, str], Any]] = [
    lambda service, run: service.results.front(run),
    lambda service, run: service.results.evaluations(run),
    lambda service, run: service.results.predicted(run),
    lambda service, run: service.results.predictors(run),
    lambda service, run: service.results.convergence(run),
    lambda service, run: service.results.steps(run),
    lambda service, run: service.results.pick(run, "macs<=1"),
    lambda service, run: service.results.compare([run]),
    lambda service, run: service.results.report(run),
]


@pytest.mark.parametrize("ask", ASKS)
def test_a_training_has_no_results(service: Service, runs: RunsFolder, ask: Callable[[Service, str], Any]) -> None:
    run = trained(runs).id
    with raises("run.not-a-search", run):
        ask(service, run)


@pytest.mark.parametrize("ask", ASKS)
def test_an_unknown_run_has_no_results(service: Service, ask: Callable[[Service, str], Any]) -> None:
    with pytest.raises(UnknownNameError):
        ask(service, "../etc")


def test_a_search_that_waits_has_an_empty_front(service: Service, runs: RunsFolder) -> None:
    folder = runs.create("waits", SMALL_JOB)
    open_store(folder, create=True, driver=True).close()
    assert service.results.front(folder.id).members == ()
    assert service.results.evaluations(folder.id).total == 0
    assert service.results.predicted(folder.id).networks == ()
    assert service.results.convergence(folder.id) == service.results.predictors(folder.id) == ()
    assert service.results.steps(folder.id).steps == ()
    with raises("run.not-begun", folder.id):
        service.results.pick(folder.id, "macs<=1")
