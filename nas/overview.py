"""Where every run stands: one row a run, and the history of a training."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from nas.errors import NasError
from nas.objectives import Fidelity
from nas.reader import Run
from nas.store.base import RunStatus
from nas.store.folder import RunFolder, RunsFolder
from nas.store.lease import is_held


@dataclass(frozen=True, slots=True)
class Row:
    """One run.

    Attributes:
        status: as stored, or ``damaged``.
        live: whether a driver holds the run now; a running one without was killed, and can be resumed.
        done: evaluations (search) or epochs (training); total: of how many.
    """

    run: str
    kind: str
    status: str
    live: bool
    done: int
    total: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        """What `nas runs --json` prints a run."""
        return asdict(self)

    def cells(self) -> list[str]:
        """The row for people."""
        killed = self.status == RunStatus.RUNNING and not self.live
        status = "interrupted" if killed else self.status
        reason = f"no driver; go on with: nas resume {self.run}" if killed else self.reason
        unit = "epochs" if self.kind == "training" else "evaluations"
        return [self.run, self.kind, status, f"{self.done} of {self.total} {unit}", reason]


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
                measured = store.measurements(Fidelity.SEARCH)
                done, total = len({m.request.architecture for m in measured}), int(info.get("evaluations", 0))
    except NasError as error:
        return Row(folder.id, "?", "damaged", False, 0, 0, str(error))
    return Row(folder.id, kind, str(status), is_held(folder.database), done, total, str(info.get("reason") or ""))


def training_json(run: Run) -> dict[str, Any]:
    """What `nas train --json` prints, and `nas show --json` of a training."""
    with run.store() as store:
        info, status = store.info(), store.status()
    index = run.folder.checkpoint / "checkpoint.json"
    progress = json.loads(index.read_text())["progress"] if index.is_file() else {"history": []}
    return {
        "run": run.id,
        "kind": "training",
        "status": str(status),
        "reason": info.get("reason") or "",
        "epoch": int(info.get("epoch", 0)),
        "epochs": int(info.get("epochs", 0)),
        "checkpoint": str(run.folder.checkpoint),
        "weights": info.get("weights"),
        "history": progress["history"],
    }
