"""What one network of a run gained by being trained further, in a run of its own (no torch, but for trainings)."""

from __future__ import annotations

from nas.analysis.finetuned_runs import may_finetune
from nas.analysis.finetuning_improvement import FinetunedNetwork, Improvement, improvement_between, network_of
from nas.store.base import RunStatus, RunStore
from nas.store.stored_run import StoredRun
from supernets.space import Architecture


def is_finetuning(run: StoredRun) -> bool:
    """Whether a run is of one network of another run of the same folder, which is still there, and is finished."""
    if not may_finetune(run.folder):
        return False
    named = run.job.supernet
    if named.network is None or named.from_ is None or not run.runs.holds(named.from_):
        return False
    with run.store() as store:
        return store.status() is RunStatus.FINISHED


def improvement_of(run: StoredRun) -> Improvement:
    """What a run that trained one network further gained.

    Raises:
        UnknownNameError: the run that its network is of is gone.
        StoreError: its own figures are not all there yet.
    """
    named = run.job.supernet
    assert named.from_ is not None, "a network that is trained further is one of another run"
    assert named.network is not None
    origin, network = StoredRun.open(run.runs, named.from_), Architecture.parse(named.network)
    precision = run.job.precisions[0]
    with run.store() as after, origin.store() as before:
        if origin.kind == "training":
            return improvement_between(
                FinetunedNetwork(origin.id, network, precision, None), after, _scored(origin, network)
            )
        return improvement_between(network_of(origin.id, before, network, precision), after, before)


def _scored(origin: StoredRun, network: Architecture) -> RunStore:
    """The figures of a network whose run has none, as it is a training: taken now, in fp32."""
    from nas.build.trained_run import load_trained_run
    from nas.export.network_scoring import score_network

    return score_network(origin.id, network, load_trained_run(origin))[1].store
