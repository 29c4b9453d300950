"""The changes that a resume makes to a run, applied at most once: its budget, and whether failures are measured again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nas.engine.store.base import RunStatus, RunStore
from nas.engine.store.folder import RunFolder
from nas.engine.store.run_facts import RunFacts
from nas.engine.store.run_state import RunState
from nas.errors import NasError, Remedy, RunStateError
from nas.search.problem.budget import Budget, Spent, extend_budget


def check_ended(folder: RunFolder, store: RunStore, more: Resumption) -> RunFacts:
    """The facts of a run that can continue; `RunStateError` if it is finished with nothing more to do, or never began."""
    facts, run = store.facts(), folder.id
    if store.status() is RunStatus.FINISHED and not more:
        is_search = facts is not None and facts.search is not None
        hint = "; to continue the search, add evaluations" if is_search else ""
        raise RunStateError(
            f"run {run} is finished; there is nothing to resume{hint}",
            code="run.ended",
            remedy=Remedy("resume", run, {"evaluations": "+50"}) if is_search else None,
        )
    if facts is None:
        raise RunStateError(
            f"run {run} was killed before it began, so that there is nothing to resume; start the job again",
            code="run.not-begun",
        )
    return facts


@dataclass(frozen=True, slots=True)
class Resumption:
    """A new budget of a run, as totals (``150``) or increases (``+50``), and the retry of its failed measurements.

    Attributes:
        retry_failed: measure again what failed or was too noisy; it costs none of the budget.
        id: Id of this request; a run applies an id once. "" for a request that is applied each time.
    """

    evaluations: str | int | None = None
    minutes: str | float | None = None
    retry_failed: bool = False
    id: str = ""

    def __bool__(self) -> bool:
        """True if it changes anything."""
        return self._extends or self.retry_failed

    @property
    def _extends(self) -> bool:
        return self.evaluations is not None or self.minutes is not None

    def check(self, store: RunStore, run: str) -> None:
        """Raises `NasError` if the run is a training, could not continue with the budget, or has no failure to retry."""
        if self._extends:
            self.extended_budget(store, run)
        if self.retry_failed and not store.failures():
            raise RunStateError(
                f"run {run}: no measurement failed; there is nothing to retry", code="run.nothing-failed"
            )

    def extended_budget(self, store: RunStore, run: str) -> Budget:
        """The new budget of a run; `NasError` if it is a training, or could not continue with it."""
        facts, state = store.facts(), store.state()
        if state.budget is None or facts is None or facts.search is None:
            text = f"run {run} is a training; evaluations and minutes are a search's"
            raise NasError(text, code="run.not-a-search")
        n_spent = facts.search.n_spent(sum(map(len, store.asks())))
        spent = Spent(n_spent, state.searched_seconds, ended=state.stop is not None)
        try:
            return extend_budget(state.budget, spent, evaluations=self.evaluations, minutes=self.minutes)
        except NasError as error:
            message = f"run {run}: {error}"
            raise NasError(message, code=error.code, remedy=error.remedy, parameter=error.parameter) from None

    def is_applied(self, state: RunState) -> bool:
        """True if a run in this state has it already."""
        return bool(self.id) and state.extension == self.id

    def apply(self, store: RunStore, run: str) -> None:
        """Records it before it takes effect, so that a driver that is killed now is resumed with it."""
        self.check(store, run)
        changes: dict[str, Any] = {"extension": self.id or store.state().extension}
        if self._extends:
            changes |= {"budget": self.extended_budget(store, run), "stop": None}
        if self.retry_failed:
            changes["retry_failures"] = True
        if store.status() is RunStatus.FINISHED:  # first: what is not finished is resumed, with either budget
            store.set_status(RunStatus.CANCELLED, reason="interrupted before it continued")
        # Until there are finalists again, the front is chosen from all networks, lest it hide what is found now.
        store.update_state(**changes, finalists=())
