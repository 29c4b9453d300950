"""The runs that wait or run, by what they need: other runs, data sets and hardware profiles."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nas.errors import NasError, RunStateError, StoreError
from nas.service.state import RequestedState, ServiceState
from nas.service.views.run_index import JobSummary, RunIndex


class OpenRuns:
    """The submitted runs of a server that have not ended."""

    def __init__(self, state: ServiceState, index: RunIndex) -> None:
        self._state, self._index = state, index

    def needing_run(self, run: str) -> list[str]:
        """Those that start from another run."""
        return [user for user, job in self._jobs() if user != run and run in job.needs]

    def check_unused(self, path: Path, subject: str, *, tasks: Sequence[str] = ()) -> None:
        """Raises `RunStateError` if an open run uses a stored file or folder, or one of these tasks does.

        Args:
            subject: The thing that is to be deleted, for the message, e.g. ``the model 'resnet18'``.
        """
        users = [run for run, job in self._jobs() if any(used.is_relative_to(path) for used in job.paths)]
        if users := [*users, *tasks]:
            text = f"{subject} is used by {', '.join(users)}; delete it when they have ended"
            raise RunStateError(text, code="run.needed")

    def _jobs(self) -> list[tuple[str, JobSummary]]:
        jobs = []
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
