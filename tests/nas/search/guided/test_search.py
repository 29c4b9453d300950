"""The predictor-guided search and its parts, against independent computations."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2

from nas.plugins.testing.search import (
    OBJECTIVES,
    PARAMETERS,
    ConstraintContract,
    SearchContract,
    anchors,
    asks_of,
    evaluate,
    space_of,
)
from nas.search.base import FeatureSource, SearchAlgorithm
from nas.search.genes import GeneRows
from nas.search.guided.acquisition import Goals, hypervolume_improvements, sample_points
from nas.search.guided.candidates import Effort
from nas.search.guided.models import AutoKind, GeneKind
from nas.search.guided.search import GuidedSearch, n_evolved
from nas.search.guided.surrogate_search import uncertainties
from nas.search.problem.constraints import violations
from nas.search.problem.objectives import (
    ACCURACY,
    Constraint,
    Evaluation,
    Goal,
    Measurement,
    Objective,
    Request,
    Status,
    minimised,
)
from nas.search.problem.pareto import hypervolume
from nas.search.random import RandomSearch
from nas.search.ranking import survivors
from predictors.feature_columns import FeatureLayout
from predictors.kernel_process import KernelProcess
from predictors.label_scales import LabelScale
from supernets.space import INACTIVE, Architecture, Choice, SearchSpace

QUICK = Effort(population=20, generations=4, neighbours=60, random=30)


class TestGuidedSearch(SearchContract, ConstraintContract):
    @staticmethod
    def make(space: SearchSpace, seed: int, constraints: Sequence[Constraint] = ()) -> SearchAlgorithm:
        return GuidedSearch(space, OBJECTIVES, seed=seed, initial=12, effort=QUICK, constraints=constraints)


def test_networks_scaled_by_kind_have_equal_layers_of_all_sizes() -> None:
    genes = GeneRows(space_of(8))
    rows = genes.scaled_by_kind(12, np.random.default_rng(0))
    for members in genes.space.kinds.values():
        levels = {frozenset(row[members]) - {INACTIVE} for row in rows}
        assert all(len(level) <= 1 for level in levels)  # all layers have the same option
        assert len(frozenset().union(*levels)) >= min(genes.levels[members[0]], 6)  # of up to 8


def test_a_perplexity_halved_counts_the_same_wherever_it_is() -> None:
    perplexity, time = Objective("perplexity", "", Goal.MINIMIZE), Objective("macs", "MACs", Goal.MINIMIZE)
    goals = Goals([perplexity, time], [Constraint(ACCURACY, minimum=0.5)])
    found = goals.objectives(
        np.array([[[100.0, 3.0, -0.9], [50.0, 3.0, -0.9]], [[20.0, 3.0, -0.9], [10.0, 3.0, -0.9]]])
    )
    assert found.shape == (2, 2, 2)
    np.testing.assert_allclose(found[:, 0] - found[:, 1], [[math.log(2.0), 0.0]] * 2)


def volume_after(algorithm: SearchAlgorithm, space: SearchSpace, batches: Sequence[int]) -> float:
    asked = [a for ask in asks_of(algorithm, space, batches) for a in ask]
    return hypervolume(minimised(evaluate(space, [*anchors(space), *asked]), OBJECTIVES), np.array([0.0, 15.0]))


def test_it_finds_more_volume_than_chance() -> None:
    space = space_of(8)
    for seed in range(2):
        guided = GuidedSearch(space, OBJECTIVES, seed=seed, effort=QUICK)
        assert volume_after(guided, space, [10] * 5) > volume_after(RandomSearch(space, seed=seed), space, [10] * 5)


def test_a_search_of_one_and_of_three_objectives_runs() -> None:
    space = space_of(5)
    for objectives in (OBJECTIVES[:1], (*OBJECTIVES, PARAMETERS)):
        algorithm = GuidedSearch(space, objectives, seed=0, initial=10, effort=QUICK)
        asks = asks_of(algorithm, space, [10, 5])
        assert [len(ask) for ask in asks] == [10, 5]


@pytest.mark.parametrize("seed", range(3))
def test_networks_far_beyond_the_measured_front_are_asked_for(seed: int) -> None:
    """All measured networks are small, and larger ones are better."""
    space, rng = space_of(8), np.random.default_rng(seed)
    # One in ten of all networks is as small as these.
    sampled = dict.fromkeys(space.sample(rng) for _ in range(300))
    networks = sorted(sampled, key=lambda a: costs(space, [a])[0, 0])[:30]
    algorithm = GuidedSearch(space, OBJECTIVES, seed=seed, effort=QUICK)
    algorithm.tell(evaluate(space, networks))
    told, asked = costs(space, networks)[:, 0], costs(space, algorithm.ask(10))[:, 0]
    assert asked.max() > told.max() + 0.2 * np.ptp(told)


@pytest.mark.parametrize("seed", range(2))
def test_candidates_that_dominate_the_measured_front_are_asked_for_first(seed: int) -> None:
    space, rng = space_of(8), np.random.default_rng(seed)
    networks = list(dict.fromkeys(space.sample(rng) for _ in range(30)))
    latency = OBJECTIVES[1]
    algorithm = GuidedSearch(
        space, [latency], seed=seed, effort=QUICK, exact={latency.name: lambda some: costs(space, some)[:, 0]}
    )
    algorithm.tell(evaluate(space, networks))
    assert costs(space, algorithm.ask(1)).max() < costs(space, networks).min()


def costs(space: SearchSpace, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
    return minimised(evaluate(space, architectures), OBJECTIVES[1:])


def with_features(space: SearchSpace) -> GuidedSearch:
    """A search about to use models: of accuracy on features, the latency being exact."""

    def rows(architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return np.hstack([costs(space, architectures), space.encode(architectures)])

    algorithm = GuidedSearch(
        space,
        OBJECTIVES,
        seed=0,
        initial=12,
        effort=QUICK,
        features={"accuracy": FeatureSource(rows, FeatureLayout(macs=0, aggregates=(0,)))},
        exact={"latency_ms@cpu": lambda architectures: costs(space, architectures)[:, 0]},
    )
    algorithm.tell(evaluate(space, anchors(space)))
    algorithm.tell(evaluate(space, algorithm.ask(10)))
    assert algorithm.fits() == {}
    return algorithm


def test_models_are_reported_for_what_is_not_exact() -> None:
    algorithm = with_features(space_of(6))
    asked = algorithm.ask(6)
    fits = json.loads(json.dumps(algorithm.fits()))
    assert list(fits) == ["accuracy"]
    assert fits["accuracy"]["quality"]["n"] == 12
    assert set(fits["accuracy"]["predictions"]) == {a.key for a in asked}
    for mean, std in fits["accuracy"]["predictions"].values():
        assert math.isfinite(mean)
        assert std > 0
    algorithm.replay(asked)
    assert algorithm.fits() == {}


def test_candidates_are_bred_by_pymoos_nsga2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a default search: generations of each ask, and the share of a batch that they bred."""
    bred: list[bytes] = []
    tell = NSGA2.tell

    def recorded(algorithm: NSGA2, infills: Any) -> Any:
        generations.append(len(infills))
        bred.extend(row.tobytes() for row in infills.get("X").astype(np.int64))
        return tell(algorithm, infills=infills)

    generations: list[int] = []
    monkeypatch.setattr(NSGA2, "tell", recorded)
    space = space_of(8)
    genes, algorithm = GeneRows(space), GuidedSearch(space, OBJECTIVES, seed=0)
    algorithm.tell(evaluate(space, anchors(space)))
    algorithm.tell(evaluate(space, algorithm.ask(18)))
    assert generations == []
    asked, effort = algorithm.ask(10), Effort()
    first, *later, parents = generations
    assert len(later) == max(15, space.size.bit_length()) - 1
    assert later == [effort.population] * len(later)
    assert effort.population < first <= 3 * effort.population
    assert parents == 20  # whose children are the other half of the batch
    found = {genes.canonical(np.frombuffer(raw, dtype=np.int64)[None, :]).tobytes() for raw in bred}
    assert sum(row.tobytes() in found for row in genes.rows(asked)) >= 4


