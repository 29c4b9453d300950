"""What every search algorithm must do; a test class of an algorithm inherits this and says how to make one."""

from __future__ import annotations

import os
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import pytest

from nas.search.base import SearchAlgorithm
from nas.search.problem.constraints import violations
from nas.search.problem.objectives import Constraint, Evaluation, Goal, Measurement, Objective, Status
from nas.search.problem.variants import Variants
from supernets.space import Architecture, Choice, SearchSpace

OBJECTIVES = (Objective("accuracy", "share", Goal.MAXIMIZE), Objective("latency_ms@cpu", "ms", Goal.MINIMIZE))
PARAMETERS = Objective("parameters", "parameters", Goal.MINIMIZE)


def space_of(n_layers: int) -> SearchSpace:
    """A depth gene, and a width and a kernel for each layer; what the depth drops is inactive."""
    choices = [Choice("depth", tuple(range(1, n_layers + 1)))]
    for i in range(n_layers):
        choices.append(Choice(f"layer{i}.width", (8, 16, 24), ("depth", i)))
        choices.append(Choice(f"layer{i}.kernel", (3, 5), ("depth", i)))
    return SearchSpace(choices)


def evaluate(space: SearchSpace, architectures: Sequence[Architecture], *, failing: bool = False) -> list[Evaluation]:
    """Figures by a closed form: cost adds up over layers, accuracy saturates; kernels help in odd layers only.

    They have ``parameters`` too, the sum of all genes (-1 where inactive), which is no objective but can be constrained.

    Args:
        failing: every third architecture (by its genes' sum) has no values.
    """
    return [_evaluation(space, a, failed=failing and sum(a.genes) % 3 == 0) for a in architectures]


def _evaluation(space: SearchSpace, architecture: Architecture, *, failed: bool) -> Evaluation:
    values = space.values(architecture)
    cost = gain = 0.0
    for name, option in values.items():
        layer, _, kind = name.partition(".")
        if kind == "width":
            kernel = int(values[f"{layer}.kernel"])
            cost += int(option) * kernel
            gain += int(option) * (1.5 if kernel == 5 and int(layer[5:]) % 2 else 1.0)
    figures = {"accuracy": 1.0 - 1.0 / (1.0 + gain / 20.0), "latency_ms@cpu": 0.1 + cost / 100.0}
    figures[PARAMETERS.name] = float(sum(architecture.genes))
    measurements = {}
    for objective in (*OBJECTIVES, PARAMETERS):
        request = Variants().request(architecture, objective)
        value = None if failed else figures[objective.name]
        status = Status.FAILED if failed else Status.OK
        measurements[objective.name] = Measurement(request, status, value, None if failed else 0.0)
    return Evaluation(architecture, measurements)


def anchors(space: SearchSpace) -> list[Architecture]:
    """The architectures that the loop evaluates first."""
    return [space.smallest, space.largest]


def asks_of(
    algorithm: SearchAlgorithm, space: SearchSpace, batches: Sequence[int], *, failing: bool = False
) -> list[list[Architecture]]:
    """The asks of a search in batches of these sizes."""
    algorithm.tell(evaluate(space, anchors(space)))
    asks = []
    for n in batches:
        asks.append(algorithm.ask(n))
        algorithm.tell(evaluate(space, asks[-1], failing=failing))
    return asks


BATCHES = (10, 3, 1, 12, 40, 5, 10)


