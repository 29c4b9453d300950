"""A search in its store: begun, resumed if it is the same one, and its end recorded."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from nas.engine.formatting import constraint_text
from nas.engine.store.base import RunStatus, RunStore
from nas.engine.store.compatibility import check_compatibility, check_plugins
from nas.engine.store.run_facts import RunFacts
from nas.errors import EvaluationError, StoreError
from nas.search.problem.budget import Budget

MADE_BY: Mapping[str, Any] = {"made_by": "nas.optimize"}
"""The compatibility facts of every such search: a run of a job is none."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The budget with which a new or resumed search continues, and its treatment of failures.

    Attributes:
        budget: The budget of the call; where it extends that of the store, a plateau counts from there.
        retry_failures: True if failures in the store are evaluated again.
    """

    budget: Budget
    retry_failures: bool


def begin_or_resume(
    store: RunStore, facts: RunFacts, budget: Budget, *, retry_failed: bool, accept_plugin_versions: bool
) -> Resumed:
    """Describes a new search in its store, or checks that the store holds the same one.

    Raises:
        NasError: the store holds another search (code ``run.incompatible``).
        PluginError: the package of the algorithm has another version than when it was begun.
    """
    stored, state = store.facts(), store.state()
    if stored is None:
        store.describe(facts, budget=budget)
        store.set_status(RunStatus.RUNNING)
        return Resumed(budget, retry_failures=False)
    name = getattr(store, "_name", "the store")
    remedy = "call nas.optimize with the arguments of before, or with another store"
    check_compatibility(name, _compared(stored), _compared(facts), remedy=remedy)
    noted = partial(print, file=sys.stderr)
    check_plugins(name, stored.plugins, facts.plugins, accept=accept_plugin_versions, note=noted)
    before = state.budget or budget
    if replace(before, plateau_from=0) == replace(budget, plateau_from=0):
        budget = before
    else:  # the store's own end, by time or plateau, was that of the budget before
        budget = replace(budget, plateau_from=sum(map(len, store.asks())))
        store.update_state(budget=budget, stop=None)
    if retry_failed or store.status() is RunStatus.FAILED:
        store.update_state(retry_failures=True)
    store.set_status(RunStatus.RUNNING)
    return Resumed(budget, retry_failures=store.state().retry_failures)


@contextmanager
def recording_end(store: RunStore) -> Iterator[None]:
    """Records that a search finished, or the error that ended it; an interrupted one stays running, to be resumed.

    An error of the evaluations carries the traceback of the first call that raised, as a note.
    """
    try:
        yield
    except EvaluationError as error:
        raised = [text for failure in store.failures() if (text := failure.detail.get("traceback"))]
        if raised:
            error.add_note(f"The first error:\n{raised[0]}")
        store.set_status(RunStatus.FAILED, reason=str(error))
        raise
    except StoreError:  # it can be written no more
        raise
    except Exception as error:
        store.set_status(RunStatus.FAILED, reason=f"{type(error).__name__}: {error}")
        raise
    store.update_state(retry_failures=False)
    store.set_status(RunStatus.FINISHED)


def _compared(facts: RunFacts) -> dict[str, Any]:
    """Properties that must be equal for a search to be resumed, by name."""
    made_by, search = facts.compatibility.get("made_by", "a job"), facts.search
    if search is None:
        return {"made_by": made_by}
    return {
        "made_by": made_by,
        "space": {choice.name: [list(choice.options), choice.requires] for choice in search.space.choices},
        "order of the choices": [choice.name for choice in search.space.choices],
        "objectives": {o.name: str(o.goal) for o in search.objectives},
        "constraints": ", ".join(map(constraint_text, search.constraints)) or "none",
        "algorithm": search.algorithm,
        "predictor": search.predictor or "none",
        "seed": facts.seed,
    }
