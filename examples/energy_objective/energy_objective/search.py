"""Local search around the best networks so far: change one choice of a random member of the front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.search.base import SearchAlgorithm
from nas.search.problem.constraints import feasible_values, violations
from nas.search.problem.objectives import Constraint, Evaluation, Objective
from nas.search.problem.pareto import non_dominated
from supernets.space import Architecture, SearchSpace


class NeighbourSearch(SearchAlgorithm):
    """Asks for random networks first, then for neighbours of the networks on the front.

    Args:
        first: random networks before the first neighbour.
        steps: choices that a neighbour differs in.
    """

    def __init__(
        self, space: SearchSpace, objectives: Sequence[Objective], *, seed: int,
        constraints: Sequence[Constraint] = (), first: int = 10, steps: int = 1,
    ) -> None:  # fmt: skip
        self.space, self.objectives, self.constraints = space, objectives, constraints
        self.first, self.steps = first, steps
        self.rng = np.random.default_rng(seed)
        self.known: set[Architecture] = set()
        self.evaluations: list[Evaluation] = []

    def ask(self, n: int) -> list[Architecture]:
        front, asked = self._front(), []
        for _ in range(n):
            found = self._new(front)
            if found is None:
                break  # every network of the space is known
            self.known.add(found)
            asked.append(found)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self.known.update(evaluation.architecture for evaluation in evaluations)
        self.evaluations += evaluations

    def replay(self, asked: Sequence[Architecture]) -> list[Architecture]:
        found = self.ask(len(asked))  # moves the random generator as it moved then
        self.known.difference_update(found)
        self.known.update(asked)
        return found

    def _front(self) -> list[Architecture]:
        usable = [evaluation for evaluation in self.evaluations if not evaluation.failed]
        if len(usable) < self.first:
            return []
        broken = violations(usable, self.constraints)
        if (broken > 0).all():  # nothing is feasible: stay near the networks that miss the limits by least
            return [usable[i].architecture for i in np.argsort(broken, kind="stable")[:5]]
        members = non_dominated(feasible_values(usable, self.objectives, self.constraints))
        return [usable[i].architecture for i in np.flatnonzero(members)]

    def _new(self, front: Sequence[Architecture]) -> Architecture | None:
        for _ in range(50):
            found = self._neighbour(front) if front else self.space.sample(self.rng)
            if found not in self.known:
                return found
        if self.space.size > 100_000:
            return self.space.sample(self.rng)
        rest = [architecture for architecture in self.space.enumerate() if architecture not in self.known]
        return rest[int(self.rng.integers(len(rest)))] if rest else None

    def _neighbour(self, front: Sequence[Architecture]) -> Architecture:
        """A member of the front with some choices drawn again; choices that it lacks do not count."""
        member = front[int(self.rng.integers(len(front)))]
        genes = [max(gene, 0) for gene in member.genes]  # those of choices that it lacks are below 0
        for i in self.rng.integers(0, len(genes), self.steps).tolist():
            genes[i] = int(self.rng.integers(0, self.space.levels[i]))
        return self.space.canonical(genes)
