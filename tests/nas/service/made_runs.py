"""Runs of the service's tests: searches whose values follow from formulas, in real stores in a runs folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nas.service.jobs.job_runner import JobState
from nas.store.base import RunStatus
from nas.store.folder import RunFolder, RunsFolder
from nas.store.opening import open_store
from nas.testing.run_facts import training_facts
from tests.nas.commands import SMALL_JOB
from tests.nas.export.runs import TWO, example_run


def searched(
    runs: RunsFolder,
    *,
    name: str = "made",
    names: Sequence[str] = TWO,
    n: int = 40,
    final: bool = True,
    limits: Mapping[str, tuple[float | None, float | None]] | None = None,
) -> RunFolder:
    """A search as `tests.nas.export.runs.example_run` makes it; finished where its networks were measured again."""
    folder = runs.create(name, SMALL_JOB)
    store = open_store(folder, create=True, driver=True)
    store.set_status(RunStatus.RUNNING)
    example_run(names, n=n, final=final, name=name, limits=limits, store=store)
    store.close()
    return folder


def trained(runs: RunsFolder, *, name: str = "supernet") -> RunFolder:
    """A finished training, without its checkpoint."""
    folder = runs.create(name, SMALL_JOB)
    store = open_store(folder, create=True, driver=True)
    store.set_status(RunStatus.RUNNING)
    store.describe(training_facts(name=name, epochs=4), epoch=4)
    store.set_status(RunStatus.FINISHED)
    store.close()
    return folder


@dataclass
class Jobs:
    """A job runner that runs nothing: what was started is RUNNING until it is stopped or ended."""

    known: dict[str, JobState] = field(default_factory=dict)
    started: dict[str, tuple[str, ...]] = field(default_factory=dict)
    offered: list[dict[str, float]] = field(default_factory=lambda: [{"CPU": 2.0}, {"hw-board": 1.0}])

    def start(self, job: str, argv: Sequence[str], log: Path) -> None:
        if job not in self.known:
            self.known[job], self.started[job] = JobState.RUNNING, tuple(argv)

    def states(self, jobs: Collection[str]) -> Mapping[str, JobState]:
        return {job: state for job, state in self.known.items() if job in jobs}

    def nodes(self) -> Sequence[Mapping[str, float]]:
        return self.offered

    def stop(self, job: str) -> None:
        if job in self.known:
            self.known[job] = JobState.ENDED


def tree(root: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with the contents of files."""
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in sorted(root.rglob("*"))}
