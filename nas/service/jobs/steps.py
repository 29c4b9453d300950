"""What is to be done for submitted runs next: started, resumed, stopped, given up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from nas.engine.run_table import RunSnapshot
from nas.service.jobs.runner import JobState
from nas.service.state import Submission, Wanted


class Step(StrEnum):
    """One thing to do for a run."""

    START = "start"
    """Its next driver."""
    RESTART = "restart"
    """Its next driver, since the last one died."""
    STOP = "stop"
    """Its driver, which has not ended yet."""
    CANCEL = "cancel"
    """Record that it is cancelled: it has no driver that could."""
    FAIL = "fail"
    """Record that its drivers died too often."""


def steps(
    submissions: Sequence[Submission],
    standings: Mapping[str, RunSnapshot],
    jobs: Mapping[str, JobState],
    *,
    at_once: int,
    resumes: int,
) -> list[tuple[Submission, Step]]:
    """What to do now, the oldest submission first; a run of which nothing is to be done is left out.

    Args:
        standings: by run; a run without one is passed over (its store cannot be read now).
        jobs: states of the submissions' last jobs, where they are known, by id.
        at_once: runs that may have a driver at the same time.
        resumes: drivers that may die in a row without the run getting any further.
    """
    busy = sum(_has_driver(s, standings.get(s.run), jobs) for s in submissions)
    found = []
    for submission in submissions:
        standing = standings.get(submission.run)
        if standing is None:
            continue
        step = _step(submission, standing, jobs, resumes=resumes)
        if step in (Step.START, Step.RESTART):
            if busy >= at_once:
                continue
            busy += 1
        if step is not None:
            found.append((submission, step))
    return found


def deaths(submission: Submission, standing: RunSnapshot) -> int:
    """Drivers that died in a row without progress, the last one among them."""
    return 1 if standing.progress > submission.progress else submission.deaths + 1


def _has_driver(submission: Submission, standing: RunSnapshot | None, jobs: Mapping[str, JobState]) -> bool:
    job = submission.job
    active = job is not None and jobs.get(job, JobState.ENDED) is not JobState.ENDED
    return active or (standing is not None and standing.held)


def _step(submission: Submission, standing: RunSnapshot, jobs: Mapping[str, JobState], *, resumes: int) -> Step | None:
    job = submission.job
    active = job is not None and jobs.get(job, JobState.ENDED) is not JobState.ENDED
    if submission.wanted is Wanted.CANCELLED:
        if active:
            return Step.STOP
        return Step.CANCEL if standing.open and not standing.held else None
    if active or standing.held:
        return None
    if job is None:  # asked for, perhaps again after it had ended
        return Step.START
    if not standing.open:
        return None
    return Step.FAIL if deaths(submission, standing) > resumes else Step.RESTART
