"""Facts of made-up runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas.engine.store.run_facts import RunFacts, SearchFacts
from nas.search.problem.objectives import Objective
from supernets.space import Choice, SearchSpace

ONE_CHOICE = SearchSpace([Choice("width", (8, 16))])


def training_facts(*, name: str = "made", epochs: int = 1) -> RunFacts:
    """Those of a training."""
    return RunFacts(name=name, compatibility={}, epochs=epochs)


def search_facts(
    space: SearchSpace = ONE_CHOICE,
    objectives: Sequence[str] = ("accuracy",),
    *,
    profiles: Sequence[str] = (),
    name: str = "made",
    epochs: int = 0,
    **further: Any,
) -> RunFacts:
    """Those of a search; `further` are fields of its `SearchFacts`."""
    parsed = tuple(Objective.parse(objective, profiles) for objective in objectives)
    search = SearchFacts(space=space, objectives=parsed, profiles=tuple(profiles), **further)
    return RunFacts(name=name, compatibility={}, epochs=epochs, search=search)
