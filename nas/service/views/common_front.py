"""The common front of several searches, or why their values cannot be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hardware_profiles.environment import differences
from nas.engine.store.base import RunStore
from nas.results.analysis.fronts import front_of
from nas.results.analysis.network_values import Point
from nas.search.problem.objectives import Objective

_DECISIVE = ("threads", "batch_size", "provider")
"""The settings of a profile that change what is measured on it."""


@dataclass(frozen=True, slots=True)
class MeasurementBasis:
    """The conditions under which the values of a run were measured.

    Attributes:
        validation: Digest of the examples behind its accuracies; None where its version recorded none.
        profiles: Settings of the run's hardware profiles by name.
        environments: Environment of the first measurement by ``profile NAME``.
    """

    validation: str | None
    profiles: Mapping[str, Mapping[str, Any]]
    environments: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, store: RunStore) -> MeasurementBasis:
        """The basis of a run that has begun, from its store."""
        facts, state = store.facts(), store.state()
        recorded = {} if facts is None else facts.compatibility
        return cls(recorded.get("data", {}).get("validation"), recorded.get("profiles", {}), state.environments)


def obstacles(bases: Mapping[str, MeasurementBasis], objectives: Iterable[Objective]) -> list[str]:
    """Why values of the runs in these objectives cannot be compared, by sentences; empty where they can.

    Args:
        bases: by run; each is compared with the first.
    """
    (first, basis), *other_bases = bases.items()
    sentences = []
    for objective in objectives:
        for run, other_basis in other_bases:
            sentences += [f"{text} ({first} and {run})" for text in _obstacles(objective, basis, other_basis)]
    return list(dict.fromkeys(sentences))


def _obstacles(objective: Objective, a: MeasurementBasis, b: MeasurementBasis) -> list[str]:
    if objective.of_task and None not in (a.validation, b.validation) and a.validation != b.validation:
        return [f"{objective.name} was measured on different validation examples"]
    if objective.profile is None:
        return []
    name = objective.profile
    was, now = a.profiles.get(name, {}), b.profiles.get(name, {})
    settings = [f"{key} {was.get(key)} and {now.get(key)}" for key in _DECISIVE if was.get(key) != now.get(key)]
    if settings:
        return [f"the profile {name} has other settings: {', '.join(settings)}"]
    before, after = a.environments.get(f"profile {name}"), b.environments.get(f"profile {name}")
    if before is None or after is None:
        return []
    changed = differences(before, after)
    return (
        [f"{objective.metric} on {name} was measured in different environments: {'; '.join(changed)}"]
        if changed
        else []
    )


def common_front(fronts: Mapping[str, Sequence[Point]], objectives: Sequence[Objective]) -> list[tuple[str, Point]]:
    """The members of several runs' fronts that no member of another dominates, with their run, the cheapest first."""
    runs = {id(point): run for run, front in fronts.items() for point in front}
    return [(runs[id(point)], point) for point in front_of([p for front in fronts.values() for p in front], objectives)]