def with_limit(space: SearchSpace, maximum: float) -> GuidedSearch:
    """A search by accuracy within a limit on the latency, which is computed."""
    accuracy, latency = OBJECTIVES
    return GuidedSearch(
        space, [accuracy], seed=0, initial=12, effort=QUICK, constraints=[Constraint(latency, maximum=maximum)],
        exact={latency.name: lambda architectures: costs(space, architectures)[:, 0]},
    )  # fmt: skip


def test_a_constraint_on_a_computed_metric_holds_from_the_first_ask_on() -> None:
    space, limit = space_of(7), [Constraint(OBJECTIVES[1], maximum=2.0)]
    algorithm = with_limit(space, maximum=2.0)
    algorithm.tell(evaluate(space, anchors(space)))
    for n in (10, 5, 5, 5, 5):
        evaluations = evaluate(space, algorithm.ask(n))
        assert len(evaluations) == n
        assert list(algorithm.fits()) == ([] if n == 10 else ["accuracy"])
        assert (violations(evaluations, limit) == 0).all()
        algorithm.tell(evaluations)


def test_where_no_network_satisfies_such_a_constraint_the_nearest_ones_are_asked_for_first() -> None:
    space = space_of(7)
    asked = with_limit(space, maximum=1e-6).ask(10)
    assert len(set(asked)) == 10
    drawn = [space.sample(np.random.default_rng(i)) for i in range(200)]
    assert costs(space, asked).max() < np.quantile(costs(space, drawn), 0.25)


