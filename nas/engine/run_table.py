"""The table of all runs: the status and progress of each, and the history of a training."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from nas.engine.formatting import wait_text
from nas.engine.store.base import INTERRUPTED, NEVER_STARTED, RunStatus, RunStore, shown_status
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.labels import read_labels
from nas.engine.store.opening import is_held
from nas.engine.store.stored_run import StoredRun
from nas.engine.training_history import training_history
from nas.errors import NasError
from nas.search.problem.evaluation_counts import EvaluationCounts, evaluations_text
from nas.search.problem.objectives import ACCURACY, Objective
from nas.search.problem.tasks import CLASSIFICATION

_ENDED = (RunStatus.FINISHED, RunStatus.FAILED, RunStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """A run's status and progress, as its store records them at one moment.

    Attributes:
        held: whether a live driver has it, started by the service or by hand.
        progress: grows with everything that a driver commits: epochs and measurements.
        reason: why it has the status; "" where there is nothing to say.
        begun: whether a driver has recorded what the run is: its kind, its job's name and its budget.
        name: of its job; "" until the run has begun.
        started, ended: when it first ran, and when it took its status where that is an end; seconds since the epoch.
        evaluations: of the budget, failed ones included; 0 for a training.
        known: networks that a warm start knew, which are evaluated beside the budget.
        counts: all of these by their results.
        epoch, epochs: of the training; 0 of 0 where the supernet was trained before.
        scored: the metric that the training's epochs are scored by.
    """

    status: RunStatus
    held: bool
    progress: int
    reason: str = ""
    begun: bool = False
    kind: str = "search"
    name: str = ""
    started: float | None = None
    ended: float | None = None
    evaluations: int = 0
    known: int = 0
    counts: EvaluationCounts = EvaluationCounts()  # noqa: RUF009 - a frozen value
    evaluations_wanted: int = 0
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    expected_end: float | None = None
    scored: Objective = ACCURACY

    @property
    def open(self) -> bool:
        """Whether it waits or runs; else it has ended."""
        return self.status not in _ENDED


def snapshot_of(store: RunStore, *, held: bool) -> RunSnapshot:
    """The status and progress of a run, by counting rows instead of reading measurements.

    Args:
        held: whether a driver has it; looked at before the store is read: a driver that ends records its status first,
            so that an open run without a driver is one that was left.
    """
    statuses, facts, state = store.statuses(), store.facts(), store.state()
    status, since = statuses[-1] if statuses else (RunStatus.QUEUED, None)
    n_measurements = store.n_measurements()
    counts, search = EvaluationCounts(), None if facts is None else facts.search
    if n_measurements and search is not None:
        counts = store.counts(len(search.metrics))
    return RunSnapshot(
        status,
        held,
        state.epoch + n_measurements,
        reason=(wait_text(state, time.time()) if held and status is RunStatus.RUNNING else "") or store.reason(),
        begun=facts is not None,
        kind="search" if facts is None else facts.kind,
        name="" if facts is None else facts.name,
        started=next((time for status, time in statuses if status is RunStatus.RUNNING), None),
        ended=since if status in _ENDED else None,
        evaluations=0 if search is None else search.n_spent(counts.total),
        known=0 if search is None else min(counts.total, len(search.known)),
        counts=counts,
        evaluations_wanted=0 if state.budget is None else state.budget.evaluations,
        epoch=state.epoch,
        epochs=0 if facts is None else facts.epochs,
        scored=ACCURACY if facts is None else facts.task.metrics[0],
        step=state.step,
        steps=state.steps,
        expected_end=state.expected_end if status is RunStatus.RUNNING else None,
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One run.

    Attributes:
        status: as stored, or ``damaged``, or ``starting`` while its driver is making it.
        live: whether a driver holds the run now; a running one without was killed, and can be resumed.
        done: evaluations (search) or epochs (training), of a total.
        tags, note: of its users; the error in place of the note where their file is damaged.
        known: see `RunSnapshot`.
        counts: the evaluated networks by their results.
        next: the command that continues the run; "" where it is finished, has a driver, or is damaged.
    """

    run: str
    kind: str
    status: str
    live: bool
    done: int
    total: int
    epoch: int
    epochs: int
    reason: str
    tags: tuple[str, ...] = ()
    note: str = ""
    known: int = 0
    counts: EvaluationCounts = EvaluationCounts()  # noqa: RUF009 - a frozen value
    next: str = ""

    def to_json(self) -> dict[str, Any]:
        """The row of `nas runs --json`."""
        return asdict(self)

    def cells(self) -> list[str]:
        """The row for people."""
        status, reason = shown_status(self.status, live=self.live), self.reason
        if status == INTERRUPTED:
            reason = "its driver was killed"
        elif status == NEVER_STARTED:
            reason = "its driver was killed before it began"
        progress = f"{self.done} of {evaluations_text(self.total, self.counts, n_known=self.known)}"
        if self.epoch < self.epochs or self.kind == "training":
            progress = f"{self.epoch} of {self.epochs} epochs"
        return [self.run, self.kind, status, progress, reason, self.next]


def run_rows(runs: RunsFolder) -> list[Row]:
    """One row per run, oldest first; a damaged run has the status ``damaged``."""
    return [_labelled(_row(runs, folder), folder) for folder in runs.list()]


def _labelled(row: Row, folder: RunFolder) -> Row:
    try:
        labels = read_labels(folder)
    except NasError as error:
        return replace(row, note=str(error))
    return replace(row, tags=labels.tags, note=labels.note)


def _row(runs: RunsFolder, folder: RunFolder) -> Row:
    live = is_held(folder)
    try:
        with StoredRun(runs.get(folder.id), runs).store() as store:
            found = snapshot_of(store, held=live)
    except NasError as error:  # or its driver is making it at this moment
        return Row(folder.id, "?", "starting" if live else "damaged", live, 0, 0, 0, 0, "" if live else str(error))
    done, total = found.evaluations, found.evaluations_wanted
    if found.kind == "training":
        done, total = found.epoch, found.epochs
    progress = (done, total, found.epoch, found.epochs)
    return Row(
        folder.id,
        found.kind,
        str(found.status),
        live,
        *progress,
        found.reason,
        known=found.known,
        counts=found.counts,
        next=next_command(folder, found.status, live=live, begun=found.begun),
    )


def next_command(folder: RunFolder, status: RunStatus, *, live: bool, begun: bool) -> str:
    """The command that continues a run that is not finished; "" where a driver does.

    Args:
        begun: whether a driver has recorded what the run is; without that, its job is started again.
    """
    if live or status is RunStatus.FINISHED:
        return ""
    return folder.command("resume") if begun else f"nas search {shlex.quote(str(folder.job_file))}"


def training_json(run: StoredRun) -> dict[str, Any]:
    """What `nas train --json` prints, and `nas show --json` of a training."""
    with run.store() as store:
        facts, state, status, reason = store.facts(), store.state(), store.status(), store.reason()
        history = training_history(run.folder, store)
    epochs = 0 if facts is None else facts.epochs
    return {
        "run": run.id,
        "kind": "training",
        "status": str(status),
        "reason": reason,
        "epoch": state.epoch,
        "epochs": epochs,
        "checkpoint": str(run.folder.checkpoint),
        "weights": state.weights,
        "history": history,
        "task": (CLASSIFICATION if facts is None else facts.task).to_json(),
    }
