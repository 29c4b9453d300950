"""The extension of a run's budget, applied at most once."""

from __future__ import annotations

from dataclasses import dataclass

from nas.errors import NasError
from nas.problem.budget import Budget, Spent, extend_budget
from nas.store.base import RunStatus, RunStore
from nas.store.run_state import RunState


@dataclass(frozen=True, slots=True)
class BudgetExtension:
    """New totals of a budget (``150``), or increases (``+50``).

    Attributes:
        id: of this request; a run applies an id once. "" for one that is applied each time.
    """

    evaluations: str | int | None = None
    minutes: str | float | None = None
    id: str = ""

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return self.evaluations is not None or self.minutes is not None

    def extended_budget(self, store: RunStore, run: str) -> Budget:
        """The budget of a run with this extension; `NasError` if it is a training, or could not continue with it."""
        state = store.state()
        if state.budget is None:
            text = f"run {run} is a training; --evaluations and --minutes are a search's"
            raise NasError(text, code="run.not-a-search")
        spent = Spent(sum(map(len, store.asks())), state.searched_seconds, ended=state.stop is not None)
        try:
            return extend_budget(state.budget, spent, evaluations=self.evaluations, minutes=self.minutes)
        except NasError as error:
            raise NasError(f"run {run}: {error}", code=error.code) from None

    def is_applied(self, state: RunState) -> bool:
        """Whether a run in this state has it already."""
        return bool(self.id) and state.extension == self.id

    def apply(self, store: RunStore, run: str) -> None:
        """Records it before it takes effect, so that a driver that is killed now is resumed with it."""
        budget = self.extended_budget(store, run)
        if store.status() is RunStatus.FINISHED:  # first: what is not finished is resumed, with either budget
            store.set_status(RunStatus.CANCELLED, reason=f"its budget was extended; continue with: nas resume {run}")
        # Until there are finalists again, the front is chosen from all networks, lest it hide what the extension finds.
        store.update_state(budget=budget, stop=None, finalists=(), extension=self.id or store.state().extension)
