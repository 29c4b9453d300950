"""What every run store must do; subclasses give the `store` fixture a fresh one, its clock stopped at `NOW`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest

from nas.engine.store.base import Event, Fit, RunStatus, RunStore
from nas.engine.store.run_facts import ReusedRun, RunFacts
from nas.engine.store.run_state import Away, RunState, StateUpdate
from nas.errors import StoreError
from nas.search.problem.budget import Budget, Plateau, Stop, StopReason
from nas.search.problem.evaluation_counts import EvaluationCounts
from nas.search.problem.objectives import Constraint, Fidelity, Goal, Measurement, Objective, Request, Status
from nas.search.problem.variants import ORDER, Variants
from supernets.space import INACTIVE, Architecture, Choice, SearchSpace
from tests.contracts.run_facts import search_facts, training_facts
from tests.errors import raises

NOW = 1_700_000_000.25


def architecture(number: int) -> Architecture:
    """One of many different architectures, with an inactive gene."""
    return Architecture((number, INACTIVE, 1))


def request(number: int, fidelity: Fidelity = Fidelity.SEARCH) -> Request:
    return Request(architecture(number), "latency_ms", "cpu-1-thread", fidelity)


def measured(number: int, *, attempt: int = 0, value: float = 1.5, samples: bytes | None = None) -> Measurement:
    """A measurement in which no field has its default, but for the message."""
    return Measurement(
        request(number),
        Status.NOISY,
        value,
        0.01,
        weights="w1",
        data="d1",
        protocol="interleaved-floor/v1",
        environment={"cpu": "x", "cores": 2},
        detail={"p50_ms": 1.75, "rounds": [5, 5]},
        samples=samples,
        attempt=attempt,
        seconds=0.125,
    )


def failed(number: int, *, attempt: int = 0) -> Measurement:
    return Measurement(request(number), Status.FAILED, None, None, message="it broke", attempt=attempt)


SEARCH = search_facts(
    SearchSpace(
        [Choice("depth", (1, 2)), Choice("kernel", (3, 5), requires=("depth", 1)), Choice("precision", ORDER[:2])]
    ),
    ["accuracy", "latency_ms"],
    profiles=["cpu"],
    name="Größe",
    epochs=3,
    constraints=(
        Constraint(Objective.parse("macs", []), maximum=1e6),
        Constraint(Objective("energy_mj@cpu", "mJ", Goal.MINIMIZE), maximum=3.0),
        Constraint(Objective("latency_ms", "", Goal.MAXIMIZE), minimum=1.0),
    ),
    variants=Variants(ORDER[:2]),
    algorithm="guided",
    predictor="lightgbm",
    reused=(ReusedRun("other-1", ("cpu",), accuracy=False, failures=True, without=("energy_mj",)),),
    prior_results=({"key": "0-x-1", "figures": {"accuracy": [0.5, None]}},),
    known_candidates=(architecture(1), architecture(2)),
    models_from=27,
)
TRAINING = replace(training_facts(epochs=7), seed=5, compatibility={"data": {"train": "d1"}})
STATE: StateUpdate = {
    "epoch": 3,
    "best_epoch": 2,
    "step": 40,
    "steps": 70,
    "expected_end": 1.75e9,
    "weights": "w1",
    "teacher": "t1",
    "budget": Budget(30, 1.5, Plateau(10, 0.01), 20),
    "extension": "id-1",
    "stop": Stop(StopReason.PLATEAU, plateau=Plateau(10, 0.01)),
    "searched_seconds": 2.5,
    "reference": (0.5, 1.25),
    "finalists": (architecture(1), architecture(2)),
    "retry_failures": True,
    "waiting": "waiting for another measurement",
    "waiting_since": 1.7e9,
    "away": Away("pi6", 1.7e9, 3, 1.7e9 + 600),
    "environments": {"accuracy": {"cpu": "x"}},
}
"""A value that is not the default for every field."""


def record_asks(store: RunStore) -> None:
    """Records asks of every kind in a new store: for a batch, with nothing told since the last one, and with several told."""
    store.record_ask(0, [architecture(3), architecture(1)])
    store.record_ask(1, [architecture(2)], [])
    told = [architecture(1), architecture(3)]  # in another order than they were asked for
    store.record_ask(2, [architecture(5), architecture(4)], told)
    told.clear()
    store.record_ask(3, [architecture(6)], None)


def check_asks(store: RunStore) -> None:
    """Compares all asks of a store with what `record_asks` recorded."""
    batch, one, two, last = store.asks()
    assert batch == [architecture(3), architecture(1)]
    assert (one, two, last) == ([architecture(2)], [architecture(5), architecture(4)], [architecture(6)])
    assert store.told() == [None, [], [architecture(1), architecture(3)], None]


class RecordsContract:
    """What a store keeps of a run beside its measurements."""

    def test_a_new_run_is_queued_and_empty(self, store: RunStore) -> None:
        assert store.status() is RunStatus.QUEUED
        assert (store.reason(), store.facts(), store.state()) == ("", None, RunState())
        assert (store.asks(), store.measurements(), store.outcomes(), store.fits(), store.events()) == (
            [],
            [],
            [],
            [],
            [],
        )
        assert store.find([request(1)]) == {}
        assert store.samples(request(1)) is None

    def test_the_last_status_and_its_reason_hold(self, store: RunStore) -> None:
        store.set_status(RunStatus.RUNNING, reason="started")
        assert (store.status(), store.reason()) == (RunStatus.RUNNING, "started")
        store.set_status(RunStatus.FINISHED)
        assert (store.status(), store.reason()) == (RunStatus.FINISHED, "")

    def test_every_status_is_kept_with_its_time(self, store: RunStore) -> None:
        assert store.statuses() == []
        for status in (RunStatus.RUNNING, RunStatus.CANCELLED, RunStatus.RUNNING):
            store.set_status(status, reason="why")
        running, cancelled = (RunStatus.RUNNING, NOW), (RunStatus.CANCELLED, NOW)
        assert store.statuses() == [running, cancelled, running]

    def test_a_measurement_tells_when_it_was_committed(self, store: RunStore) -> None:
        store.add(measured(1))
        assert [m.committed for m in store.measurements()] == [NOW]
        assert store.find([request(1)])[request(1)].committed == NOW

    @pytest.mark.parametrize("facts", [SEARCH, TRAINING])
    def test_facts_are_read_back_equal(self, store: RunStore, facts: RunFacts) -> None:
        store.describe(facts)
        assert store.facts() == facts
        assert store.state() == RunState()

    def test_a_training_has_no_facts_of_a_search(self, store: RunStore) -> None:
        for _ in range(2):
            with raises("run.not-a-search"):
                store.search_facts()
            store.describe(TRAINING)
        store.describe(SEARCH)
        assert store.search_facts() == SEARCH.search

    def test_a_state_is_read_back_equal(self, store: RunStore) -> None:
        store.describe(SEARCH, **STATE)
        assert store.state() == RunState(**STATE)
        assert {f.name for f in fields(RunState)} == STATE.keys() == StateUpdate.__annotations__.keys()
        assert RunState(**STATE) != replace(RunState(**STATE), stop=None)

    def test_an_update_changes_the_values_that_it_names(self, store: RunStore) -> None:
        store.describe(SEARCH, **STATE)
        store.update_state(stop=None, epoch=9)
        store.update_state()
        assert store.state() == replace(RunState(**STATE), stop=None, epoch=9)
        assert store.facts() == SEARCH

    def test_an_update_is_kept_whole_or_not_at_all(self, store: RunStore) -> None:
        store.update_state(epoch=1)
        with pytest.raises(TypeError, match="machines"):
            store.update_state(epoch=2, environments={"accuracy": {"cpu": b"bytes"}})
        assert store.state() == RunState(epoch=1)

    def test_values_are_read_back_plain(self, store: RunStore) -> None:
        store.update_state(
            reference=(np.float64(0.5), math.nan, math.inf), environments={"accuracy": {"cores": (np.int64(2), 3)}}
        )
        assert store.state().reference == (0.5, None, None)
        assert store.state().environments == {"accuracy": {"cores": [2, 3]}}

    def test_what_is_read_is_the_readers_own(self, store: RunStore) -> None:
        given = {"accuracy": {"cpus": ["x"]}}
        store.update_state(environments=given)
        store.add(measured(1))
        given["accuracy"]["cpus"].append("y")
        store.state().environments["accuracy"]["cpus"].append("z")
        dict(store.find([request(1)])[request(1)].detail)["rounds"].append(9)
        assert store.state().environments == {"accuracy": {"cpus": ["x"]}}
        assert store.find([request(1)])[request(1)].detail["rounds"] == [5, 5]

    def test_asks_are_read_by_step(self, store: RunStore) -> None:
        store.record_ask(0, [architecture(3), architecture(1)])
        store.record_ask(1, [architecture(2)])
        assert store.asks() == [[architecture(3), architecture(1)], [architecture(2)]]

    def test_asks_are_read_with_what_was_told_before_each(self, store: RunStore) -> None:
        assert store.told() == []
        record_asks(store)
        check_asks(store)

    @pytest.mark.parametrize("step", [0, 2, -1])
    def test_only_the_next_step_can_be_asked(self, store: RunStore, step: int) -> None:
        store.record_ask(0, [architecture(1)])
        with pytest.raises(ValueError, match=f"step 1, got step {step}"):
            store.record_ask(step, [architecture(2)], [architecture(1)])
        assert store.asks() == [[architecture(1)]]
        assert store.told() == [None]

    def test_fits_come_in_order_and_a_repeated_one_replaces(self, store: RunStore) -> None:
        store.record_fit(Fit(1, "accuracy", {"kendall_tau": 0.5, "mape": math.nan}))
        store.record_fit(Fit(1, "macs", {}))
        store.record_fit(Fit(2, "accuracy", {"kendall_tau": 0.6}))
        store.record_fit(Fit(2, "accuracy", {"kendall_tau": 0.7}))
        assert store.fits() == [
            Fit(1, "accuracy", {"kendall_tau": 0.5, "mape": None}),
            Fit(1, "macs", {}),
            Fit(2, "accuracy", {"kendall_tau": 0.7}),
        ]

    def test_events_come_in_order_with_their_time(self, store: RunStore) -> None:
        store.record_event("retry", {"key": "1-x-1"})
        store.record_event("retry", {"key": "2-x-1"})
        assert store.events() == [Event("retry", {"key": k}, NOW) for k in ("1-x-1", "2-x-1")]


class StoreContract(RecordsContract):
    """One test class for every `RunStore`."""

    @pytest.mark.parametrize("make", [measured, failed])
    def test_a_measurement_comes_back_as_it_was(self, store: RunStore, make: Callable[[int], Measurement]) -> None:
        store.add(make(7))
        assert store.find([request(7), request(8)]) == {request(7): make(7)}
        assert store.measurements() == [make(7)]

    def test_a_request_without_profile_comes_back(self, store: RunStore) -> None:
        exact = Measurement(Request(architecture(1), "macs"), Status.OK, 12345.0, 0.0)
        store.add(exact)
        store.add(exact)
        assert store.measurements() == [exact]
        assert store.find([exact.request]) == {exact.request: exact}

    def test_what_differs_in_any_part_of_the_request_is_kept_apart(self, store: RunStore) -> None:
        base = request(1)
        requests = [
            base,
            Request(base.architecture, "accuracy"),
            Request(base.architecture, base.metric, "cpu-2-threads"),
            Request(base.architecture, base.metric, base.profile, Fidelity.FINAL),
            Request(base.architecture, base.metric, base.profile, Fidelity.SEARCH, "int8"),
            request(2),
        ]
        for number, one in enumerate(requests):
            store.add(Measurement(one, Status.OK, float(number), 0.0))
        assert {r: m.value for r, m in store.find(requests).items()} == dict(zip(requests, range(6), strict=True))
        assert [m.request for m in store.measurements(Fidelity.FINAL)] == [requests[3]]

    def test_samples_come_back_only_when_asked_for(self, store: RunStore) -> None:
        raw = bytes(range(256)) * 40
        store.add(measured(1, samples=raw))
        assert store.samples(request(1)) == raw
        assert store.find([request(1)])[request(1)].samples is None
        assert store.measurements()[0].samples is None

    def test_a_second_of_one_attempt_is_ignored(self, store: RunStore) -> None:
        store.add(measured(1, value=1.0, samples=b"one"))
        store.add(measured(1, value=2.0, samples=b"two"))
        assert [m.value for m in store.measurements()] == [1.0]
        assert store.samples(request(1)) == b"one"

    def test_the_latest_attempt_holds_whatever_the_order(self, store: RunStore) -> None:
        store.add(failed(1))
        store.add(measured(1, attempt=2, value=2.0, samples=b"two"))
        store.add(measured(2, value=5.0))
        store.add(measured(1, attempt=1, value=1.0, samples=b"one"))
        assert store.find([request(1)])[request(1)].value == 2.0
        assert [(m.request, m.attempt) for m in store.measurements()] == [(request(1), 2), (request(2), 0)]
        assert store.samples(request(1)) == b"two"

    def test_samples_are_of_the_latest_attempt_that_has_some(self, store: RunStore) -> None:
        store.add(measured(1, samples=b"one"))
        store.add(measured(1, attempt=1, samples=b"two"))
        store.add(measured(1, attempt=2))
        store.add(failed(2))
        assert store.samples(request(1)) == b"two"
        assert store.samples(request(2)) is None

    def test_attempts_come_the_first_one_first(self, store: RunStore) -> None:
        for one in (measured(1, attempt=2), failed(1), measured(2), measured(1, attempt=1, samples=b"one")):
            store.add(one)
        found = store.attempts([request(1), request(3)])
        assert {asked: [m.attempt for m in made] for asked, made in found.items()} == {request(1): [0, 1, 2]}
        assert [m.samples for m in found[request(1)]] == [None] * 3

    def test_several_at_once_are_kept_all_or_none(self, store: RunStore) -> None:
        store.add(measured(3, samples=b"three"))
        again = measured(3, value=9.0, samples=b"again")
        store.add(measured(5), again, measured(4, samples=b""), measured(5, value=9.0), measured(1, samples=b"one"))
        assert store.measurements() == [measured(3), measured(5), measured(4), measured(1)]
        assert [store.samples(request(n)) for n in (3, 5, 4, 1)] == [b"three", None, b"", b"one"]
        with pytest.raises(ValueError, match="FAILED"):
            store.add(measured(6), measured(7, value=math.nan))
        store.add()
        assert store.n_measurements() == 4

    def test_measurements_come_in_the_order_committed(self, store: RunStore) -> None:
        order = [5, 3, 9, 1]
        for number in order:
            store.add(measured(number))
        assert [m.request for m in store.measurements()] == [request(number) for number in order]

    def test_outcomes_are_the_latest_measurements_without_where_they_were_taken(self, store: RunStore) -> None:
        exact = Measurement(Request(architecture(4), "macs"), Status.OK, 12345.0, 0.0)
        tested = replace(measured(5), request=replace(request(5, Fidelity.TEST), precision="int8"))
        for one in (measured(1), failed(2, attempt=1), exact, tested, failed(2), measured(1, attempt=2, value=2.0)):
            store.add(one)
        expected = store.measurements()
        assert [outcome.request for outcome in store.outcomes()] == [m.request for m in expected]
        for name in ("attempt", "status", "value", "error", "seconds", "message", "committed"):
            assert [getattr(o, name) for o in store.outcomes()] == [getattr(m, name) for m in expected], name

    def test_sessions_are_by_profile_with_their_beginning(self, store: RunStore) -> None:
        environments: list[dict[str, float]] = [
            {"level_ms": 1.5, "noise": 0.01}, {"level_ms": 1.5, "noise": 0.01}, {"level_ms": 1.25}, {"cores": 2},
        ]  # fmt: skip
        for number, environment in enumerate(environments):
            store.add(replace(measured(number), environment=environment))
        other = Request(architecture(9), "latency_ms", "board")
        store.add(Measurement(other, Status.OK, 1.0, 0.0, environment={"level_ms": 2.0, "noise": 0.5}))
        other = replace(other, runtime="openvino")
        store.add(Measurement(other, Status.OK, 1.0, 0.0, environment={"level_ms": 2.5, "noise": 0.5}))
        store.add(Measurement(Request(architecture(9), "macs"), Status.OK, 1.0, 0.0, environment={"level_ms": 3.0}))
        assert sorted(store.sessions(), key=str) == [
            ("board", 2.0, 0.5, NOW, "onnxruntime"), ("board", 2.5, 0.5, NOW, "openvino"),
            ("cpu-1-thread", 1.25, None, NOW, "onnxruntime"), ("cpu-1-thread", 1.5, 0.01, NOW, "onnxruntime"),
        ]  # fmt: skip

    def test_a_network_is_whole_once_it_has_so_many_figures(self, store: RunStore) -> None:
        assert (store.n_measurements(), store.counts(1)) == (0, EvaluationCounts())
        for number, metric, precision, attempt in (
            (1, "accuracy", "fp32", 0), (1, "macs", "fp32", 0), (1, "accuracy", "int8", 0), (1, "accuracy", "int8", 1),
            (2, "macs", "fp32", 0), (3, "accuracy", "int8", 0), (3, "macs", "int8", 0), (3, "activation_bytes", "int8", 0),
        ):  # fmt: skip
            asked = Request(architecture(number), metric, None, Fidelity.SEARCH, precision)
            store.add(Measurement(asked, Status.OK, 1.0, 0.0, attempt=attempt))
        for profile in ("cpu-1-thread", "cpu-2-threads"):
            store.add(Measurement(Request(architecture(4), "latency_ms", profile), Status.OK, 1.0, 0.0))
        for fidelity in (Fidelity.FINAL, Fidelity.SCREEN, Fidelity.TEST):
            store.add(Measurement(request(2, fidelity), Status.OK, 1.0, 0.0))
        assert store.n_measurements() == 13
        assert [store.counts(n) for n in (1, 2, 3, 4)] == [EvaluationCounts(measured=n) for n in (5, 3, 1, 0)]

    def test_networks_are_counted_by_the_worst_of_their_latest_measurements(self, store: RunStore) -> None:
        """Of six networks with two metrics each, one is of no result that another one has; the seventh lacks a metric."""
        noise = {"too_noisy": True}
        accuracy, latency = (Request(architecture(0), "accuracy"), request(0))
        outcomes: list[tuple[Status, Status, dict[str, bool]]] = [
            (Status.OK, Status.OK, {}), (Status.OK, Status.NOISY, {}), (Status.NOISY, Status.FAILED, noise),
            (Status.FAILED, Status.FAILED, noise), (Status.OK, Status.SKIPPED, {}), (Status.OK, Status.FAILED, {}),
        ]  # fmt: skip
        for number, (first, second, detail) in enumerate(outcomes):
            for base, status, own in ((accuracy, first, {}), (latency, second, detail)):
                value = 1.0 if status in (Status.OK, Status.NOISY) else None
                asked = replace(base, architecture=architecture(number))
                store.add(Measurement(asked, status, value, value, detail=own))
        store.add(Measurement(replace(accuracy, architecture=architecture(7)), Status.FAILED, None, None))
        # A failure by the longer protocol says nothing about the search.
        store.add(Measurement(request(0, Fidelity.FINAL), Status.FAILED, None, None))
        assert store.counts(2) == EvaluationCounts(measured=1, noisy=1, screened_out=1, too_noisy=1, failed=2)
        store.add(measured(5, attempt=1))
        assert store.counts(2) == EvaluationCounts(measured=1, noisy=2, screened_out=1, too_noisy=1, failed=1)

    def test_failures_are_the_latest_attempts_that_failed(self, store: RunStore) -> None:
        final = Measurement(request(4, Fidelity.FINAL), Status.FAILED, None, None, message="it broke again")
        for one in (failed(3), measured(1), failed(2), failed(3, attempt=1), final, measured(2, attempt=1)):
            store.add(one)
        assert store.failures() == [failed(3, attempt=1), final]

    def test_thousands_of_requests_are_found_at_once(self, store: RunStore) -> None:
        for number in (0, 1_999):
            store.add(measured(number))
        assert set(store.find([request(n) for n in range(2_000)] * 2)) == {request(0), request(1_999)}
        assert store.find([]) == {}

    @pytest.mark.parametrize("figure", [math.nan, math.inf])
    def test_a_figure_that_is_not_finite_is_refused(self, store: RunStore, figure: float) -> None:
        with pytest.raises(ValueError, match="FAILED"):
            store.add(measured(1, value=figure))
        with pytest.raises(ValueError, match="error"):
            store.add(Measurement(request(1), Status.OK, 1.0, figure))
        assert store.measurements() == []

    def test_a_message_that_is_no_utf8_does_not_end_the_run(self, store: RunStore) -> None:
        store.add(Measurement(request(1), Status.FAILED, None, None, message="no file \udcff.png"))
        assert store.measurements()[0].message == r"no file \udcff.png"


class DatabaseContract(StoreContract):
    """Of stores in a database, which refuse what comes after their end; `reopen` opens that of `store` as a further driver."""

    def test_asks_outlive_the_store(self, store: RunStore, reopen: Callable[[], RunStore]) -> None:
        record_asks(store)
        store.close()
        again = reopen()
        check_asks(again)
        again.record_ask(4, [architecture(7)], [architecture(6)])
        assert (again.asks()[-1], again.told()[-1]) == ([architecture(7)], [architecture(6)])
        again.close()

    def test_a_closed_store_refuses_and_closes_again(self, store: RunStore) -> None:
        store.close()
        store.close()
        with pytest.raises(StoreError, match="closed"):
            store.add(measured(1))
        with pytest.raises(StoreError, match="closed"):
            store.measurements()
        with pytest.raises(StoreError, match="closed"):
            store.outcomes()
