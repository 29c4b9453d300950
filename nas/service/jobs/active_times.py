"""The time that running runs take, which is charged to the people who submitted them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from nas.engine.run_listing import RunSnapshot
from nas.service.jobs.job_runner import JobState
from nas.service.jobs.next_steps import is_active
from nas.service.state import ServiceState, Submission

_CHARGE_S = 10.0
"""Between two records of the used time: what is lost if the server is killed."""
_MAX_ROUND_S = 60.0
"""That a round may charge: the machine may have slept."""


class ActiveTimes:
    """Since when runs have their drivers, and how much of it was charged. `elapsed_s` may be called from other threads.

    Args:
        clock: seconds, of any origin.
        wall_clock: seconds since the epoch.
    """

    def __init__(
        self, state: ServiceState, clock: Callable[[], float], wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._state, self._clock, self._wall_clock = state, clock, wall_clock
        self._since: Mapping[str, float] = {}
        self._looked = self._charged = clock()
        self._used: defaultdict[str, float] = defaultdict(float)  # not charged yet

    def elapsed_s(self) -> dict[str, float]:
        """The seconds since the drivers of the runs that have one started, by run."""
        now = self._clock()
        return {run: max(0.0, now - since) for run, since in self._since.items()}

    def begin(self, run: str) -> None:
        """Records that a driver of a run is started now: the next look may be seconds away."""
        self._since = {**self._since, run: self._clock()}

    def look(
        self, submissions: Sequence[Submission], snapshots: Mapping[str, RunSnapshot], jobs: Mapping[str, JobState]
    ) -> None:
        """Looks which runs have a driver now, and charges the time since the last look to their submitters."""
        now = self._clock()
        held_runs = {run for run, snapshot in snapshots.items() if snapshot.has_driver}
        active = [s for s in submissions if is_active(s, jobs) or s.run in held_runs]
        for submission in active:
            if submission.run in self._since:
                self._used[submission.submitter] += min(_MAX_ROUND_S, now - self._looked)
        self._since = {s.run: self._since.get(s.run, now - self._past_s(s, snapshots.get(s.run))) for s in active}
        self._looked = now
        has_ended = self._used.keys() - {s.submitter for s in active}
        if self._used and (has_ended or now >= self._charged + _CHARGE_S):
            self._state.charge(self._used, self._wall_clock())
            self._used, self._charged = defaultdict(float), now

    def _past_s(self, submission: Submission, snapshot: RunSnapshot | None) -> float:
        """The time since the start of a driver that an earlier server started; 0 where it is not known."""
        if snapshot is None or snapshot.started is None or submission.attempt != 1:
            return 0.0
        return self._wall_clock() - snapshot.started
