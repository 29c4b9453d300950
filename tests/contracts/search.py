"""What every search algorithm must do; a test class of an algorithm inherits this and says how to make one."""

from __future__ import annotations

import subprocess
import sys
from abc import abstractmethod
from collections.abc import Sequence

import pytest

from nas.objectives import Evaluation, Goal, Measurement, Objective, Status
from nas.precisions import Precisions
from nas.search.base import SearchAlgorithm
from supernets.space import Architecture, Choice, SearchSpace

OBJECTIVES = (Objective("accuracy", "share", Goal.MAXIMIZE), Objective("latency_ms@cpu", "ms", Goal.MINIMIZE))


def space_of(n_layers: int) -> SearchSpace:
    """A depth gene, and a width and a kernel for each layer; what the depth drops is inactive."""
    choices = [Choice("depth", tuple(range(1, n_layers + 1)))]
    for i in range(n_layers):
        choices.append(Choice(f"layer{i}.width", (8, 16, 24), ("depth", i)))
        choices.append(Choice(f"layer{i}.kernel", (3, 5), ("depth", i)))
    return SearchSpace(choices)


def evaluate(space: SearchSpace, architectures: Sequence[Architecture], *, failing: bool = False) -> list[Evaluation]:
    """Figures by a closed form: cost adds up over layers, accuracy saturates; kernels help in odd layers only.

    Args:
        failing: every third architecture (by its genes' sum) has no figures.
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
    found = {}
    for objective in OBJECTIVES:
        request = Precisions().request(architecture, objective)
        value = None if failed else figures[objective.name]
        status = Status.FAILED if failed else Status.OK
        found[objective.name] = Measurement(request, status, value, None if failed else 0.0)
    return Evaluation(architecture, found)


def anchors(space: SearchSpace) -> list[Architecture]:
    """What the loop tells first."""
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

    @staticmethod
    @abstractmethod
    def make(space: SearchSpace, seed: int) -> SearchAlgorithm:
        """A fresh algorithm for `OBJECTIVES`."""

    def test_the_same_seed_asks_the_same_and_another_does_not(self) -> None:
        space = space_of(6)
        first, again = (asks_of(self.make(space, 1), space, BATCHES) for _ in range(2))
        assert first == again
        assert asks_of(self.make(space, 2), space, BATCHES) != first

    def test_another_process_asks_the_same(self) -> None:
        space, here = space_of(6), f"{type(self).__module__}"
        code = (
            f"from {here} import {type(self).__name__} as T\n"
            "from tests.contracts.search import *\n"
            "space = space_of(6)\n"
            "print([[a.key for a in ask] for ask in asks_of(T.make(space, 3), space, BATCHES)])"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
        expected = [[a.key for a in ask] for ask in asks_of(self.make(space, 3), space, BATCHES)]
        assert run.stdout.strip() == str(expected)

    @pytest.mark.parametrize("failing", [False, True])
    def test_asks_are_full_canonical_and_never_repeat(self, failing: bool) -> None:
        space = space_of(6)
        asks = asks_of(self.make(space, 4), space, BATCHES, failing=failing)
        assert [len(ask) for ask in asks] == list(BATCHES)
        asked = [a for ask in asks for a in ask]
        assert len({*asked, *anchors(space)}) == len(asked) + 2
        for architecture in asked:
            space.check(architecture)

    def test_two_asks_without_a_tell_do_not_repeat(self) -> None:
        space = space_of(6)
        algorithm = self.make(space, 5)
        asks_of(algorithm, space, [30])
        first, second = algorithm.ask(10), algorithm.ask(10)
        assert len({*first, *second}) == 20

    def test_everything_failing_does_not_stop_it(self) -> None:
        space = space_of(6)
        algorithm = self.make(space, 6)
        asked: list[Architecture] = []
        for _ in range(5):
            batch = algorithm.ask(10)
            algorithm.tell([_evaluation(space, a, failed=True) for a in batch])
            asked += batch
        assert len(set(asked)) == 50

    def test_a_small_space_runs_out(self) -> None:
        space = space_of(2)
        algorithm = self.make(space, 7)
        asks = asks_of(algorithm, space, [10] * 6)
        asked = {a for ask in asks for a in ask}
        assert asked == set(space.enumerate()) - set(anchors(space))
        assert algorithm.ask(10) == []

    def test_a_replayed_search_goes_on_the_same(self) -> None:
        space = space_of(6)
        expected = asks_of(self.make(space, 8), space, BATCHES)
        algorithm = self.make(space, 8)
        algorithm.tell(evaluate(space, anchors(space)))
        for recorded in expected[:4]:
            assert algorithm.replay(recorded) == recorded
            algorithm.tell(evaluate(space, recorded))
        for n, ask in zip(BATCHES[4:], expected[4:], strict=True):
            assert algorithm.ask(n) == ask
            algorithm.tell(evaluate(space, ask))

    def test_a_replay_of_other_asks_is_known_afterwards(self) -> None:
        space = space_of(2)
        algorithm = self.make(space, 9)
        algorithm.tell(evaluate(space, anchors(space)))
        recorded = [a for a in space.enumerate() if a not in anchors(space)][:15]
        algorithm.replay(recorded)
        algorithm.tell(evaluate(space, recorded))
        rest = set(space.enumerate()) - set(anchors(space)) - set(recorded)
        asked: list[Architecture] = []
        while batch := algorithm.ask(7):
            algorithm.tell(evaluate(space, batch))
            asked += batch
        assert sorted(a.key for a in asked) == sorted(a.key for a in rest)
