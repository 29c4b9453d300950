"""Cells whose edges choices may be, and their identification by labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise, product

import numpy as np
import pytest

from nas.problem.objectives import Goal
from nas.search.guided.gene_features import GeneFeatures, Wiring, wirings
from nas.search.guided.models import GeneKind
from nas.search.guided.surrogate import HammingProcess
from supernets.space import Architecture, Choice, Option, SearchSpace
from tests.errors import raises

OPERATIONS: tuple[Option, ...] = ("pool", "none", "conv", "skip")
NONE = 1
BY_TARGET = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
CELL = Wiring(tuple(range(6)), BY_TARGET, NONE)


def space_of(n: int, options: tuple[Option, ...] = OPERATIONS, requires: tuple[str, int] | None = None) -> SearchSpace:
    first = [Choice("depth", (1, 2, 3))] if requires else []
    return SearchSpace([*first, *(Choice(f"edge_{i}", options, requires) for i in range(n))])


def on_a_path(genes: Sequence[int], wiring: Wiring) -> list[int]:
    """The genes, with edges on no path removed, by listing every path."""
    nodes = max(target for _, target in wiring.edges) + 1
    live: set[tuple[int, int]] = set()
    for n in range(nodes - 1):
        for between in combinations(range(1, nodes - 1), n):
            stops = (0, *between, nodes - 1)
            path = set(pairwise(stops))
            if all(genes[wiring.edges.index(edge)] != wiring.removed for edge in path):
                live |= path
    return [g if edge in live else wiring.removed for g, edge in zip(genes, wiring.edges, strict=True)]


@pytest.mark.parametrize("edges", [BY_TARGET, tuple(sorted(BY_TARGET))])
def test_edges_are_live_that_lie_on_a_path(edges: tuple[tuple[int, int], ...]) -> None:
    wiring = Wiring(tuple(range(6)), edges, NONE)
    every = np.array(list(product(range(3), repeat=6)))
    assert wiring.live(every).tolist() == [on_a_path(genes, wiring) for genes in every.tolist()]


def test_genes_beside_the_cell_are_left_alone() -> None:
    wiring = Wiring((1, 2, 4), ((0, 1), (0, 2), (1, 2)), NONE)
    rows = np.array([[1, NONE, 2, 7, 3], [0, 2, 2, 7, NONE], [5, NONE, NONE, 8, 0]])
    assert wiring.live(rows).tolist() == [[1, NONE, 2, 7, NONE], [0, NONE, 2, 7, NONE], [5, NONE, NONE, 8, NONE]]


def test_a_cell_may_have_six_edges_in_two_orders_with_any_operation_as_the_one_that_removes() -> None:
    found = wirings(space_of(6))
    assert len(found) == 2 * len(OPERATIONS)
    assert CELL in found
    assert Wiring(tuple(range(6)), tuple(sorted(BY_TARGET)), NONE) in found


@pytest.mark.parametrize(
    ("space", "n"),
    [
        (space_of(3), 4),  # of three edges both orders are the same
        (space_of(21, (0, 1)), 2),
        (space_of(6, (3, 5, 7)), 0),
        (space_of(6, ("conv",)), 0),
        (space_of(5), 0),
        (space_of(28), 0),
        (space_of(6, requires=("depth", 1)), 0),
        (SearchSpace([*space_of(3).choices, Choice("kernel", (3, 5), ("edge_1", 2))]), 0),
    ],
)
def test_spaces_have_as_many_wirings_as_could_be_meant(space: SearchSpace, n: int) -> None:
    assert len(wirings(space)) == n


def test_features_of_equal_networks_are_equal() -> None:
    space = space_of(6)
    networks = [Architecture((2, 2, NONE, NONE, 3, NONE)), Architecture((2, NONE, 0, NONE, 3, NONE))]
    plain, wired = GeneFeatures(space).rows(networks), GeneFeatures(space, CELL).rows(networks)
    assert (plain[0] != plain[1]).any()
    assert (wired[0] == wired[1]).all()
    assert plain.shape == wired.shape


def labels_of(space: SearchSpace, networks: Sequence[Architecture], wiring: Wiring | None) -> np.ndarray:
    """An operation's worth times that of its edge, over all edges or over those that count in a cell; and noise."""
    genes = np.array([a.genes for a in networks])
    genes = genes if wiring is None else wiring.live(genes)
    worth = np.array([0.4, 0.0, 1.0, 0.6])[genes] * np.linspace(1.0, 2.0, len(space))
    total: np.ndarray = 3.0 + worth.sum(axis=1) + 0.01 * np.random.default_rng(1).standard_normal(len(networks))
    return total


@pytest.mark.parametrize("ratio", [False, True])
@pytest.mark.parametrize("wiring", [None, CELL, Wiring(tuple(range(6)), tuple(sorted(BY_TARGET)), 3)])
def test_labels_identify_their_cell(wiring: Wiring | None, ratio: bool) -> None:
    space, rng = space_of(6), np.random.default_rng(0)
    networks = list(dict.fromkeys(space.sample(rng) for _ in range(160)))
    labels = labels_of(space, networks, wiring)
    model = GeneKind(space, seed=0).fit(networks[:80], labels[:80], ratio=ratio)
    assert ("live edges" in model.predictor.quality.model) == (wiring is not None)
    mean, std = model.latent(networks[80:])
    assert np.corrcoef(model.values(mean), labels[80:])[0, 1] > 0.9
    assert (std >= 0).all()
    if wiring is not None:
        live = [Architecture(tuple(row)) for row in wiring.live(np.array([a.genes for a in networks[80:]])).tolist()]
        assert (model.latent(live)[0] == mean).all()


def test_constant_labels_identify_no_cell() -> None:
    space, rng = space_of(6), np.random.default_rng(0)
    networks = list(dict.fromkeys(space.sample(rng) for _ in range(30)))
    model = GeneKind(space, seed=0).fit(networks, np.full(len(networks), 7.0), ratio=False)
    assert "live edges" not in model.predictor.quality.model


@pytest.mark.parametrize("seed", range(4))
def test_few_labels_of_a_space_that_is_no_cell_identify_none(seed: int) -> None:
    space, rng = space_of(6), np.random.default_rng(seed)
    networks = list(dict.fromkeys(space.sample(rng) for _ in range(20)))
    worth = rng.normal(size=(6, len(OPERATIONS)))
    labels = np.array([worth[np.arange(6), a.genes].sum() for a in networks])
    model = GeneKind(space, seed=0).fit(networks, labels, ratio=False)
    assert "live edges" not in model.predictor.quality.model


def test_evidence_does_not_change_the_process() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((40, 4)), rng.random(40)
    process = HammingProcess([0, 1, 2, 3], goal=Goal.MAXIMIZE)
    process.fit(x[:20], y[:20])
    before = process.predict(x).mean
    assert math.isfinite(process.evidence(x[20:], 10 * y[20:]))
    assert (process.predict(x).mean == before).all()
    with raises("predictor.too-few-rows", "3"):
        process.evidence(x[:3], y[:3])
