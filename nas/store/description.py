"""The typed facts and state of a run, over the named JSON values that a store keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from nas.errors import NasError, StoreError
from nas.store.json_values import plain
from nas.store.run_facts import RunFacts, SearchFacts
from nas.store.run_state import STATE_KEYS, RunState, StateUpdate, stored_values
from supernets.errors import SpaceError


class DescribedRun(ABC):
    """The part of a `RunStore` that describes the run; see there."""

    _name: str
    """What the store is called in errors."""

    @abstractmethod
    def _values(self, *, only: Sequence[str] = (), without: Sequence[str] = ()) -> dict[str, Any]:
        """The stored values, all or those of some names; the caller's own."""

    @abstractmethod
    def _set_values(self, values: Mapping[str, Any]) -> None:
        """Stores plain values in place of those of the same names, all or none."""

    def facts(self) -> RunFacts | None:
        values = self._values(without=STATE_KEYS)
        try:
            return RunFacts.from_json(values)
        except (KeyError, TypeError, ValueError, NasError, SpaceError) as error:
            raise self._damaged(error) from error

    def search_facts(self) -> SearchFacts:
        facts = self.facts()
        if facts is None or facts.search is None:
            raise StoreError(f"{self._name}: the run is not a search", code="run.is-training")
        return facts.search

    def state(self) -> RunState:
        values = self._values(only=STATE_KEYS)
        try:
            return RunState.from_json(values)
        except (KeyError, TypeError, ValueError, NasError, SpaceError) as error:
            raise self._damaged(error) from error

    def describe(self, facts: RunFacts, **state: Unpack[StateUpdate]) -> None:
        self._keep({**facts.to_json(), **stored_values(state)})

    def update_state(self, **changes: Unpack[StateUpdate]) -> None:
        self._keep(stored_values(changes))

    def _keep(self, values: Mapping[str, Any]) -> None:
        self._set_values({name: plain(value, where=name) for name, value in values.items()})

    def _damaged(self, error: Exception) -> StoreError:
        return StoreError(
            f"{self._name}: its description cannot be read ({error!r}); restore a copy, or start a new run",
            code="store.damaged",
        )
