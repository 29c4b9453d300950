"""The runs that wait or run, by what they need: other runs, data sets and hardware profiles."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nas.errors import NasError, RunStateError, StoreError
from nas.service.ownership import Ownership, Thing, ThingKind
from nas.service.people import SERVER, acting_as
from nas.service.state import RequestedState, ServiceState
from nas.service.views.run_index import JobSummary, RunIndex


class OpenRuns:
    """The submitted runs of a server that have not ended."""

    def __init__(self, state: ServiceState, index: RunIndex, owners: Ownership) -> None:
        self._state, self._index, self._owners = state, index, owners

    def needing_run(self, run: str) -> list[str]:
        """Those that start from another run."""
        return self._named([user for user, job in self._jobs() if user != run and run in job.needs])

    def check_unused(self, path: Path, subject: str, *, tasks: Sequence[str] = ()) -> None:
        """Raises `RunStateError` if an open run uses a stored file or folder, or one of these tasks does.

        Args:
            subject: The thing that is to be deleted, for the message, e.g. ``the model 'resnet18'``.
        """
        users = [run for run, job in self._jobs() if any(used.is_relative_to(path) for used in job.paths)]
        if users := [*self._named(users), *tasks]:
            text = f"{subject} is used by {', '.join(users)}; delete it when they have ended"
            raise RunStateError(text, code="run.needed")

    def _named(self, runs: Sequence[str]) -> list[str]:
        """The runs by name, as far as the sender of the request sees them."""
        return [run if self._owners.sees(Thing(ThingKind.RUN, run)) else "another person's run" for run in runs]

    def _jobs(self) -> list[tuple[str, JobSummary]]:
        jobs = []
        with acting_as(SERVER):  # also of runs that the sender of the request does not see
            for submission in self._state.submissions():
                if submission.wanted is RequestedState.DRIVEN and (submission.waits or self.is_open(submission.run)):
                    with suppress(NasError):  # its job file cannot be read, and so it cannot be driven
                        jobs.append((submission.run, self._index.job(submission.run)))
        return jobs

    def is_open(self, run: str, *, unreadable: bool = False) -> bool:
        """True if a run has not ended; ``unreadable`` is the answer for one that cannot be read."""
        with suppress(StoreError):
            return self._index.snapshot(run).open
        return unreadable
