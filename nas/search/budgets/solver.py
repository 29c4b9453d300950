"""Networks of the least additive loss within limits on costs, by integer linear programming."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nas.search.budgets.additive_scores import score_of
from nas.search.budgets.linear_costs import LinearCost
from nas.search.problem.pareto import Array
from supernets.space import INACTIVE, Architecture, SearchSpace

TIME_LIMIT_S = 10.0
_BISECTIONS = 8
"""Steps towards a limit on a cost that is not the sum of its terms."""
_LOOSEST = -0.25
"""Share of the range of such a cost by which its bound is loosened at most."""
_TIE = 1e-6
"""Share of a network's score by which, of equally good networks, the larger is better: its choices may have lost too little to
be measured."""


@dataclass(frozen=True, slots=True)
class CostLimit:
    """Bounds of a cost, in its unit; None for none.

    Attributes:
        metric: Name of the cost.
    """

    metric: str
    minimum: float | None = None
    maximum: float | None = None

    def allows(self, value: float) -> bool:
        """Returns True if a value is within the bounds, up to rounding."""
        low, high, slack = self.minimum, self.maximum, 1e-9 * abs(value)
        return (low is None or value >= low - slack) and (high is None or value <= high + slack)


@dataclass(frozen=True, slots=True)
class Solution:
    """A network that the solver chose.

    Attributes:
        score: Sum of its scores: its predicted loss beyond the largest network's.
        costs: Its predicted costs by name.
        gap: Relative difference between its score and the bound of the best one of the program; 0 where it is proven to be
            that.
    """

    network: Architecture
    score: float
    costs: Mapping[str, float]
    gap: float


@dataclass(frozen=True, eq=False)
class BudgetSolver:
    """Chooses networks of a space by scores of its choices.

    Each level of a choice is a binary variable. Each joint option of the choices of a cost's term is a variable from 0 to 1,
    and those with a level sum to the level's variable. With binary levels exactly the network's joint option is 1, so that
    products of widths are linear. Solved by HiGHS (Huangfu and Hall 2018) through scipy.

    Args:
        space: The space of the networks.
        scores: Loss of each level of each choice, (n_levels,) each, as of `additive_scores`.
        costs: Costs by name.
        time_limit_s: Seconds for each program; what is best then has a gap.
    """

    space: SearchSpace
    scores: Sequence[Array]
    costs: Mapping[str, LinearCost]
    time_limit_s: float = TIME_LIMIT_S

    def solve(self, limits: Sequence[CostLimit], *, excluded: Sequence[Architecture] = ()) -> Solution | None:
        """The network of the least score within limits; None where no network that is not excluded keeps them.

        Args:
            limits: Limits on some of the costs, all of which must hold.
            excluded: Networks that must not be chosen.
        """
        if all(self.costs[limit.metric].is_exact for limit in limits):
            return self._solved(limits, excluded)
        return self._bisected(limits, excluded)

    def sweep(self, metric: str, n: int, limits: Sequence[CostLimit] = ()) -> list[Solution]:
        """The solutions for `n` even limits on a cost between those of the smallest and the largest network, without repeats.

        Args:
            limits: Further limits that each of them keeps; without any, bounds hold for the terms of the cost alone.
        """
        low, high = self.costs[metric]([self.space.smallest, self.space.largest]).tolist()
        bounds = [low + (high - low) * (k + 1) / (n + 1) for k in range(n)]
        every_limit = [[CostLimit(metric, maximum=bound), *limits] for bound in bounds]
        solutions = [self.solve(each) if limits else self._solved(each, ()) for each in every_limit]
        return list({s.network: s for s in solutions if s is not None}.values())

    def _keeps(self, network: Architecture, limits: Sequence[CostLimit]) -> bool:
        return all(limit.allows(float(self.costs[limit.metric]([network])[0])) for limit in limits)

    def _bisected(self, limits: Sequence[CostLimit], excluded: Sequence[Architecture]) -> Solution | None:
        """The best solution that keeps limits on costs that are not the sums of their terms, whose maxima in the program are
        moved together until it just does."""
        minimum_by_metric = {limit.metric: self._least_sum(self.costs[limit.metric]) for limit in limits}
        best, loose, tight = None, _LOOSEST, 1.0
        for _ in range(_BISECTIONS):
            share = (loose + tight) / 2
            inner = [
                limit
                if limit.maximum is None or self.costs[limit.metric].is_exact
                else CostLimit(
                    limit.metric,
                    limit.minimum,
                    limit.maximum - share * (limit.maximum - minimum_by_metric[limit.metric]),
                )
                for limit in limits
            ]
            solution = self._solved(inner, excluded)
            if solution is not None and not self._keeps(solution.network, limits):
                loose = share
                continue
            tight = share
            if solution is not None and (best is None or solution.score <= best.score):
                best = solution
        return best

    def _least_sum(self, cost: LinearCost) -> float:
        """A bound from below of a cost's terms."""
        return cost.constant + sum(float((term.values @ cost.weights).min()) for term in cost.terms.terms)

    @cached_property
    def _places(self) -> list[int]:
        """The first variable of each choice, one for each level and, where it can be inactive, one more; then their number."""
        sizes = [len(c.options) + (c.requires is not None) for c in self.space.choices]
        return [0, *np.cumsum(sizes).tolist()]

    def _variable(self, choice: int, level: int) -> int:
        """The variable of a level of a choice; that of `INACTIVE` is its last."""
        return self._places[choice + 1] - 1 if level == INACTIVE else self._places[choice] + level

    @cached_property
    def _program(self) -> tuple[int, Any, Array, Array, dict[str, Array]]:
        """The number of variables; the structural constraints and their bounds from below and above; coefficients of costs."""
        from scipy.sparse import coo_array  # half a second, which most searches do without

        entries, low, high = list[tuple[int, int, float]](), list[float](), list[float]()

        def constrain(row: Iterator[tuple[int, float]], lower: float, upper: float) -> None:
            entries.extend((len(low), variable, coefficient) for variable, coefficient in row)
            low.append(lower)
            high.append(upper)

        for i, choice in enumerate(self.space.choices):
            constrain(((v, 1.0) for v in range(self._places[i], self._places[i + 1])), 1, 1)
            if choice.requires is None:
                continue
            required = next(k for k, c in enumerate(self.space.choices) if c.name == choice.requires[0])
            can_lack = self.space.choices[required].requires is not None
            absent = [*range(choice.requires[1]), *([INACTIVE] if can_lack else [])]
            lacking = [(self._variable(required, level), -1.0) for level in absent]
            constrain(iter([(self._variable(i, INACTIVE), 1.0), *lacking]), 0, 0)
            for level in range(len(choice.options)) if choice.most is not None else ():
                admitting = [k for k, highest in enumerate(choice.most or ()) if highest >= level]
                row = [(self._variable(i, level), 1.0), *((self._variable(required, k), -1.0) for k in admitting)]
                constrain(iter(row), -np.inf, 0)
        n_variables, coefficients = self._places[-1], dict[str, list[tuple[int, Array]]]()
        states_of = dict[tuple[int, ...], int]()
        for name, cost in self.costs.items():
            coefficients[name] = []
            for term in cost.terms.terms:
                values = term.values @ cost.weights
                if len(term.choices) == 1:
                    variables = [self._variable(term.choices[0], level) for level in term.states[:, 0].tolist()]
                    coefficients[name] += [(v, value) for v, value in zip(variables, values, strict=True)]
                    continue
                if term.choices not in states_of:
                    start = states_of[term.choices] = n_variables
                    n_variables += len(term.states)
                    for column, choice_index in enumerate(term.choices):
                        for level in np.unique(term.states[:, column]).tolist():
                            rows = np.flatnonzero(term.states[:, column] == level).tolist()
                            variable = self._variable(choice_index, level)
                            constrain(iter([(variable, -1.0), *((start + r, 1.0) for r in rows)]), 0, 0)
                start = states_of[term.choices]
                coefficients[name] += [(start + r, value) for r, value in enumerate(values)]
            for i, by_level in enumerate(cost.by_level):
                coefficients[name] += [(self._places[i] + level, value) for level, value in enumerate(by_level)]
        table = np.array(entries)
        matrix = coo_array((table[:, 2], table[:, :2].T.astype(np.int64)), shape=(len(low), n_variables)).tocsr()
        dense = {}
        for name, pairs in coefficients.items():
            dense[name] = np.zeros(n_variables)
            np.add.at(dense[name], [v for v, _ in pairs], [value for _, value in pairs])
        return n_variables, matrix, np.array(low), np.array(high), dense

    def _objective(self, n_variables: int) -> Array:
        """The coefficients of the scores, at most 1."""
        objective = np.zeros(n_variables)
        for i, scores in enumerate(self.scores):
            ranks = np.arange(len(scores))[::-1] / max(1, len(scores) - 1)
            start = self._places[i]
            objective[start : start + len(scores)] = scores + _TIE * ranks * max(float(scores.max()), 1e-9)
        return objective / max(float(objective.max()), 1e-300)

    def _solved(self, limits: Sequence[CostLimit], excluded: Sequence[Architecture]) -> Solution | None:
        """The solution of the program with these limits on the terms' sums; None where nothing keeps them, or nothing is found
        in time."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        n_variables, matrix, low, high, coefficients = self._program
        constraints = [LinearConstraint(matrix, low, high)]
        for limit in limits:
            constant, row = self.costs[limit.metric].constant, coefficients[limit.metric]
            scale = max(float(np.abs(row).max()), 1e-300)
            lower = -np.inf if limit.minimum is None else (limit.minimum - constant) / scale
            upper = np.inf if limit.maximum is None else (limit.maximum - constant) / scale
            constraints.append(LinearConstraint(row[None] / scale, lower, upper))
        for network in excluded:
            row = np.zeros(n_variables)
            row[[self._variable(i, gene) for i, gene in enumerate(network.genes)]] = 1
            constraints.append(LinearConstraint(row[None], -np.inf, len(network.genes) - 1))
        result = milp(
            self._objective(n_variables),
            integrality=np.arange(n_variables) < self._places[-1],
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"time_limit": self.time_limit_s},
        )
        if result.x is None:
            return None
        genes = [
            int(np.argmax(result.x[start:end])) for start, end in zip(self._places[:-1], self._places[1:], strict=True)
        ]
        network = self.space.canonical(
            [min(g, len(c.options) - 1) for g, c in zip(genes, self.space.choices, strict=True)]
        )
        costs = {name: float(cost([network])[0]) for name, cost in self.costs.items()}
        return Solution(network, score_of(self.scores, network), costs, max(0.0, float(result.mip_gap or 0.0)))
