"""Where every run stands: one row a run, and the history of a training."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from nas.errors import NasError, StoreError
from nas.objectives import Fidelity
from nas.reader import Run
from nas.store.base import RunStatus
from nas.store.folder import RunFolder, RunsFolder
from nas.store.opening import is_held

INTERRUPTED, NEVER_STARTED = "interrupted", "never started"


@dataclass(frozen=True, slots=True)
class Row:
    """One run.

    Attributes:
        status: as stored, or ``damaged``, or ``starting`` while its driver is making it.
        live: whether a driver holds the run now; a running one without was killed, and can be resumed.
        done: evaluations (search) or epochs (training); total: of how many.
        epoch, epochs: of the training; 0 of 0 where the supernet was trained before.
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

    def to_json(self) -> dict[str, Any]:
        """What `nas runs --json` prints a run."""
        return asdict(self)

    def cells(self) -> list[str]:
        """The row for people."""
        status, reason = shown_status(self.status, live=self.live), self.reason
        if status == INTERRUPTED:
            reason = f"no driver; go on with: nas resume {self.run}"
        elif status == NEVER_STARTED:
            reason = "killed while it was being made; start the job again"
        progress = f"{self.done} of {self.total} evaluations"
        if self.epoch < self.epochs or self.kind == "training":
            progress = f"{self.epoch} of {self.epochs} epochs"
        return [self.run, self.kind, status, progress, reason]


def shown_status(status: str, *, live: bool) -> str:
    """A stored status as people read it: a running run without a driver was interrupted."""
    if not live and status == RunStatus.RUNNING:
        return INTERRUPTED
    if not live and status == RunStatus.QUEUED:
        return NEVER_STARTED
    return status


def overview(runs: RunsFolder) -> list[Row]:
    """One row a run, oldest first; a damaged run is a row that says so."""
    return [_row(runs, folder) for folder in runs.list()]


def _row(runs: RunsFolder, folder: RunFolder) -> Row:
    run = Run(folder, runs)
    try:
        with run.store() as store:
            info, status = store.info(), store.status()
            kind = str(info.get("kind", "search"))
            if kind == "training":
                done, total = int(info.get("epoch", 0)), int(info.get("epochs", 0))
            else:
                measured = Counter(m.request.architecture for m in store.measurements(Fidelity.SEARCH))
                constrained = [c["figure"] for c in info.get("constraints") or ()]
                n_figures = len({*info.get("objectives", ()), *constrained})
                done = sum(count >= n_figures for count in measured.values())
                total = int(info.get("evaluations", 0))
    except NasError as error:
        live = is_held(folder)  # its driver is making it at this moment
        return Row(folder.id, "?", "starting" if live else "damaged", live, 0, 0, 0, 0, "" if live else str(error))
    epoch, epochs = int(info.get("epoch", 0)), int(info.get("epochs", 0))
    reason = str(info.get("reason") or "")
    return Row(folder.id, kind, str(status), is_held(folder), done, total, epoch, epochs, reason)


def training_json(run: Run) -> dict[str, Any]:
    """What `nas train --json` prints, and `nas show --json` of a training."""
    with run.store() as store:
        info, status = store.info(), store.status()
    index = run.folder.checkpoint / "checkpoint.json"
    try:
        history = json.loads(index.read_text())["progress"]["history"] if index.is_file() else []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{index}: damaged checkpoint index ({error!r}); train again") from None
    return {
        "run": run.id,
        "kind": "training",
        "status": str(status),
        "reason": info.get("reason") or "",
        "epoch": int(info.get("epoch", 0)),
        "epochs": int(info.get("epochs", 0)),
        "checkpoint": str(run.folder.checkpoint),
        "weights": info.get("weights"),
        "history": history,
    }
