"""Runs of the service's tests: searches whose values follow from formulas, in real stores in a runs folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nas.engine.predictions import Kind, Predictions
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.opening import open_store
from nas.engine.store.run_facts import RunFacts, SearchFacts
from nas.results.analysis.report import build_report
from nas.search.problem.budget import Budget
from nas.search.problem.objectives import Objective
from nas.search.problem.tasks import SHIPPED
from nas.service.jobs.job_runner import JobState
from tests.contracts.run_facts import training_facts
from tests.nas.commands import SMALL_JOB
from tests.nas.results.export.runs import PROFILE, SPACE, TWO, example_run, measure
from tests.nas.results.made_predictions import made_predictions

_TEMPORARY = TemporaryDirectory(prefix="made-runs-")  # removed when this process ends


def searched(
    runs: RunsFolder,
    *,
    name: str = "made",
    names: Sequence[str] = TWO,
    n: int = 40,
    final: bool = True,
    limits: Mapping[str, tuple[float | None, float | None]] | None = None,
) -> RunFolder:
    """A search as `tests.nas.results.export.runs.example_run` makes it; finished where its networks were measured again."""
    folder = runs.create(name, SMALL_JOB)
    bounds = tuple((limits or {}).items())
    shutil.copyfile(_searched(name, tuple(names), n, final, bounds).database, folder.database)
    return folder


def predicted(runs: RunsFolder, kind: Kind, *, name: str) -> tuple[RunFolder, Predictions]:
    """A finished search that keeps predictions of two members of its front and of the largest network."""
    folder = searched(runs, name=name)
    with closing(open_store(folder)) as store:
        report = build_report(store, run=folder.id)
    keys = (report.front[0].key, report.front[1].key, report.space.largest.key)
    predictions = made_predictions(kind, keys).predictions
    predictions.write(folder.predictions_file)
    return folder, predictions


@cache
def _searched(
    name: str,
    names: tuple[str, ...],
    n: int,
    final: bool,
    bounds: tuple[tuple[str, tuple[float | None, float | None]], ...],
) -> RunFolder:
    """The run that `searched` copies: its hundreds of transactions are made once in this process."""
    folder = RunsFolder(Path(_TEMPORARY.name) / str(len(os.listdir(_TEMPORARY.name)))).create(name, SMALL_JOB)
    store = open_store(folder, create=True, driver=True)
    store.set_status(RunStatus.RUNNING)
    example_run(names, n=n, final=final, name=name, limits=dict(bounds), store=store)
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


def regressed(runs: RunsFolder, *, name: str = "ages", n: int = 5) -> RunFolder:
    """A finished search of networks for regression, with the epochs of its training."""
    folder = runs.create(name, SMALL_JOB)
    task = SHIPPED["regression"]
    objectives = (task.metrics[0], Objective.parse(TWO[1], [PROFILE]))
    search = SearchFacts(space=SPACE, objectives=objectives, profiles=(PROFILE,), task=task)
    facts = RunFacts(name=name, compatibility={}, epochs=2, task=task, search=search)
    store = open_store(folder, create=True, driver=True)
    store.set_status(RunStatus.RUNNING)
    store.describe(facts, budget=Budget(n), epoch=2)
    for epoch in (1, 2):
        scores = {"loss": 1 / epoch, "largest": 8.0 / epoch, "smallest": 9.0, "largest_loss": 0.5, "smallest_loss": 0.9}
        store.record_event("epoch", {"epoch": epoch, "seconds": 1.0, **scores})
    rng = np.random.default_rng(0)
    asked = list(dict.fromkeys(SPACE.sample(rng) for _ in range(n)))
    store.record_ask(0, asked)
    for architecture in asked:
        measure(store, architecture, objectives)
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


def queued(runs: RunsFolder, *, name: str = "waiting") -> str:
    """A run that no driver has begun."""
    folder = runs.create(name, f"name: {name}\n")
    open_store(folder, create=True, driver=True).close()
    return folder.id
