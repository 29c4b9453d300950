"""The trained supernet of a run with its data, for what comes after the run: exports and further training."""

from __future__ import annotations

from dataclasses import dataclass

from nas.build.checkpoints import check_training_data, named_checkpoint
from nas.build.compatibility_facts import network_facts
from nas.build.job_data import JobData, load_job_data
from nas.build.pretrained import load_pretrained
from nas.store.compatibility import check_compatibility, check_weights
from nas.store.stored_run import StoredRun
from supernets.checkpoint import Checkpoint, load_checkpoint


@dataclass(frozen=True, eq=False, repr=False)
class TrainedRun:
    """The supernet that a run trained or searched, and the data that it was trained and searched on."""

    checkpoint: Checkpoint
    data: JobData


def load_trained_run(run: StoredRun) -> TrainedRun:
    """The supernet and the data of a run, found to be those that its measurements were made with.

    The teacher, hardware profiles, lookup tables and training settings are not needed; of a pretrained network, only the copy
    of its files that the run keeps.

    Raises:
        JobError, DataError, CheckpointError: the checkpoint or the data are missing or damaged.
        NasError: they are others than the run recorded.
    """
    config, source = run.job, str(run.folder.job_file)
    named = None if config.supernet.trains else named_checkpoint(config.supernet, run.runs, source=source)
    pretrained = load_pretrained(config.supernet, run.folder, source=source)
    data = load_job_data(config, run.runs, pretrained=pretrained, source=source)
    if named is not None:
        check_training_data(named, data.dataset, key="supernet.from")
    checkpoint = named or load_checkpoint(run.folder.checkpoint)
    with run.store() as store:
        facts, weights = store.facts(), store.state().weights
    check_compatibility(
        f"run {run.id}", facts.compatibility if facts else {}, network_facts(checkpoint.supernet.family, data)
    )
    check_weights(run.id, weights, checkpoint.weights_digest)
    return TrainedRun(checkpoint, data)
