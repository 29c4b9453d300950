"""What one network of a run gained by being trained further, in a run of its own (no torch, but for trainings)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nas.export.comparisons import Comparison, compare_accuracies
from nas.objectives import Fidelity, Request
from nas.reader import Run
from nas.store.base import RunStatus, RunStore
from supernets.space import Architecture

_FIDELITIES = {"validation": Fidelity.SEARCH, "test": Fidelity.TEST}


@dataclass(frozen=True, slots=True)
class Change:
    """An accuracy before and after, and by what their difference is judged."""

    before: float
    after: float
    comparison: Comparison

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        compared = self.comparison
        return {
            "before": self.before,
            "after": self.after,
            "gain": compared.difference,
            "threshold": compared.threshold,
            "method": compared.method,
            "distinguishable": compared.distinguishable,
        }


@dataclass(frozen=True, slots=True)
class Gain:
    """What a network's further training came to.

    Attributes:
        run: that it is of; network: its key there.
        best_epoch: after which the weights that were kept stood; 0 where no epoch made it better on the validation part.
        parts: by the part of the data; ``test`` is not there where the network was not scored on it before.
    """

    run: str
    network: str
    best_epoch: int
    epochs: int
    parts: dict[str, Change]

    @property
    def improved(self) -> bool:
        """Whether any epoch made it better on the validation part."""
        return self.best_epoch > 0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "of": self.run,
            "network": self.network,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "improved": self.improved,
            **{part: change.to_json() for part, change in self.parts.items()},
        }


def is_finetuning(run: Run) -> bool:
    """Whether a run is of one network of another run, and is finished."""
    with run.store() as store:
        return store.status() is RunStatus.FINISHED and run.job.supernet.network is not None


def gain_of(run: Run) -> Gain:
    """What a run that trained one network further gained.

    Raises:
        UnknownNameError: the run that its network is of is gone.
        StoreError: its own figures are not all there yet.
    """
    named = run.job.supernet
    assert named.from_ is not None, "a network that is trained further is one of another run"
    assert named.network is not None
    origin, network = Run.open(run.runs, named.from_), Architecture.parse(named.network)
    precision = run.job.precisions[0]
    with run.store() as after, origin.store() as before:
        info = after.info()
        single = Architecture.parse(info["largest"])
        known = before if origin.kind == "search" else _scored(origin, network)
        parts = {}
        for part, fidelity in _FIDELITIES.items():
            requests = [Request(a, "accuracy", None, fidelity, precision) for a in (single, network)]
            found = after.find(requests[:1]).get(requests[0]), known.find(requests[1:]).get(requests[1])
            if found[0] is not None and found[1] is not None and None not in (found[0].value, found[1].value):
                compared = compare_accuracies((after, found[0]), (known, found[1]))
                parts[part] = Change(found[1].value or 0.0, found[0].value or 0.0, compared)
    return Gain(origin.id, network.key, int(info["best_epoch"]), int(info["epochs"]), parts)


def _scored(origin: Run, network: Architecture) -> RunStore:
    """The figures of a network whose run has none, as it is a training: taken now, in fp32."""
    from nas.job import Prepared
    from nas.picked import score_picked
    from supernets.checkpoint import load_checkpoint

    prepared = Prepared(origin.job, origin.runs, run=origin.folder, source=str(origin.folder.job_file))
    trained = prepared.checkpoint or load_checkpoint(origin.folder.checkpoint)
    _, found = score_picked(
        origin.id, network, checkpoint=trained, data=prepared.data, calibration=prepared.calibration
    )
    return found.store
