"""The composition root: makes every object of a job from its config, and what is used of a finished run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, cast

from nas.engine.store.compatibility import check_compatibility, check_installed, check_plugins, check_weights
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.stored_run import StoredRun
from nas.errors import PluginError
from nas.jobs.build.checkpoints import check_training_data, named_checkpoint, training_digest
from nas.jobs.build.family import find_family, find_sharing, with_rate_of_family
from nas.jobs.build.job_data import JobData, load_job_data
from nas.jobs.build.job_model import family_of, load_model
from nas.jobs.build.layer_order import layer_order
from nas.jobs.build.pretrained import load_pretrained
from nas.jobs.build.required_parts import check_parts
from nas.jobs.build.resolved_job import ResolvedJob
from nas.jobs.build.serving import Serving, find_serving, served_memory
from nas.jobs.build.supernet_factory import SupernetFactory
from nas.jobs.build.task import expert_cache
from nas.jobs.evaluation.served_memory import ServedMemory
from nas.jobs.schema import SearchJob
from nas.jobs.schema.stored_job import stored_job
from nas.plugins import Kind, find
from supernets.data import OnProgress, no_progress
from supernets.families.nested_networks import NestedFamily
from supernets.families.single_network import SingleFamily
from supernets.sharing.base import Family, Supernet
from supernets.sharing.spec import PLAIN
from supernets.space import SearchSpace
from supernets.training.checkpoint import Checkpoint, load_checkpoint, weights_digest


@dataclass(frozen=True, eq=False, repr=False)
class PreparedJob:
    """A job with its data loaded and its supernet found; `nas.jobs.build.checks` checks the rest of it before a run is made."""

    job: ResolvedJob
    data: JobData
    supernets: SupernetFactory

    @property
    def config(self) -> SearchJob:
        """The job file's content."""
        return self.job.config

    @cached_property
    def space(self) -> SearchSpace:
        """The space of candidates: the family's networks, in each of the variants."""
        return self.job.variants.space(self.supernets.family.space)

    @cached_property
    def serving(self) -> Serving | None:
        """How its language models are served, and timed; None for other networks. Raises `JobError` as `find_serving`."""
        return find_serving(self.config, self.data, self.supernets.family, source=self.job.source)

    def memory(self, supernet: Supernet) -> ServedMemory | None:
        """The memory of its language models; None for other networks. Raises `JobError` as `served_memory`."""
        return served_memory(self.serving, supernet, self.job)