class SearchContract:
    """Inherit and give `make`."""

    batches: Sequence[int] = BATCHES
    """Asks of each test; fewer if models make them slow."""
    full = True
    """Whether an ask for `n` returns `n` while the space has them."""

    @staticmethod
    @abstractmethod
    def make(space: SearchSpace, seed: int) -> SearchAlgorithm:
        """A fresh algorithm for `OBJECTIVES`.

        Args:
            space: Space of the search, with choices of depth, width and kernel; see `space_of`.
            seed: Seed of all randomness of the algorithm, at least 0; each test has its own.
        """

    def test_the_same_seed_asks_the_same_and_another_does_not(self) -> None:
        space = space_of(6)
        first, again = (asks_of(self.make(space, 1), space, self.batches) for _ in range(2))
        assert first == again
        assert asks_of(self.make(space, 2), space, self.batches) != first

    def test_another_process_asks_the_same(self) -> None:
        space, module = space_of(6), f"{type(self).__module__}"
        code = (
            f"from {module} import {type(self).__name__} as T\n"
            "from nas.plugins.testing.search import *\n"
            "space = space_of(6)\n"
            "print([[a.key for a in ask] for ask in asks_of(T.make(space, 3), space, T.batches)])"
        )
        run = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # the modules of a plug-in's tests, too
        )
        expected = [[a.key for a in ask] for ask in asks_of(self.make(space, 3), space, self.batches)]
        assert run.stdout.strip() == str(expected)

    @pytest.mark.parametrize("failing", [False, True])
    def test_asks_are_full_canonical_and_never_repeat(self, failing: bool) -> None:
        """Each ask has new, canonical architectures, as many as requested (if `full`), also where measurements fail.

        Args:
            failing: True if every third architecture, by the sum of its genes, has no values.
        """
        space = space_of(6)
        asks = asks_of(self.make(space, 4), space, self.batches, failing=failing)
        assert all(0 < len(ask) <= n for ask, n in zip(asks, self.batches, strict=True))
        if self.full:
            assert [len(ask) for ask in asks] == list(self.batches)
        proposed = [a for ask in asks for a in ask]
        assert len({*proposed, *anchors(space)}) == len(proposed) + 2
        for architecture in proposed:
            space.check(architecture)

    def test_two_asks_without_a_tell_do_not_repeat(self) -> None:
        space = space_of(6)
        algorithm = self.make(space, 5)
        asks_of(algorithm, space, [30])
        first, second = algorithm.ask(10), algorithm.ask(10)
        assert len({*first, *second}) == len(first) + len(second)
        if self.full:
            assert len(first) == len(second) == 10

    def test_everything_failing_does_not_stop_it(self) -> None:
        space = space_of(6)
        algorithm = self.make(space, 6)
        proposed: list[Architecture] = []
        for _ in range(5):
            batch = algorithm.ask(10)
            algorithm.tell([_evaluation(space, a, failed=True) for a in batch])
            proposed += batch
        assert len(set(proposed)) == 50

    def test_a_small_space_runs_out(self) -> None:
        space = space_of(2)
        algorithm = self.make(space, 7)
        proposed = {a for ask in asks_of(algorithm, space, [10]) for a in ask}
        while batch := algorithm.ask(10):
            algorithm.tell(evaluate(space, batch))
            proposed.update(batch)
        assert proposed == set(space.enumerate()) - set(anchors(space))
        assert algorithm.ask(10) == []

    def test_a_replayed_search_continues_the_same(self) -> None:
        space = space_of(6)
        expected = asks_of(self.make(space, 8), space, self.batches)
        algorithm, half = self.make(space, 8), (len(self.batches) + 1) // 2
        algorithm.tell(evaluate(space, anchors(space)))
        for recorded in expected[:half]:
            assert algorithm.replay(recorded) == recorded
            algorithm.tell(evaluate(space, recorded))
        for n, ask in zip(self.batches[half:], expected[half:], strict=True):
            assert algorithm.ask(n) == ask
            algorithm.tell(evaluate(space, ask))

    def test_a_replay_of_other_asks_is_known_afterwards(self) -> None:
        space = space_of(2)
        algorithm = self.make(space, 9)
        algorithm.tell(evaluate(space, anchors(space)))
        recorded = [a for a in space.enumerate() if a not in anchors(space)][:15]
        algorithm.replay(recorded)
        algorithm.tell(evaluate(space, recorded))
        unknown = set(space.enumerate()) - set(anchors(space)) - set(recorded)
        proposed: list[Architecture] = []
        while batch := algorithm.ask(7):
            algorithm.tell(evaluate(space, batch))
            proposed += batch
        assert sorted(a.key for a in proposed) == sorted(a.key for a in unknown)


NARROW = (Constraint(OBJECTIVES[1], maximum=4.0), Constraint(PARAMETERS, minimum=13.0, maximum=17.0))
"""Of 1,000 random networks of `space_of(8)` 14 keep both."""
IMPOSSIBLE = (Constraint(PARAMETERS, minimum=40.0),)
"""The largest network of `space_of(8)` has 31."""


class ConstraintContract:
    """Inherit this too, and give a `make` that takes constraints."""

    constrained_evaluations = 150
    seeds: Sequence[int] = (10,)
    """More than one where it depends on luck: floats differ in their last digits from one processor to another."""
    more = 2.0
    """The required multiple of the feasible networks that random search finds."""
    nearer = 0.8
    """What is left of the violation of random networks, where nothing is feasible."""

    @staticmethod
    @abstractmethod
    def make(space: SearchSpace, seed: int, constraints: Sequence[Constraint] = ()) -> SearchAlgorithm:
        """A fresh algorithm for `OBJECTIVES` and these constraints.

        Args:
            space: Space of the search, see `space_of`; of 8 layers.
            seed: Seed of all randomness of the algorithm, one of `seeds`.
            constraints: Bounds on an objective or on ``parameters``, which all evaluations have; empty for none.
        """

    def test_more_feasible_networks_are_found_than_by_chance(self) -> None:
        proposed = self._proposed(space_of(8), NARROW)
        n_feasible = int((violations(evaluate(space_of(8), proposed), NARROW) == 0).sum())
        assert n_feasible > self.more * 0.014 * len(proposed)

    def test_where_nothing_is_feasible_it_comes_nearer_than_chance(self) -> None:
        space, rng = space_of(8), np.random.default_rng(0)
        proposed = self._proposed(space, IMPOSSIBLE, of_the_second_half=True)
        drawn = [space.sample(rng) for _ in proposed]
        by_search, by_chance = (violations(evaluate(space, each), IMPOSSIBLE).mean() for each in (proposed, drawn))
        assert by_search < self.nearer * by_chance

    def _proposed(
        self, space: SearchSpace, constraints: Sequence[Constraint], *, of_the_second_half: bool = False
    ) -> list[Architecture]:
        """The architectures that the algorithm asks for under constraints, with every seed."""
        n = self.constrained_evaluations // 10
        asks = [asks_of(self.make(space, seed, constraints), space, [10] * n) for seed in self.seeds]
        return [a for asks_of_seed in asks for ask in asks_of_seed[n // 2 * of_the_second_half :] for a in ask]
