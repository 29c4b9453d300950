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


def parse_space(given: SpaceLike) -> SearchSpace:
    """The space itself, or that of independent choices given as lists of options by name.

    Raises:
        NasError: not of either form.
        SpaceError: no choices, or a choice has no or equal options.
    """
    if isinstance(given, SearchSpace):
        return given
    if not isinstance(given, Mapping):
        _reject("space", given, "a SearchSpace, or a dict of lists as in {'width': [8, 16, 32]}")
    for name, options in given.items():
        if not isinstance(options, Sequence) or isinstance(options, str):
            _reject(f"space[{name!r}]", options, "a list of options, the smallest network first")
        for option in options:
            if not isinstance(option, Option):
                _reject(f"space[{name!r}]", option, "numbers or texts as options")
    return SearchSpace([Choice(str(name), tuple(options)) for name, options in given.items()])


def parse_objectives(given: ObjectivesLike) -> tuple[Objective, ...]:
    """Objectives, or those of a goal by metric; `NasError` for none, equal names, or no goal."""
    if isinstance(given, Mapping):
        found = [Objective(str(name), "", _goal(name, goal)) for name, goal in given.items()]
    elif isinstance(given, Sequence) and all(isinstance(objective, Objective) for objective in given):
        found = list(given)
    else:
        _reject("objectives", given, "a dict as in {'accuracy': 'maximize', 'latency_ms': 'minimize'}, or Objectives")
    names = [objective.name for objective in found]
    if not found or len(set(names)) < len(names):
        _reject("objectives", names, "at least one, each once")
    return tuple(found)


def parse_constraints(given: ConstraintsLike, objectives: Sequence[Objective]) -> tuple[Constraint, ...]:
    """Constraints, or those of bounds by metric, which need not be an objective; `NasError` for other values."""
    if not isinstance(given, Mapping):
        if not isinstance(given, Sequence) or not all(isinstance(constraint, Constraint) for constraint in given):
            _reject("constraints", given, "a dict as in {'latency_ms': {'max': 2}}, or Constraints")
        return tuple(given)
    known = {objective.name: objective for objective in objectives}
    found = []
    for name, bounds in given.items():
        where = f"constraints[{name!r}]"
        if not isinstance(bounds, Mapping) or not bounds or not set(bounds) <= set(_BOUNDS):
            _reject(where, bounds, "{'max': number}, {'min': number}, or both")
        for bound in bounds.values():
            if not isinstance(bound, int | float):
                _reject(where, bound, "numbers as bounds")
        goal = Goal.MINIMIZE if "max" in bounds else Goal.MAXIMIZE
        metric = known.get(name) or Objective(str(name), "", goal)
        try:
            found.append(Constraint(metric, bounds.get("min"), bounds.get("max")))
        except ValueError as error:
            raise invalid(f"{where}: {error}") from None
    return tuple(found)


def parse_budget(given: int | Budget) -> Budget:
    """A budget, or one of a number of evaluations; `NasError` for none."""
    budget = Budget(given) if isinstance(given, int) else given
    if not isinstance(budget, Budget) or budget.evaluations < 1:
        _reject("budget", given, "a number of evaluations of at least 1, or a Budget")
    return budget


def check_number(name: str, given: object, *, least: int) -> None:
    """Raises `NasError` unless the argument is a whole number of at least `least`."""
    if not isinstance(given, int) or isinstance(given, bool) or given < least:
        _reject(name, given, f"a whole number of at least {least}")


def check_kind(
    name: str, given: object, methods: Sequence[str], expected: str, *, also: type | UnionType = NoneType
) -> None:
    """Raises `NasError` unless the argument is None, of the types in `also`, or an object (no class) with these methods."""
    if given is None or isinstance(given, also):
        return
    if isinstance(given, type) or not all(callable(getattr(given, method, None)) for method in methods):
        _reject(name, given, expected)


def _goal(name: str, given: Any) -> Goal:
    try:
        return Goal(given)
    except ValueError:
        _reject(f"objectives[{name!r}]", given, "'maximize' or 'minimize'")


def _reject(name: str, given: object, expected: str) -> NoReturn:
    shown = quoted(given) if isinstance(given, str) else quoted(repr(given)).strip("'\"")
    raise invalid(f"nas.optimize: {name} is {shown}; expected {expected}")