def test_exact_metrics_that_are_not_searched_are_rejected() -> None:
    with pytest.raises(ValueError, match="macs"):
        GuidedSearch(
            space_of(2), OBJECTIVES, seed=0, exact={"macs": lambda architectures: np.zeros(len(architectures))}
        )


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_rows_agree_with_the_space(seed: int) -> None:
    space, rng = space_of(4), np.random.default_rng(seed)
    genes = GeneRows(space)
    levels = rng.integers(0, genes.levels, size=(5, len(space)))

    def listed(architecture: Architecture) -> Architecture:
        named = dict(zip((c.name for c in genes.space.choices), architecture.genes, strict=True))
        return Architecture(tuple(named[choice.name] for choice in space.choices))

    assert genes.architectures(genes.canonical(levels)) == [listed(genes.space.canonical(row)) for row in levels]
    rows = genes.random(5, rng)
    for made in (rows, genes.scaled(5, rng), genes.neighbours(rows, 5, rng)):
        for architecture in genes.architectures(made):
            space.check(architecture)


@pytest.mark.parametrize("m", [1, 2])
def test_improvements_are_differences_of_exact_volumes(m: int) -> None:
    rng = np.random.default_rng(m)
    front, values, reference = rng.random((6, m)) * 1.2, rng.random((40, m)) * 1.2, np.ones(m)
    before = hypervolume(front, reference)
    expected = [hypervolume(np.vstack([front, row]), reference) - before for row in values]
    assert hypervolume_improvements(values, front, reference) == pytest.approx(expected, abs=1e-12)
    alone = [hypervolume(row[None], reference) for row in values]
    assert hypervolume_improvements(values, front[:0], reference) == pytest.approx(alone, abs=1e-12)


def test_sampled_improvements_of_three_objectives_are_near_the_exact_ones() -> None:
    rng = np.random.default_rng(0)
    front, values, reference = rng.random((6, 3)), rng.random((40, 3)), np.ones(3)
    points = sample_points(np.zeros((1, 3)), reference, rng)
    before = hypervolume(front, reference)
    exact = np.array([hypervolume(np.vstack([front, row]), reference) - before for row in values])
    counted = hypervolume_improvements(values, front, reference, points) / len(points)
    # 2,000 points: four standard errors of a share p are 4 sqrt(p / 2000).
    assert (np.abs(counted - exact) <= 4 * np.sqrt(exact / len(points)) + 4 / len(points)).all()


def test_survivors_come_by_front_and_then_by_crowding() -> None:
    values = np.array([[3.0, 3.0], [0.0, 2.0], [2.0, 0.0], [1.0, 1.0], [0.9, 1.15], [9.0, 9.0]])
    assert sorted(survivors(values, 3)[:2].tolist()) == [1, 2]
    assert survivors(values, 6).tolist()[-2:] == [0, 5]


