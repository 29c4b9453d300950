"""The queue of submitted runs: their order, their expected durations and starts, and changes of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from nas.engine.formatting import counted
from nas.engine.store.base import RunStatus
from nas.errors import NasError
from nas.service.jobs.fair_share import ActiveRun, FairShare
from nas.service.people import SERVER, acting_as
from nas.service.settings import ServiceSettings
from nas.service.stamped_cache import fresh
from nas.service.state import ServiceState, Submission
from nas.service.views.run_index import RunIndex

_SAMPLES = 20
"""Ended runs whose durations are looked at: the newest."""
_DURATIONS_S = 10.0
"""Before durations are looked at again."""
_ORDER_S = 1.0
"""Before the order is computed again for those who only look: many clients follow their runs."""


@dataclass(frozen=True, slots=True)
class Duration:
    """An expected duration.

    Attributes:
        seconds: None where nothing is known to go by.
        basis: What it is based on, for readers, e.g. ``its plan``.
    """

    seconds: float | None
    basis: str


@dataclass(frozen=True, slots=True)
class QueueView:
    """The queue at one moment.

    Attributes:
        waiting: Submissions in the order in which they start.
        active: The runs that have a driver, the oldest first.
        durations: by run.
        starts: When waiting runs are expected to start, in seconds since the epoch, by run; those that cannot be told are
            left out.
    """

    waiting: Sequence[Submission]
    active: Sequence[ActiveRun]
    durations: Mapping[str, Duration]
    starts: Mapping[str, float]


class RunQueue:
    """The queue of one server. Safe to use from several threads.

    Args:
        active: the seconds since their drivers started, by run, of the runs that have one.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        state: ServiceState,
        index: RunIndex,
        *,
        active: Callable[[], Mapping[str, float]] = dict,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._state, self._index = settings, state, index
        self._active, self._clock = active, clock
        # Of a person, or of all (None): when they were read; and kinds, names, seconds.
        self._durations: dict[str | None, tuple[float, Sequence[tuple[str, str, float]]]] = {}
        self._view: tuple[float, Sequence[Submission], QueueView] | None = None

    @property
    def share(self) -> FairShare:
        """The limits of the server, without the time that people used."""
        return FairShare(self._settings.jobs_at_once, self._settings.running_per_person)

    def view(self) -> QueueView:
        """The queue now; as it was a moment ago where no submission has changed since."""
        submissions, now = self._state.submissions(), self._clock()
        if self._view is not None and self._view[1] == submissions and fresh(self._view[0], now, _ORDER_S):
            return self._view[2]
        view = self._compute(submissions, now)
        self._view = now, submissions, view
        return view

    def order(self, submissions: Sequence[Submission]) -> list[Submission]:
        """The submissions with those that wait in the order in which they start, and the others before them."""
        ordered = self._compute(submissions, self._clock()).waiting if any(s.waits for s in submissions) else ()
        return [s for s in submissions if not s.waits] + list(ordered)

    def move(self, run: str, position: int) -> None:
        """Puts a waiting run at a position of the queue.

        It and those before it keep their places, whatever others submit; those behind it follow the fair order.

        Args:
            position: from 1; 0 returns the run to the fair order.
        """
        waiting = list(self._compute(self._state.submissions(), self._clock()).waiting)
        if position == 0:
            self._state.set_places({run: None})
            return
        moved = next(s for s in waiting if s.run == run)
        waiting.remove(moved)
        waiting.insert(position - 1, moved)
        n_placed = max(min(position, len(waiting)), sum(s.place is not None for s in waiting))
        self._state.set_places({s.run: place for place, s in enumerate(waiting[:n_placed], start=1)})

    @acting_as(SERVER)  # the order is of all people's runs
    def _compute(self, submissions: Sequence[Submission], now: float) -> QueueView:
        by_run = {s.run: s for s in submissions}
        elapsed = {
            run: seconds
            for run, seconds in self._active().items()
            if run in by_run and by_run[run].job is not None  # one that is started at this moment may still wait
        }
        waiting = [s for s in submissions if s.waits]
        durations = {s.run: self._duration(s) for s in [*waiting, *(by_run[run] for run in elapsed)]}
        share = replace(
            self.share,
            used_s=self._state.used_s(now),
            active=[ActiveRun(run, by_run[run].submitter, s, durations[run].seconds) for run, s in elapsed.items()],
        )
        ordered = share.order([replace(s, expected_s=durations[s.run].seconds) for s in waiting])
        starts = share.expected_starts(ordered, now)
        return QueueView([by_run[w.run] for w in ordered], share.active, durations, starts)

    def _duration(self, submission: Submission) -> Duration:
        """The expected duration: by the plan of the same job, or by ended runs of the same name, or of the same kind.

        On a private server, by ended runs of the same person: those of others are hidden.
        """
        if submission.expected_s is not None:
            return Duration(submission.expected_s, "its plan")
        name, person = self._name(submission.run), submission.submitter if self._settings.private else None
        of_kind = [(ended, seconds) for kind, ended, seconds in self._ended(person) if kind == submission.kind]
        of_name = [seconds for ended, seconds in of_kind if ended == name]
        seconds = of_name or [seconds for _, seconds in of_kind]
        if not seconds:
            return Duration(None, "no run has ended yet" if person is None else "no run of this person has ended yet")
        basis = counted(len(seconds), "run") + (f" of {name}" if of_name else f" ({submission.kind})")
        return Duration(statistics.median(seconds), basis)

    def _name(self, run: str) -> str:
        """The name of a run's job; "" where its file cannot be read."""
        with suppress(NasError):
            return self._index.job(run).name
        return ""

    def _ended(self, person: str | None) -> Sequence[tuple[str, str, float]]:
        """The kinds, names and durations in seconds of the newest finished runs of a person; of all people for None."""
        now = self._clock()
        if person not in self._durations or not fresh(self._durations[person][0], now, _DURATIONS_S):
            durations: list[tuple[str, str, float]] = []
            for submission in reversed(self._state.submissions()):
                if person not in (None, submission.submitter):
                    continue
                with suppress(NasError):  # it cannot be read
                    snapshot = self._index.snapshot(submission.run)
                    if snapshot.status is RunStatus.FINISHED and snapshot.started and snapshot.ended:
                        durations.append((snapshot.kind, self._name(submission.run), snapshot.ended - snapshot.started))
                if len(durations) >= _SAMPLES:
                    break
            self._durations[person] = now, durations
        return self._durations[person][1]
