"""Whether a run is a search or a training, and whether it has begun."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nas.engine.run import Run
from nas.service.views.reports import Stamped
from nas.store.folder import RunsFolder


@dataclass(frozen=True, slots=True)
class Kind:
    """What a run is.

    Attributes:
        begun: whether a driver has written down what it is made of.
    """

    kind: str
    begun: bool


class Kinds:
    """The kinds of runs, each kept until the run changes.

    Args:
        asked_for: by run, the kind that a submission asked for; None for runs that were not submitted.
    """

    def __init__(self, runs: RunsFolder, asked_for: Callable[[str], str | None]) -> None:
        self._asked_for = asked_for
        self._told: Stamped[str | None] = Stamped(runs, lambda run, _: _told(run), most=1000)

    def of(self, run: str) -> Kind:
        """What a run is.

        Raises:
            UnknownNameError: there is none of this id.
            StoreError: its store is damaged.
        """
        told = self._told.get(run)
        return Kind(told or self._asked_for(run) or "search", told is not None)


def _told(run: Run) -> str | None:
    with run.store() as store:
        kind = store.info().get("kind")
    return None if kind is None else str(kind)