def test_the_process_interpolates_and_is_uncertain_elsewhere() -> None:
    space, rng = space_of(5), np.random.default_rng(0)
    genes = GeneRows(space)
    architectures = genes.architectures(rng.permutation(np.unique(genes.random(120, rng), axis=0)))
    x = space.encode(architectures)
    n = len(space)
    groups = np.concatenate([np.repeat(np.arange(n), space.levels), n + np.arange(n)])
    for objective in OBJECTIVES:
        y = objective.sign * minimised(evaluate(space, architectures), [objective])[:, 0]
        scale = LabelScale.LOG if objective.goal is Goal.MINIMIZE else LabelScale.BEST
        model = KernelProcess(
            scale=scale, lines=(), smooth=range(x.shape[1]), groups=groups.tolist(), standardise=False
        )
        model.fit(x[:60], y[:60])
        seen, new = model.predict(x[:60]), model.predict(x[60:])
        assert np.corrcoef(new.mean, y[60:])[0, 1] > 0.9
        assert np.abs(seen.mean - y[:60]).mean() < np.abs(new.mean - y[60:]).mean()
        assert seen.std.mean() < new.std.mean()
        assert (new.low <= new.mean).all()
        assert (new.mean <= new.high).all()


def test_batches_of_any_size_get_their_share_from_the_evolution() -> None:
    rng = np.random.default_rng(0)
    assert [n_evolved(n, rng) for n in (0, 2, 8, 10)] == [0, 1, 4, 5]
    assert {n_evolved(1, rng) for _ in range(50)} == {0, 1}
    assert {n_evolved(5, rng) for _ in range(50)} == {2, 3}


@pytest.mark.parametrize("ratio", [True, False])
def test_the_process_on_genes_is_fitted_to_its_minimum_of_rows(ratio: bool) -> None:
    space = space_of(5)
    networks, least = space.enumerate()[:6], GeneKind.minimum_rows
    model = GeneKind(space, seed=0).fit(networks[:least], np.arange(1.0, least + 1.0), ratio=ratio)
    assert model.quality.n == least
    assert np.isfinite(model.latent(networks)[0]).all()


def test_what_options_do_is_learnt_from_all_choices_with_equal_options() -> None:
    """Two options that are alike in three genes are alike in the fourth, of which few rows know."""
    space, rng = SearchSpace([Choice(f"layer_{i}", ("a", "b", "c")) for i in range(4)]), np.random.default_rng(0)
    networks = space.enumerate()
    genes = np.array([a.genes for a in networks])
    y = np.exp(-np.prod(np.where(genes == 2, 0.3, 1.0), axis=1))
    kind = GeneKind(space, seed=0)
    off: dict[str, list[float]] = {"shared": [], "none": []}
    for _ in range(10):
        rows = rng.permutation(len(networks))
        seen, new = rows[:25], [networks[i] for i in rows[25:]]
        for name, options in (("shared", space.option_numbers()), ("none", [-1] * 12)):
            kind._features.options[:12] = options
            model = kind.fit([networks[i] for i in seen], y[seen], ratio=True)
            off[name].append(float(np.abs(model.values(model.latent(new)[0]) / y[rows[25:]] - 1).mean()))
    assert np.median(off["shared"]) < 0.7 * np.median(off["none"])


def test_models_without_errors_leave_uncertain_labels_out_while_enough_are_certain() -> None:
    space, rng = space_of(5), np.random.default_rng(0)
    networks = list(dict.fromkeys(space.sample(rng) for _ in range(60)))
    source = FeatureSource(space.encode, FeatureLayout(macs=0, aggregates=(0,)))
    labels, errors = np.exp(rng.normal(size=len(networks))), np.zeros(len(networks))
    errors[:10] = 0.2
    kind = AutoKind(source, seed=0)
    assert kind.fit(networks, labels, ratio=True, errors=errors).quality.n == len(networks) - 10
    errors[:] = 0.2
    assert kind.fit(networks, labels, ratio=True, errors=errors).quality.n == len(networks)


def test_only_noisy_timed_values_have_uncertainties() -> None:
    accuracy, latency = Objective.parse("accuracy", []), Objective.parse("latency_ms@p", ["p"])
    a = space_of(2).smallest
    noisy = Measurement(Request(a, "latency_ms", "p"), Status.NOISY, 2.0, 0.329)
    scored = Measurement(Request(a, "accuracy"), Status.OK, 0.9, 0.01)
    evaluation = Evaluation(a, {latency.name: noisy, accuracy.name: scored})
    assert uncertainties(evaluation, [accuracy, latency]) == pytest.approx([0.0, 0.1])
    calm = Evaluation(a, {latency.name: replace(noisy, status=Status.OK)})
    assert uncertainties(calm, [accuracy, latency]).tolist() == [0.0, 0.0]
