"""The next step of each submitted run: start, restart, stop, cancel or fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum

from nas.engine.run_listing import RunSnapshot
from nas.engine.store.run_state import MAX_TRIES
from nas.service.jobs.fair_share import FairShare
from nas.service.jobs.job_runner import JobState
from nas.service.state import RequestedState, Submission


class Step(StrEnum):
    """One action for a run."""

    START = "start"
    """Start its next driver."""
    RESTART = "restart"
    """Start its next driver, since the last one died."""
    STOP = "stop"
    """Stop its driver."""
    CANCEL = "cancel"
    """Record that it is cancelled: it has no driver that could."""
    RETRY = "retry"
    """Start its next driver, since the last one did not reach a machine."""
    FAIL = "fail"
    """Record that its drivers died too often, or did not reach a machine too often."""


_STARTS = (Step.START, Step.RESTART, Step.RETRY)
"""Steps that start a driver."""


def steps(
    submissions: Sequence[Submission],
    snapshots: Mapping[str, RunSnapshot],
    jobs: Mapping[str, JobState],
    *,
    share: FairShare,
    resumes: int,
    may_start: bool = True,
    now: float,
) -> list[tuple[Submission, Step]]:
    """The steps to take now, in the order of the submissions; a run that needs none is left out.

    Args:
        submissions: Those that wait in the order in which they are to start.
        snapshots: by run; a run without one is skipped (its store cannot be read now).
        jobs: states of the submissions' last jobs, where they are known, by id.
        share: Limits of the runs that have a driver at the same time.
        resumes: drivers that may die in a row without progress of the run.
        now: Seconds since the epoch.
        may_start: whether drivers can do anything now; if not, those that died are not counted, and wait.
    """
    held_runs = {run for run, snapshot in snapshots.items() if snapshot.has_driver}
    busy = Counter(s.submitter for s in submissions if is_active(s, jobs) or s.run in held_runs)
    next_steps = []
    for submission in submissions:
        snapshot = snapshots.get(submission.run)
        if snapshot is None:
            continue
        step = _step(submission, snapshot, jobs, resumes=resumes, now=now)
        if step in (*_STARTS, Step.FAIL) and not may_start:
            continue
        if step in _STARTS:
            if not share.may_start(submission.submitter, busy):
                continue
            busy[submission.submitter] += 1
        if step is not None:
            next_steps.append((submission, step))
    return next_steps


def deaths(submission: Submission, snapshot: RunSnapshot) -> int:
    """Drivers that died in a row without progress, the last one among them."""
    return 1 if snapshot.progress > submission.progress else submission.deaths + 1


def is_active(submission: Submission, jobs: Mapping[str, JobState]) -> bool:
    """True if the job of the last driver has not ended."""
    job = submission.job
    return job is not None and jobs.get(job, JobState.ENDED) is not JobState.ENDED


def _step(
    submission: Submission, snapshot: RunSnapshot, jobs: Mapping[str, JobState], *, resumes: int, now: float
) -> Step | None:
    active = is_active(submission, jobs)
    if submission.wanted is RequestedState.CANCELLED:
        if active:
            return Step.STOP
        return Step.CANCEL if snapshot.open and not snapshot.has_driver else None
    if active or snapshot.has_driver:
        return None
    if submission.job is None:  # submitted or resumed, and not started since
        return Step.START
    if not snapshot.open:
        return None
    if snapshot.away is not None:
        if snapshot.away.tries >= MAX_TRIES:
            return Step.FAIL
        return Step.RETRY if now >= snapshot.away.next_try else None
    return Step.FAIL if deaths(submission, snapshot) > resumes else Step.RESTART
