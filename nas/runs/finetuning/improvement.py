"""The improvement of a network by fine-tuning in a run of its own; loads torch only where its origin is a training."""

from __future__ import annotations

import nas.jobs
import nas.results
from nas.engine.store.base import RunStatus
from nas.engine.store.stored_run import StoredRun
from nas.jobs.schema.search_job import stored_job
from nas.results.analysis.finetuned_runs import may_finetune
from nas.results.analysis.finetuning_improvement import FinetunedNetwork, Improvement, improvement_between, network_of
from supernets.space import Architecture


def is_finetuning(run: StoredRun) -> bool:
    """Returns True if a run is finished and fine-tuned a network of another run that still exists in the folder."""
    if not may_finetune(run.folder):
        return False
    supernet = stored_job(run).supernet
    if supernet.network is None or supernet.from_ is None or not run.runs.holds(supernet.from_):
        return False
    with run.store() as store:
        return store.status() is RunStatus.FINISHED


def improvement_of(run: StoredRun) -> Improvement:
    """The improvement of the network that a run fine-tuned.

    Raises:
        UnknownNameError: the run of the network does not exist any more.
        StoreError: stored answers are damaged.
    """
    supernet = stored_job(run).supernet
    assert supernet.from_ is not None, "a fine-tuned network is one of another run"
    assert supernet.network is not None
    origin, network = StoredRun.open(run.runs, supernet.from_), Architecture.parse(supernet.network)
    variant = stored_job(run).first_variant
    with run.store() as after, origin.store() as before:
        if origin.kind != "training":
            return improvement_between(network_of(origin.id, before, network, variant), after, before)
        # A training has no measurements of its own: the network is scored now, in fp32.

        scored = nas.results.score_network(origin.id, network, nas.jobs.load_trained_run(origin))[1].store
        return improvement_between(FinetunedNetwork(origin.id, network, variant, None), after, scored)