def prepare_job(
    config: SearchJob,
    runs: RunsFolder,
    *,
    run: RunFolder | None = None,
    source: str = "job",
    on_progress: OnProgress = no_progress,
    objects: Mapping[str, object] = MappingProxyType({}),
) -> PreparedJob:
    """The objects of a job: data, checkpoint, pretrained network and family, found to fit one another.

    Hardware profiles, lookup tables and the teacher are read when they are first used.

    Args:
        run: the run that the job belongs to, where it has begun; files that it keeps are read from there.
        source: name of the job file in errors.
        on_progress: called about once a second while the data are read.
        objects: see `ResolvedJob`.

    Raises:
        JobError, DataError, CheckpointError, SpaceError: the job cannot be done, and why.
    """
    check_parts(config, source=source)
    config = with_rate_of_family(config)
    job = ResolvedJob(config, source, objects)
    _ = job.plugins  # names are found before data are read
    origin = named_checkpoint(config.supernet, runs, source=source)
    pretrained = load_pretrained(config.supernet, run, source=source)
    of_user = load_model(config, run, source=source)
    trained_on = training_digest(origin, run)
    data = load_job_data(
        config,
        runs,
        pretrained=pretrained,
        model=of_user,
        trained_on=trained_on,
        source=source,
        on_progress=on_progress,
        passed_data=objects.get("data.name"),
    )
    if origin is not None:
        check_training_data(origin, data.dataset, key="supernet.from")
    sizes, n_outputs = None if pretrained is None else pretrained.config, data.task.n_outputs(data.dataset)
    model = None if of_user is None else of_user.captured(data.dataset, n_outputs)
    family: Family
    if model is not None:
        family = family_of(model, config, source=source)
    else:
        family = find_family(
            config.supernet,
            data.dataset,
            n_outputs=n_outputs,
            checkpoint=origin,
            pretrained=sizes,
            ordered=layer_order(origin, run, pretrained, data.calibration.inputs, source=source),
            source=source,
        )
    checkpoint, parent = (None, origin) if config.supernet.trains else (origin, None)
    supernets = SupernetFactory(
        config,
        data,
        runs,
        family,
        sharing=find_sharing(
            config.supernet, family, checkpoint=checkpoint, source=source, adapter_rank=config.training.adapter_rank
        ),
        checkpoint=checkpoint,
        parent=parent,
        pretrained=pretrained,
        source=source,
        objects=objects,
        model=model,
    )
    return PreparedJob(job, data, supernets)


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
        data: the data set that the run was started with from Python.

    Raises:
        JobError, DataError, CheckpointError: the checkpoint or the data are missing or damaged.
        NasError: they are others than the run recorded.
        PluginError: a plug-in of its networks is missing, or of another version, which `accept_plugin_versions` accepts.
    """
    config, source = stored_job(run), str(run.folder.job_file)
    used = [ref for ref in (run.facts.plugins if run.facts else ()) if ref.kind in _OF_NETWORKS]
    opened = f"nas.open_run({run.id!r})"
    _check_passed_data(
        run, data, call=f"{opened}.export(PATH, data=...), or {opened}.export_transformers(FOLDER, data=...)"
    )
    if data is not None:
        used = [ref for ref in used if ref.kind is not Kind.DATA]  # it is compared by its examples
    check_installed(f"run {run.id}", used)
    installed_refs = [installed for ref in used if (installed := find(ref.kind, ref.name)) is not None]
    check_plugins(f"run {run.id}", used, installed_refs, accept=accept_plugin_versions, note=lambda text: None)
    origin = None if config.supernet.trains else named_checkpoint(config.supernet, run.runs, source=source)
    pretrained = load_pretrained(config.supernet, run.folder, source=source)
    checkpoint = origin or load_checkpoint(run.folder.checkpoint)
    trained_on = checkpoint.progress["data"]["digest"]
    model = load_model(config, run.folder, source=source)
    loaded = load_job_data(
        config, run.runs, pretrained=pretrained, model=model, trained_on=trained_on, source=source, passed_data=data
    )
    if origin is not None:
        check_training_data(origin, loaded.dataset, key="supernet.from")
    with run.store() as store:
        facts, weights = store.facts(), store.state().weights
    recorded, current_facts = facts.compatibility if facts else {}, _network_facts(checkpoint.supernet.family, loaded)
    check_compatibility(f"run {run.id}", recorded, _plain(current_facts))
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
    source, facts = str(run.folder.job_file), run.facts
    _check_passed_data(run, data, call=f"nas.open_run({run.id!r}).examples(data=...)")
    check_installed(
        f"run {run.id}", [ref for ref in (facts.plugins if facts else ()) if ref.kind in (Kind.DATA, Kind.TASKS)]
    )
    pretrained = load_pretrained(stored_job(run).supernet, run.folder, source=source)
    recorded = facts.compatibility if facts else {}
    trained_on = recorded["data"]["train"] if recorded else None
    model = load_model(stored_job(run), run.folder, source=source)
    loaded = load_job_data(
        stored_job(run),
        run.runs,
        pretrained=pretrained,
        model=model,
        trained_on=trained_on,
        source=source,
        passed_data=data,
    )
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


def compatibility_facts(prepared: PreparedJob, *, measured: bool) -> dict[str, Any]:
    """The facts that two runs must share for their measurements to be comparable, JSON-able.

    They are the space, data, supernet and (where `measured`) profiles of a job.
    """
    facts = _network_facts(prepared.supernets.family, prepared.data) | {"supernet": _supernet(prepared.supernets)}
    if measured:
        if own_metrics := prepared.job.own_metrics:
            settings = {name: metric.settings for name, metric in prepared.config.metrics.items()}
            facts["metrics"] = {
                name: {"class": ref.target, "settings": settings[name]} for name, (ref, _) in own_metrics.items()
            }
        facts["profiles"] = {profile.name: profile.to_json() for profile in prepared.job.profiles}
        if prepared.serving is not None:
            facts["serving"] = prepared.serving.to_json()
            cache = expert_cache(prepared.config)
            facts["expert_cache"] = None if cache is None else asdict(cache)
        if prepared.data.of_text:
            facts["timed_tokens"] = prepared.config.data.timed_tokens
    return _plain(facts)


def space_digest(family: Family) -> str:
    """A digest that differs between families, spaces and image sizes."""
    text = json.dumps(family.to_json(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _network_facts(family: Family, data: JobData) -> dict[str, Any]:
    """The compatibility facts that are known without the training; of a family, what decides on its networks."""
    plain = family.plain(family.space.largest)[0].to_json()
    network = {"network": family.network.key} if isinstance(family, SingleFamily) else {}
    return {
        "space": family.space.to_json(),
        "family": {
            "family": plain["family"],
            "nested": isinstance(family, NestedFamily),
            **network,
            **_spec_facts(plain),
        },
        "data": data.digests(),
        "calibration_images": data.config.calibration_images,
    }


def _spec_facts(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a family's JSON that determines its networks; for a captured model, a digest of its program."""
    if "program" not in plain:
        return dict(plain["spec"])
    text = json.dumps(plain["program"], sort_keys=True)
    options = {key: plain[key] for key in ("granularity", "widths", "keep", "multiple")}
    return {"program": hashlib.sha256(text.encode()).hexdigest()[:16], **options}


def _supernet(supernets: SupernetFactory) -> dict[str, Any]:
    """The digest of trained weights; of a supernet that the job trains, everything that decides on its weights."""
    if supernets.checkpoint is not None:
        return {"weights": supernets.checkpoint.weights_digest}
    facts: dict[str, Any] = {} if supernets.sharing == PLAIN else {"sharing": supernets.sharing.to_json()}
    facts |= asdict(supernets.settings()) | supernets.config.training.recipe
    if supernets.pretrained is not None:
        facts["pretrained"] = supernets.pretrained.digest
        if supernets.config.supernet.sort is not None:
            facts["sort"] = supernets.config.supernet.sort
        if supernets.config.supernet.partition is not None:
            facts["partition"] = supernets.config.supernet.partition
    if supernets.model is not None:
        facts["model"] = {"weights": weights_digest(supernets.model.tensors), "sort": supernets.config.supernet.sort}
    if supernets.parent is not None:
        facts["origin"] = supernets.parent.weights_digest
    return facts


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts as they are read back from a store."""
    return cast(dict[str, Any], json.loads(json.dumps(facts)))
