"""What the jobs of runs need: other runs, data sets, models and hardware profiles."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nas.errors import JobError, NasError, RunStateError, StoreError
from nas.service.ownership import Ownership, Thing, ThingKind
from nas.service.people import SERVER, Caller, Role, acting_as, current_caller
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

    def check_seen(self, run: str) -> None:
        """Checks, before a run's job is used again, that the run's owner sees everything that it names.

        On a private server, the name of a deleted thing may be that of another person's thing by now.

        Raises:
            JobError: something is hidden from the owner, or the job file is damaged.
            UnknownNameError: there is no such run.
        """
        job, owner, caller = self._index.job(run), self._owners.owner(Thing(ThingKind.RUN, run)), current_caller()
        things = [*(Thing(ThingKind.RUN, name) for name in job.needs), *self._owners.uploads_at(job.paths)]
        # An administrator's request for another's run must not let its owner read what is hidden.
        with acting_as(Caller(owner, Role.MEMBER) if owner and owner != caller.name else caller):
            hidden = [thing for thing in things if not self._owners.sees(thing)]
        hidden = [thing for thing in hidden if self._owners.owner(thing) is not None]
        if hidden:
            text = f"the job of run {run!r} names {', '.join(sorted(map(str, hidden)))}, which is hidden from the run's owner"
            raise JobError(
                f"{text}: its name is another person's now; submit a job that names something else",
                code="job.not-allowed",
            )

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
