"""The table of all runs: the status and progress of each, and the history of a training."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from nas.engine.formatting import wait_text
from nas.engine.store.base import INTERRUPTED, NEVER_STARTED, RunStatus, RunStore, shown_status
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.labels import read_labels
from nas.engine.store.opening import is_held
from nas.engine.store.run_state import Away
from nas.engine.store.stored_run import StoredRun
from nas.errors import NasError, Remedy, StoreError
from nas.search.problem.evaluation_counts import EvaluationCounts, evaluations_text
from nas.search.problem.objectives import ACCURACY, Objective
from nas.search.problem.tasks import CLASSIFICATION

EPOCH = "epoch"
"""The kind of the event of each epoch, whose detail are the fields of `supernets.training.trainer.Epoch`."""
_ENDED = (RunStatus.FINISHED, RunStatus.FAILED, RunStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """A run's status and progress, as its store records them at one moment.

    Attributes:
        has_driver: True if a live driver has it, started by the service or by hand.
        progress: grows with everything that a driver commits: epochs and measurements.
        reason: why it has the status; "" where there is nothing to say.
        begun: True if a driver has recorded the facts of the run: its kind, its job's name and its budget.
        name: Name of its job; "" until the run has begun.
        started, ended: when it first ran, and when it took its status where that is an end; seconds since the epoch.
        evaluations: Number of evaluations of the budget, failed ones included; 0 for a training.
        n_known: Number of networks that a warm start knew, which are evaluated beside the budget.
        counts: all of these by their results.
        waiting, waiting_since: See `RunState`; "" and 0 once it has ended.
        away: The machine that ended its last driver, or that the present one has not reached yet.
        epoch, epochs: Number of trained epochs, and of all epochs; 0 of 0 where the supernet was trained before.
        outdated: True if the store could not be read now, so that this is as it was before.
        scored: the metric that the training's epochs are scored by.
    """

    status: RunStatus
    has_driver: bool
    progress: int
    reason: str = ""
    begun: bool = False
    kind: str = "search"
    name: str = ""
    started: float | None = None
    ended: float | None = None
    evaluations: int = 0
    n_known: int = 0
    counts: EvaluationCounts = EvaluationCounts()  # noqa: RUF009 - a frozen value
    evaluations_wanted: int = 0
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    expected_end: float | None = None
    waiting: str = ""
    waiting_since: float = 0.0
    away: Away | None = None
    outdated: bool = False
    scored: Objective = ACCURACY

    @property
    def open(self) -> bool:
        """True if the run waits or runs; False if it has ended."""
        return self.status not in _ENDED

    def with_driver(self, has_driver: bool) -> RunSnapshot:
        """The same with or without a driver, and what it waits for as the reason."""
        waits = wait_text(self, time.time(), live=has_driver)
        return replace(self, has_driver=has_driver, reason=waits or self.reason)


def snapshot_of(store: RunStore, *, has_driver: bool) -> RunSnapshot:
    """The status and progress of a run, by counting rows instead of reading measurements.

    Args:
        has_driver: True if a driver has it; looked at before the store is read: a driver that ends records its status first,
            so that an open run without a driver is one that was left.
    """
    statuses, facts, state = store.statuses(), store.facts(), store.state()
    status, since = statuses[-1] if statuses else (RunStatus.QUEUED, None)
    n_measurements = store.n_measurements()
    counts, search = EvaluationCounts(), None if facts is None else facts.search
    if n_measurements and search is not None:
        counts = store.counts(len(search.metrics))
    if status in _ENDED:
        state = replace(state, waiting="", waiting_since=0.0, away=None)
    return RunSnapshot(
        status,
        has_driver,
        state.epoch + n_measurements,
        reason=store.reason(),
        waiting=state.waiting,
        waiting_since=state.waiting_since,
        away=state.away,
        begun=facts is not None,
        kind="search" if facts is None else facts.kind,
        name="" if facts is None else facts.name,
        started=next((time for status, time in statuses if status is RunStatus.RUNNING), None),
        ended=since if status in _ENDED else None,
        evaluations=0 if search is None else search.n_spent(counts.total),
        n_known=0 if search is None else min(counts.total, len(search.known_candidates)),
        counts=counts,
        evaluations_wanted=0 if state.budget is None else state.budget.evaluations,
        epoch=state.epoch,
        epochs=0 if facts is None else facts.epochs,
        scored=ACCURACY if facts is None else facts.task.metrics[0],
        step=state.step,
        steps=state.steps,
        expected_end=state.expected_end if status is RunStatus.RUNNING else None,
    ).with_driver(has_driver)


@dataclass(frozen=True, slots=True)
class Row:
    """One run.

    Attributes:
        status: The stored status, or ``damaged``, or ``starting`` while its driver is making it.
        live: True if a driver holds the run now; a running run without a driver was killed, and can be resumed.
        done: evaluations (search) or epochs (training), of a total.
        tags, note: Labels of its users; the error in place of the note where their file is damaged.
        n_known: See `RunSnapshot`; ``known`` in JSON.
        counts: the evaluated networks by their results.
        next: the step that continues the run; None where it is finished, has a driver, or is damaged beyond an upgrade.
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
    n_known: int = 0
    counts: EvaluationCounts = EvaluationCounts()  # noqa: RUF009 - a frozen value
    next: Remedy | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the next step."""
        values = {"known" if name == "n_known" else name: value for name, value in asdict(self).items()}
        del values["next"]
        return values

    def cells(self) -> list[str]:
        """The row for people, without the next step."""
        status, reason = shown_status(self.status, live=self.live), self.reason
        if status == INTERRUPTED:
            reason = "its driver was killed"
        elif status == NEVER_STARTED:
            reason = "its driver was killed before it began"
        progress = f"{self.done} of {evaluations_text(self.total, self.counts, n_known=self.n_known)}"
        if self.epoch < self.epochs or self.kind == "training":
            progress = f"{self.epoch} of {self.epochs} epochs"
        return [self.run, self.kind, status, progress, reason]


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
            snapshot = snapshot_of(store, has_driver=live)
    except NasError as error:  # or its driver is making it at this moment
        status, reason = ("starting", "") if live else ("damaged", str(error))
        return Row(folder.id, "?", status, live, 0, 0, 0, 0, reason, next=None if live else error.remedy)
    done, total = snapshot.evaluations, snapshot.evaluations_wanted
    if snapshot.kind == "training":
        done, total = snapshot.epoch, snapshot.epochs
    progress = (done, total, snapshot.epoch, snapshot.epochs)
    return Row(
        folder.id,
        snapshot.kind,
        str(snapshot.status),
        live,
        *progress,
        snapshot.reason,
        n_known=snapshot.n_known,
        counts=snapshot.counts,
        next=next_step(folder, snapshot.status, live=live, begun=snapshot.begun),
    )


def next_step(folder: RunFolder, status: RunStatus, *, live: bool, begun: bool) -> Remedy | None:
    """The step that continues a run that is not finished; None where a driver does.

    Args:
        begun: True if a driver has recorded the facts of the run; without them, its job is started again.
    """
    if live or status is RunStatus.FINISHED:
        return None
    return Remedy("resume", folder.id) if begun else Remedy("search", str(folder.job_file))


def training_json(run: StoredRun) -> dict[str, Any]:
    """The output of `nas train --json`, and of `nas show --json` for a training."""
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


def training_history(folder: RunFolder, store: RunStore) -> list[Mapping[str, Any]]:
    """The fields of each epoch, the first one first; empty before the first ends, and where the run trains nothing.

    From the run's events, which outlive its checkpoint. Runs of version 0.1, and a driver that was killed between the two
    records, have some epochs in the checkpoint alone.

    Raises:
        StoreError: the checkpoint's index is damaged.
    """
    index = folder.checkpoint / "checkpoint.json"
    try:
        recorded = json.loads(index.read_text())["progress"]["history"] if index.is_file() else []
        epoch_by_number = {int(epoch["epoch"]): epoch for epoch in recorded}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{index}: damaged checkpoint index ({error!r}); remove its folder and resume the run to train again",
            code="checkpoint.damaged",
        ) from None
    epoch_by_number |= {int(event.detail["epoch"]): event.detail for event in store.events() if event.kind == EPOCH}
    return [epoch_by_number[epoch] for epoch in sorted(epoch_by_number)]
