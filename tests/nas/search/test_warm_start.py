"""Warm starts of every algorithm: promising architectures first, and models that learn from the observations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from nas.plugins.testing.search import OBJECTIVES, anchors, evaluate, space_of
from nas.search.base import SearchAlgorithm, SearchProblem
from nas.search.problem.objectives import Constraint, Evaluation, Measurement, Objective, Status, minimised
from nas.search.problem.pareto import non_dominated
from nas.search.problem.variants import Variants
from nas.search.registry import make_algorithm
from nas.search.warm_start import FIRST, PriorObservations, promising
from supernets.space import Architecture, SearchSpace

SPACE = space_of(6)
ELSEWHERE = Objective("latency_ms@board", "ms", OBJECTIVES[1].goal)


def drawn(n: int, seed: int = 0) -> list[Architecture]:
    rng = np.random.default_rng(seed)
    return list(dict.fromkeys(SPACE.sample(rng) for _ in range(n)))


def elsewhere(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """As measured by a run on another machine, which is three times as slow."""
    accuracy, latency = OBJECTIVES
    found = []
    for e in evaluations:
        value = 3 * e.value(latency)
        slow = Measurement(Variants().request(e.architecture, ELSEWHERE), Status.OK, value, 0.0)
        found.append(Evaluation(e.architecture, {accuracy.name: e.measurements[accuracy.name], ELSEWHERE.name: slow}))
    return found


def without(evaluations: Sequence[Evaluation], name: str) -> list[Evaluation]:
    return [Evaluation(e.architecture, {n: m for n, m in e.measurements.items() if n != name}) for e in evaluations]


OBSERVED = elsewhere(evaluate(SPACE, drawn(60)))


def front_of(evaluations: Sequence[Evaluation], objectives: Sequence[Objective]) -> set[Architecture]:
    keep = non_dominated(minimised(evaluations, objectives))
    return {e.architecture for e, k in zip(evaluations, keep, strict=True) if k}


class TestPromising:
    def test_they_are_the_front_in_the_available_metrics(self) -> None:
        found = promising(OBSERVED, OBJECTIVES, n=60)
        assert set(found) == front_of(OBSERVED, (OBJECTIVES[0], ELSEWHERE))

    def test_of_a_long_front_the_ends_and_the_least_crowded_are_taken(self) -> None:
        found = promising(OBSERVED, OBJECTIVES, n=4)
        front = [e for e in OBSERVED if e.architecture in front_of(OBSERVED, (OBJECTIVES[0], ELSEWHERE))]
        fastest = min(front, key=lambda e: e.value(ELSEWHERE)).architecture
        best = max(front, key=lambda e: e.value(OBJECTIVES[0])).architecture
        assert len(found) == 4
        assert {fastest, best} <= set(found)

    def test_several_runs_take_turns(self) -> None:
        here = evaluate(SPACE, drawn(60, seed=1))
        one, two = (promising(runs, OBJECTIVES, n=60) for runs in (OBSERVED, here))
        both = promising([*OBSERVED, *here], OBJECTIVES, n=6)
        assert len(both) == 6
        assert both[:2] == [one[0], two[0]]

    def test_infeasible_architectures_are_left_out(self) -> None:
        here = evaluate(SPACE, drawn(60))
        latencies = np.array([e.value(OBJECTIVES[1]) for e in here])
        limit = Constraint(OBJECTIVES[1], maximum=float(np.median(latencies)))
        found = set(promising(here, OBJECTIVES, [limit], n=60))
        allowed = [e for e, latency in zip(here, latencies, strict=True) if latency <= limit.maximum]
        assert found == front_of(allowed, OBJECTIVES)

    def test_a_constraint_holds_for_known_values_alone(self) -> None:
        """One of two runs is of another machine, so that the feasibility of its networks is unknown."""
        here = evaluate(SPACE, drawn(60, seed=1))
        limit = Constraint(OBJECTIVES[1], maximum=float(np.median([e.value(OBJECTIVES[1]) for e in here])))
        found = set(promising([*here, *OBSERVED], OBJECTIVES, [limit], n=120))
        kept = promising(here, OBJECTIVES, [limit], n=60)
        assert found == {*kept, *promising(OBSERVED, OBJECTIVES, n=60)}

    def test_nothing_and_failures_give_nothing(self) -> None:
        assert promising([], OBJECTIVES) == []
        evaluations = evaluate(SPACE, drawn(30), failing=True)
        failed = [e for e in evaluations if e.failed]
        assert failed
        assert promising(failed, OBJECTIVES) == []


def test_the_last_observation_counts_and_replaces_predictions() -> None:
    a, b, c = drawn(3)
    first, again = evaluate(SPACE, [a, b]), elsewhere(evaluate(SPACE, [a]))
    prior = PriorObservations([*without(first, OBJECTIVES[0].name), *again], OBJECTIVES)
    assert prior.column(0, {})[0] == [a]
    architectures, latencies = prior.column(1, {a})
    assert architectures == [b]
    assert latencies.tolist() == [first[1].value(OBJECTIVES[1])]
    known = prior.replaced_in(np.full((2, 3, 2), 7.0), [c, b, a])
    latency_a, latency_b = (e.value(OBJECTIVES[1]) for e in first)
    expected = [[7.0, 7.0], [7.0, latency_b], [-first[0].value(OBJECTIVES[0]), latency_a]]
    assert known.tolist() == [expected, expected]


# One of each kind; LINAS and Optuna's Gaussian process take most of a minute per ask, and the wrapper is the same.
@pytest.mark.parametrize("name", ["guided", "nsga2", "regularized-evolution", "local-search", "optuna-tpe", "random"])
class TestEveryAlgorithm:
    def make(self, name: str, seed: int = 1, warm_start: Sequence[Evaluation] = OBSERVED) -> SearchAlgorithm:
        return make_algorithm(name, SearchProblem(SPACE, OBJECTIVES, seed, warm_start=warm_start))

    def asks(self, algorithm: SearchAlgorithm, space: SearchSpace, batches: Sequence[int]) -> list[list[Architecture]]:
        algorithm.tell(evaluate(space, anchors(space)))
        asks = []
        for n in batches:
            asks.append(algorithm.ask(n))
            algorithm.tell(evaluate(space, asks[-1]))
        return asks

    def test_the_observed_front_is_asked_for_first_and_nothing_twice(self, name: str) -> None:
        asks = self.asks(self.make(name), SPACE, (5, 3, 12))
        assert [len(ask) for ask in asks] == [5, 3, 12]
        asked = [a for ask in asks for a in ask]
        assert len({*asked, *anchors(SPACE)}) == 22
        first = [a for a in promising(OBSERVED, OBJECTIVES) if a not in anchors(SPACE)]
        assert asked[: min(8, len(first))] == first[:8]

    def test_all_observed_architectures_can_be_asked_for(self, name: str) -> None:
        space = space_of(2)
        whole = list(space.enumerate())
        everything = [e for e in evaluate(space, whole) if e.architecture not in anchors(space)]
        lacking = without(everything, OBJECTIVES[1].name)
        algorithm = make_algorithm(name, SearchProblem(space, OBJECTIVES, 1, warm_start=lacking))
        asks = self.asks(algorithm, space, [10] * 5)
        assert {a for ask in asks for a in ask} == set(whole) - set(anchors(space))

    def test_a_resumed_search_asks_the_same(self, name: str) -> None:
        batches = (5, 7, 10, 10)
        expected = self.asks(self.make(name), SPACE, batches)
        for done in (1, 2, 3):
            algorithm = self.make(name)
            algorithm.tell(evaluate(SPACE, anchors(SPACE)))
            for recorded in expected[:done]:
                assert algorithm.replay(recorded) == recorded
                algorithm.tell(evaluate(SPACE, recorded))
            assert algorithm.ask(batches[done]) == expected[done]

    def test_useless_observations_do_no_harm(self, name: str) -> None:
        names = {o.name for o in OBJECTIVES}
        useless = [Evaluation(e.architecture, {}) for e in OBSERVED]
        failing = evaluate(SPACE, drawn(20), failing=True)
        algorithm = self.make(name, warm_start=[*useless, *failing])
        assert [len(ask) for ask in self.asks(algorithm, SPACE, (8, 8))] == [8, 8]
        assert set(algorithm.fits()) <= names


def test_promising_architectures_are_limited() -> None:
    assert len(promising([*OBSERVED, *evaluate(SPACE, drawn(200, seed=3))], OBJECTIVES)) <= FIRST


def test_guided_learns_from_a_warm_start_and_models_sooner() -> None:
    algorithm = make_algorithm("guided", SearchProblem(SPACE, OBJECTIVES, 1, warm_start=OBSERVED))
    algorithm.tell(evaluate(SPACE, anchors(SPACE)))
    asked = algorithm.ask(8)
    assert not algorithm.fits()
    algorithm.tell(evaluate(SPACE, asked))
    algorithm.ask(8)
    rows = {name: fit["quality"]["n"] for name, fit in algorithm.fits().items()}
    known = {e.architecture for e in OBSERVED}
    assert rows == {"accuracy": len(known | {*asked, *anchors(SPACE)}), "latency_ms@cpu": 10}
