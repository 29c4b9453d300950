"""What job files of runs say that is asked for again and again, read once."""

from __future__ import annotations

from dataclasses import dataclass

from nas.config import SearchJob, load_job
from nas.store.folder import RunFolder, RunsFolder

_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class JobFacts:
    """Some of a job.

    Attributes:
        epochs: 0 where the supernet was trained before.
        needs: runs that it starts from.
    """

    name: str
    evaluations: int
    epochs: int
    needs: frozenset[str]

    @classmethod
    def of(cls, job: SearchJob) -> JobFacts:
        """The facts of a job."""
        needs = {job.supernet.from_, job.training.teacher, *job.warm_start} - {None}
        epochs = job.training.epochs if job.supernet.trains else 0
        return cls(job.name, job.search.evaluations, epochs, frozenset(str(run) for run in needs))


class JobFactsOf:
    """The facts of the jobs of a folder's runs, each read once. Safe to use from several threads."""

    def __init__(self, runs: RunsFolder) -> None:
        self._runs = runs
        self._known: dict[str, tuple[int, JobFacts]] = {}

    def of(self, run: str) -> JobFacts:
        """The facts of one.

        Raises:
            UnknownNameError: there is no such run.
            JobError: its job file is damaged.
        """
        folder = self._runs.get(run)
        known = self._known.get(run)
        if known is not None and known[0] == folder.written:
            return known[1]
        return self.keep(folder, load_job(folder.job_file))

    def keep(self, folder: RunFolder, job: SearchJob) -> JobFacts:
        """The facts of a run whose job is known already; they are kept."""
        if len(self._known) >= _KEPT:
            self._known.clear()
        facts = JobFacts.of(job)
        self._known[folder.id] = (folder.written, facts)
        return facts
