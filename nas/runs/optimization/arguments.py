"""The arguments of `nas.optimize`, checked and as the loop takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, NoReturn

from nas.errors import NasError, quoted
from nas.search.problem.budget import Budget
from nas.search.problem.objectives import Constraint, Goal, Objective
from supernets.space import Choice, Option, SearchSpace

SpaceLike = SearchSpace | Mapping[str, Sequence[Option]]
ObjectivesLike = Mapping[str, str] | Sequence[Objective]
ConstraintsLike = Mapping[str, Mapping[str, float]] | Sequence[Constraint]
_BOUNDS = ("min", "max")


def invalid(text: str) -> NasError:
    """The error of an argument: what came, and what was expected."""
    return NasError(text, code="optimize.invalid")


def parse_space(space: SpaceLike) -> SearchSpace:
    """The space itself, or that of independent choices from lists of options by name.

    Raises:
        NasError: not of either form.
        SpaceError: no choices, or a choice has no or equal options.
    """
    if isinstance(space, SearchSpace):
        return space
    if not isinstance(space, Mapping):
        _reject("space", space, "a SearchSpace, or a dict of lists as in {'width': [8, 16, 32]}")
    for name, options in space.items():
        if not isinstance(options, Sequence) or isinstance(options, str):
            _reject(f"space[{name!r}]", options, "a list of options, the smallest network first")
        for option in options:
            if not isinstance(option, Option):
                _reject(f"space[{name!r}]", option, "numbers or texts as options")
    return SearchSpace([Choice(str(name), tuple(options)) for name, options in space.items()])


def parse_objectives(objectives: ObjectivesLike) -> tuple[Objective, ...]:
    """Objectives, or those of a goal by metric; `NasError` for none, equal names, or no goal."""
    if isinstance(objectives, Mapping):
        parsed = [Objective(str(name), "", _goal(name, goal)) for name, goal in objectives.items()]
    elif isinstance(objectives, Sequence) and all(isinstance(objective, Objective) for objective in objectives):
        parsed = list(objectives)
    else:
        _reject(
            "objectives", objectives, "a dict as in {'accuracy': 'maximize', 'latency_ms': 'minimize'}, or Objectives"
        )
    names = [objective.name for objective in parsed]
    if not parsed or len(set(names)) < len(names):
        _reject("objectives", names, "at least one, each once")
    return tuple(parsed)


def parse_constraints(constraints: ConstraintsLike, objectives: Sequence[Objective]) -> tuple[Constraint, ...]:
    """Constraints, or those of bounds by metric, which need not be an objective; `NasError` for other values."""
    if not isinstance(constraints, Mapping):
        if not isinstance(constraints, Sequence) or not all(
            isinstance(constraint, Constraint) for constraint in constraints
        ):
            _reject("constraints", constraints, "a dict as in {'latency_ms': {'max': 2}}, or Constraints")
        return tuple(constraints)
    objective_by_name = {objective.name: objective for objective in objectives}
    parsed = []
    for name, bounds in constraints.items():
        where = f"constraints[{name!r}]"
        if not isinstance(bounds, Mapping) or not bounds or not set(bounds) <= set(_BOUNDS):
            _reject(where, bounds, "{'max': number}, {'min': number}, or both")
        for bound in bounds.values():
            if not isinstance(bound, int | float):
                _reject(where, bound, "numbers as bounds")
        goal = Goal.MINIMIZE if "max" in bounds else Goal.MAXIMIZE
        metric = objective_by_name.get(name) or Objective(str(name), "", goal)
        try:
            parsed.append(Constraint(metric, bounds.get("min"), bounds.get("max")))
        except ValueError as error:
            raise invalid(f"{where}: {error}") from None
    return tuple(parsed)


def parse_budget(budget: int | Budget) -> Budget:
    """A budget, or one of a number of evaluations; `NasError` for none."""
    parsed = Budget(budget) if isinstance(budget, int) else budget
    if not isinstance(parsed, Budget) or parsed.evaluations < 1:
        _reject("budget", budget, "a number of evaluations of at least 1, or a Budget")
    return parsed


def check_number(name: str, argument: object, *, minimum: int) -> None:
    """Raises `NasError` unless the argument is a whole number of at least `minimum`."""
    if not isinstance(argument, int) or isinstance(argument, bool) or argument < minimum:
        _reject(name, argument, f"a whole number of at least {minimum}")


def check_kind(
    name: str, argument: object, methods: Sequence[str], expected: str, *, also: type | UnionType = NoneType
) -> None:
    """Raises `NasError` unless the argument is None, of the types in `also`, or an object (no class) with these methods."""
    if argument is None or isinstance(argument, also):
        return
    if isinstance(argument, type) or not all(callable(getattr(argument, method, None)) for method in methods):
        _reject(name, argument, expected)


def _goal(name: str, argument: Any) -> Goal:
    try:
        return Goal(argument)
    except ValueError:
        _reject(f"objectives[{name!r}]", argument, "'maximize' or 'minimize'")


def _reject(name: str, argument: object, expected: str) -> NoReturn:
    shown = quoted(argument) if isinstance(argument, str) else quoted(repr(argument)).strip("'\"")
    raise invalid(f"nas.optimize: {name} is {shown}; expected {expected}")
