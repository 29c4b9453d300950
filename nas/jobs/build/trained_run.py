"""What is used of a finished run: its supernet and its data, found to be those that it recorded."""

from __future__ import annotations

from dataclasses import dataclass

from nas.engine.store.compatibility import check_compatibility, check_installed, check_plugins, check_weights
from nas.engine.store.stored_run import StoredRun
from nas.errors import PluginError
from nas.jobs.build.checkpoints import check_training_data, named_checkpoint
from nas.jobs.build.compatibility_facts import as_stored, network_facts
from nas.jobs.build.head import with_head
from nas.jobs.build.job_data import JobData, load_job_data
from nas.jobs.build.original import with_original
from nas.jobs.build.pretrained import load_pretrained
from nas.jobs.build.user_model import load_model
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema.search_job import stored_job
from nas.plugins import Kind, find
from supernets.networks.capture.captured_model import CapturedModel
from supernets.training.checkpoint import Checkpoint, load_checkpoint


@dataclass(frozen=True, eq=False, repr=False)
class TrainedRun:
    """The supernet that a run trained or searched, and the data that it was trained and searched on."""

    checkpoint: Checkpoint
    data: JobData


_OF_NETWORKS = (Kind.FAMILIES, Kind.DATA, Kind.TASKS)
"""Plug-ins that make a run's networks and what they are checked against; the others are done once it has ended."""


def load_trained_run(run: StoredRun, *, accept_plugin_versions: bool = False, data: object = None) -> TrainedRun:
    """The supernet and the data of a run, found to be those that its measurements were made with.

    The teacher, hardware profiles, lookup tables and training settings are not needed; of a pretrained network, only the copy
    of its files that the run keeps.

    Args:
        accept_plugin_versions: see below.
        data: the data set that the run was started with from Python; or the run's data as they were loaded a moment ago.

    Raises:
        JobError, DataError, CheckpointError: the checkpoint or the data are missing or damaged.
        NasError: they are others than the run recorded.
        PluginError: a plug-in of its networks is missing, or of another version, which `accept_plugin_versions` accepts.
    """
    job_data, data_set = (data, None) if isinstance(data, JobData) else (None, data)
    job = _job_of(run, data_set)
    used = [ref for ref in (run.facts.plugins if run.facts else ()) if ref.kind in _OF_NETWORKS]
    opened = f"nas.open_run({run.id!r})"
    _check_passed_data(
        run, data, call=f"{opened}.export(PATH, data=...), or {opened}.export_transformers(FOLDER, data=...)"
    )
    if data_set is not None:
        used = [ref for ref in used if ref.kind is not Kind.DATA]  # it is compared by its examples
    check_installed(f"run {run.id}", used)
    installed_refs = [installed for ref in used if (installed := find(ref.kind, ref.name)) is not None]
    check_plugins(f"run {run.id}", used, installed_refs, accept=accept_plugin_versions, note=lambda text: None)
    origin = None if job.config.supernet.trains else named_checkpoint(job)
    checkpoint = origin or load_checkpoint(run.folder.checkpoint)
    job_data = job_data or _load_data(job, checkpoint.progress["data"]["digest"])
    loaded = with_head(job_data, checkpoint.supernet.family)
    if origin is not None:
        check_training_data(origin, loaded.dataset, key="supernet.from")
    with run.store() as store:
        facts, weights = store.facts(), store.state().weights
    recorded, current_facts = facts.compatibility if facts else {}, network_facts(checkpoint.supernet.family, loaded)
    check_compatibility(f"run {run.id}", recorded, as_stored(current_facts))
    check_weights(run.id, weights, checkpoint.weights_digest)
    return TrainedRun(checkpoint, loaded)


def load_run_data(run: StoredRun, data: object = None) -> JobData:
    """The data of a run, found to be those that it was made with; its supernet is not needed.

    Args:
        data: the data set that the run was started with from Python.

    Raises:
        JobError, DataError, CheckpointError: the data, or the preprocessing of the network that it starts from, are missing.
        NasError: the data are others than the run recorded.
        PluginError: the data set was passed from Python, and is not passed again.
    """
    facts = run.facts
    _check_passed_data(run, data, call=f"nas.open_run({run.id!r}).examples(data=...)")
    check_installed(
        f"run {run.id}", [ref for ref in (facts.plugins if facts else ()) if ref.kind in (Kind.DATA, Kind.TASKS)]
    )
    recorded = facts.compatibility if facts else {}
    loaded = _load_data(_job_of(run, data), recorded["data"]["train"] if recorded else None)
    check_compatibility(f"run {run.id}", recorded, {"data": loaded.digests()} if recorded else {})
    return loaded


def _check_passed_data(run: StoredRun, data: object, *, call: str) -> None:
    """Raises `PluginError` where a run was started with a data set that nothing here can make again.

    Args:
        call: Python call that does the same, for the error.
    """
    for ref in run.facts.plugins if run.facts and data is None else ():
        if ref.is_object and ref.kind is Kind.DATA:
            raise PluginError(
                f"run {run.id}: its {ref} was passed from Python as an object; pass it again there: {call}; jobs that name "
                "the class (data.name, data.settings) need no object",
                code="plugin.object-needed",
            )


def _job_of(run: StoredRun, data: object) -> ResolvedJob:
    """The job of a run; `data` is the data set that is passed from Python, if any."""
    objects = {} if data is None else {"data.name": data}
    return ResolvedJob(stored_job(run), run.runs, str(run.folder.job_file), objects, run.folder)


def _load_data(job: ResolvedJob, trained_on: str | None) -> JobData:
    model = load_model(job)
    data = load_job_data(job, pretrained=load_pretrained(job), model=model, trained_on=trained_on)
    return with_original(data, model.model if model is not None and isinstance(model.model, CapturedModel) else None)
