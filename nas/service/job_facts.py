"""What job files of runs say that is asked for again and again, read once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from nas.config import load_job
from nas.store.folder import RunsFolder


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


class JobFactsOf:
    """The facts of the jobs of a folder's runs."""

    def __init__(self, runs: RunsFolder) -> None:
        self._runs = runs

    def of(self, run: str) -> JobFacts:
        """The facts of one.

        Raises:
            UnknownNameError: there is no such run.
            JobError: its job file is damaged.
        """
        path = self._runs.get(run).job_file
        return _read(path, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=1000)
def _read(path: Path, _written: int) -> JobFacts:
    job = load_job(path)
    named = {job.supernet.from_, job.training.teacher, *job.warm_start} - {None}
    epochs = 0 if job.supernet.from_ is not None else job.training.epochs
    return JobFacts(job.name, job.search.evaluations, epochs, frozenset(str(run) for run in named))
