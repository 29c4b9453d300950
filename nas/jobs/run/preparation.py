"""Preparation of a run: the checks before it begins or resumes, and the description of a new one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch

from hardware_profiles.base import HardwareProfile
from hardware_profiles.catalog import check_machine
from hardware_profiles.errors import ModelError, PrecisionError, ProfilingError
from hardware_profiles.lookup_table_file import load_lookup
from hardware_profiles.profiler_factory import open_profiler
from hardware_profiles.quantize import check_precision
from hardware_profiles.runtime import runtime_version
from nas.engine.evaluation.cluster import connected
from nas.engine.process_memory import LARGE_BYTES, release_free_memory
from nas.engine.run_usage import PLAN, kept_plan
from nas.engine.store.base import RunStore
from nas.engine.store.compatibility import check_compatibility, check_installed, check_plugins
from nas.engine.store.folder import RunFolder, write_atomically
from nas.engine.store.run_facts import Kind, RunFacts, SearchFacts
from nas.engine.stored_progress import VisibleWaits
from nas.errors import EvaluationError, ExportFailedError, JobError, PluginError
from nas.jobs.build.built_job import BuiltJob, build_job, find_device
from nas.jobs.build.compatibility_facts import compatibility_facts, space_digest
from nas.jobs.build.measurement_reuse import Reuse, find_reuse
from nas.jobs.build.search_objects import build_algorithm, exact_values, first_modelled, own_metrics_on
from nas.jobs.build.serving import check_served
from nas.jobs.evaluation.parity import check_as_onnx
from nas.jobs.evaluation.scoring import InlineScoring, ScoringTask
from nas.jobs.resolve.references import check_ray, check_training
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.run.passed_objects import check_passed
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import SearchJob, load_job
from nas.plugins.parts import install
from nas.search.problem.budget import Budget, Plateau
from nas.search.problem.objectives import EXACT_METRICS, Status
from nas.search.problem.variants import environment_name
from supernets.data import TextFormat
from supernets.networks.capture.captured_model import save_capture
from supernets.training.checkpoint import has_checkpoint
from supernets.training.distributed import check_workers

_COMPARED = 3
"""Examples on which networks are compared with their ONNX models."""


@contextmanager
def preparing_new(
    job: ResolvedJob, kind: Kind, options: RunOptions, *, store: RunStore | None = None, planning: bool = False
) -> Iterator[tuple[BuiltJob, Reuse]]:
    """A job with what it takes from other runs, and the Ray cluster that its work needs, connected within the context.

    `nas.jobs.resolve.references.check_training` has been called before.

    Everything that can be checked before the training is: the cluster starts here, not after hours of training.

    Args:
        store: Store of the run, which shows a wait for a machine; None where the run is made afterwards.
        planning: True for a plan, which scores nothing, and so starts no cluster; it waits for no machine, and reports itself
            on which profiles nothing can be measured.

    Raises:
        NasError: a teacher, board, cluster, CPU or run is not there.
    """
    if job.config.supernet.trains:
        find_device(job.config.training, source=job.source)
    job.runs.check_writable()
    built_job = build_job(job, on_progress=options.observer.count)
    check_trainable(built_job)
    if kind == "search":
        check_searchable(built_job)
        check_as_models(built_job)
        check_own_metrics(built_job)
    with _connected(built_job, kind, options, scores=kind == "search" and not planning):
        environments = {}
        with suppress(ProfilingError) if planning else nullcontext():
            if kind == "search":
                environments = check_measurable(built_job, store, options, wait=not planning)
        reuse = find_reuse(built_job, options.replay, environments) if kind == "search" else Reuse()
        yield built_job, reuse


@contextmanager
def preparing_again(folder: RunFolder, store: RunStore, facts: RunFacts, options: RunOptions) -> Iterator[BuiltJob]:
    """The job of a run that has begun, as `preparing_new`; `NasError` if it is not compatible with what the run has."""
    config = load_job(folder.job_file, stored=True)
    check_passed(folder.id, config, facts.plugins, options.objects, call=f"nas.resume({folder.id!r}")
    check_installed(f"run {folder.id}", facts.plugins)
    job = ResolvedJob(config, options.runs, str(folder.job_file), options.objects, folder)
    if not (trained := is_trained(folder, store, config.training.epochs)):
        check_training(job, facts.kind, inline=options.inline)
    built_job = build_job(job, on_progress=options.observer.count)
    check_plugins(
        f"run {folder.id}",
        facts.plugins,
        built_job.job.plugins.values(),
        accept=options.accept_plugin_versions,
        note=options.observer.note,
    )
    ours = compatibility_facts(built_job, measured=facts.search is not None)
    check_compatibility(f"run {folder.id}", facts.compatibility, ours)
    if facts.search is not None:
        check_searchable(built_job)
    with _connected(built_job, facts.kind, options, scores=facts.kind == "search", trained=trained):
        if facts.search is not None:
            check_measurable(built_job, store, options)
        yield built_job


def check_trainable(built_job: BuiltJob) -> None:
    """Checks that the teacher is there, and that each phase of the training has an epoch.

    Raises:
        JobError, CheckpointError, TrainingError: one is missing.
    """
    epochs = built_job.job.config.training.epochs
    if built_job.checkpoint is None and epochs:
        _ = built_job.teacher
        built_job.strategy().phases(epochs)


def check_searchable(built_job: BuiltJob) -> None:
    """Checks the job's runtimes, and its constraints and serving against its data and its space.

    Raises:
        JobError: a runtime is missing, a language model's prompt or context is too long, or no network of the space satisfies
            a constraint.
        PluginError: the algorithm of a plug-in cannot be loaded or made.
    """
    for runtime in built_job.job.variants.runtimes:
        _check_scored(runtime, where=built_job.job.source)
    _ = built_job.serving
    _check_constraints(built_job)
    if "search.algorithm" in built_job.job.config.plugins:
        build_algorithm(built_job, built_job.outline())


def check_as_models(built_job: BuiltJob) -> None:
    """Compares the smallest and the largest network with their ONNX models, see `check_as_onnx`.

    Raises:
        JobError: their outputs differ, so that the search would measure other networks than those that are trained.
    """
    supernet, data, job = built_job.current().eval(), built_job.data, built_job.job
    part = data.dataset.validation.inputs
    inputs = part[torch.arange(_COMPARED) % len(part)]
    for name, architecture in (("smallest", supernet.space.smallest), ("largest", supernet.space.largest)):
        try:
            network = supernet.extract(architecture)
            check_as_onnx(network if data.task.decodes else data.task.scored(network), inputs, job.variants.runtimes)
        except (ExportFailedError, ModelError) as error:
            text = f"{job.source}: the {name} network: {error}; write that part of the network with other operations"
            raise JobError(text, code=error.code) from error
        n_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
        del network
        if n_bytes > LARGE_BYTES:
            release_free_memory()


def check_own_metrics(built_job: BuiltJob) -> None:
    """Measures each metric of a plug-in once, for the smallest network with the weights that the job begins with.

    Raises:
        PluginError: a metric raises, or returns no finite value, as it would after the training.
        EvaluationError: the network cannot be made.
    """
    metrics, data = built_job.job.own_metrics, built_job.data
    if not metrics:
        return
    supernet, candidate = built_job.current(), built_job.space.smallest
    own_metrics = own_metrics_on(built_job, data.dataset.validation)
    network, variant = built_job.job.variants.split(candidate)
    scoring = InlineScoring(supernet, data.calibration, data.dataset.validation, data.task)
    scored = scoring.score_one(ScoringTask(network, variant, metrics=(), model=True))
    if (model := scored.model) is None:
        raise EvaluationError(f"network {network.key}: {scored.failure}", code="evaluation.not-scored")
    for objective in (metric for metric in built_job.job.metrics if metric.metric in metrics):
        request = built_job.job.variants.request(candidate, objective)
        measurement = own_metrics.measurement(request, model, supernet.cost(network))
        if measurement.status is Status.FAILED:
            where = f"{built_job.job.source}: metrics.{objective.metric}"
            raise PluginError(f"{where}: {measurement.message} (tried on the smallest network before the training)")


def check_measurable(
    built_job: BuiltJob, store: RunStore | None, options: RunOptions, *, wait: bool = True
) -> dict[str, Mapping[str, Any]]:
    """The environments of the profiles, by `environment_name`, once every metric of the job can be measured in every variant.

    The machine of each profile is contacted; for profiles on Ray nodes, a cluster must be connected.

    Args:
        store: Store of the run, which shows a wait for a machine that is away; None where the run is made afterwards.
        wait: False to wait for none, whatever the options say.

    Raises:
        UnreachableError: a machine does not answer.
        ProfileError: it lacks what its profile asks for, or the counters of an energy.
        JobError: a provider does not run a precision, a lookup table is of another space, or a language model's cache does not
            fit into a machine's memory.
        LookupTableError: a table is damaged, or of another profile, machine or precision.
    """
    job = built_job.job
    tables, environments, memory = job.lookup_tables, {}, built_job.memory(built_job.outline())
    waits = VisibleWaits(store, options.observer)
    for place, profile in job.deployed.items():
        check_machine(profile)
        if profile.browser and any((m.metric, m.profile) == ("peak_mib", profile.name) for m in job.metrics):
            text = (
                f"{job.source}: objectives: peak_mib@{profile.name}: a browser reports no memory of a page; remove it"
            )
            raise JobError(text, code="job.peak-memory-unavailable")
        for precision in job.variants.precisions:
            try:
                check_precision(precision, profile.provider, profile.runtime)
            except PrecisionError as error:
                where = f"{job.source}: precisions: profile {profile.name}"
                raise JobError(f"{where}: {error}", code="job.precision-unavailable") from None
        with open_profiler(
            profile,
            # Only a cluster that was joined may get the node later.
            await_first=wait and options.await_machines and (options.address is not None or not profile.placement),
            on_wait=waits.begin,
            on_wait_end=waits.end,
            energy=profile.name in job.energy_profiles,
        ) as profiler:
            environments[environment_name(*place)] = environment = profiler.environment()
        if built_job.serving is not None and memory is not None:
            check_served(built_job.serving, memory, job, profile, environment)
        if (path := tables.get(profile.name)) is not None:
            _check_table(built_job, path, profile, environment)
    return environments


def _check_scored(runtime: str, *, where: str) -> None:
    """Raises `JobError` unless networks can be scored in a runtime, which runs in this program for that."""
    try:
        runtime_version(runtime)
    except ProfilingError as error:
        raise JobError(
            f"{where}: runtimes: metrics of the task are scored in {runtime}: {error}", code=error.code
        ) from None


def _check_constraints(built_job: BuiltJob) -> None:
    """Rejects bounds on computed costs outside of the range of the space."""
    if not (exact := [c for c in built_job.job.constraints if c.metric.metric in EXACT_METRICS]):
        return
    supernet, variants = built_job.outline(), built_job.job.variants
    memory = built_job.memory(supernet)
    ends = [built_job.space.smallest, built_job.space.largest]  # every cost grows with every choice
    for constraint in exact:
        low, high = exact_values(supernet, variants, constraint.metric.metric, ends, memory=memory).tolist()
        for key, bound, broken in (
            ("max", constraint.maximum, constraint.maximum is not None and constraint.maximum < low),
            ("min", constraint.minimum, constraint.minimum is not None and constraint.minimum > high),
        ):
            if broken:
                where = f"{built_job.job.source}: constraints.{constraint.metric.name}.{key}"
                values = f"from {low:g} (the smallest) to {high:g} (the largest)"
                message = f"no network satisfies {bound:g}: values range {values}; change the bound or the space"
                raise JobError(f"{where}: {message}", code="job.constraint-unsatisfiable")


def _check_table(built_job: BuiltJob, path: Path, profile: HardwareProfile, environment: Mapping[str, Any]) -> None:
    table, digest = load_lookup(path, profile=profile, environment=environment), space_digest(built_job.family)
    missing = [precision for precision in built_job.job.variants.precisions if precision not in table.fits]
    if table.source != digest:
        fault = f"is of another space ({table.source}) than the job's ({digest}); calibrate with this job"
    elif missing:
        fault = f"has no fit for {missing[0]}, only for {', '.join(table.fits)}; calibrate with this job, into the same file"
    else:
        return
    raise JobError(f"{built_job.job.source}: lookup_tables: {path} {fault}", code="job.lookup-table-unusable")


def is_trained(folder: RunFolder, store: RunStore, epochs: int) -> bool:
    """True if a run has trained its supernet to the end and still has its checkpoint."""
    return store.state().epoch == epochs and has_checkpoint(folder.checkpoint)


def describe(
    folder: RunFolder, store: RunStore, built_job: BuiltJob, kind: Kind, reuse: Reuse, options: RunOptions
) -> None:
    """Records what a new run is, and keeps what it needs of its pretrained network."""
    if built_job.pretrained is not None:
        built_job.pretrained.keep(folder)
    if (vocabulary := built_job.data.dataset.vocabulary) is not None:
        write_atomically(folder.vocabulary_file, json.dumps(vocabulary.kept.to_json()).encode())
    if (model := built_job.model) is not None:
        save_capture(folder.model_file, model)
        if isinstance(format := built_job.data.dataset.format, TextFormat):
            write_atomically(folder.model_tokenizer, format.tokenizer.encode())
    config, job, search = built_job.job.config, built_job.job, None
    if kind == "search":
        search = SearchFacts(
            space=built_job.space,
            objectives=tuple(job.objectives),
            constraints=tuple(job.constraints),
            profiles=tuple(profile.name for profile in job.profiles),
            variants=job.variants,
            algorithm=config.search.algorithm,
            predictor=config.search.predictor or "",
            reused=reuse.runs,
            prior_results=reuse.prior_results,
            known_candidates=reuse.known_candidates,
            task=job.task,
            models_from=first_modelled(
                built_job, known_candidates=reuse.known_candidates, n_prior=len(reuse.prior_results)
            ),
        )
    facts = RunFacts(
        name=config.name,
        seed=config.seed,
        compatibility=compatibility_facts(built_job, measured=search is not None),
        epochs=config.training.epochs if built_job.checkpoint is None else 0,
        plugins=tuple(dict.fromkeys(built_job.job.plugins.values())),
        task=job.task,
        search=search,
    )
    if search is None:
        store.describe(facts)
    else:
        store.describe(facts, budget=_budget(config, built_job.space.size), environments=reuse.environments)
    if (planned := kept_plan(options.runs, config.to_yaml(), inline=options.scores_here)) is not None:
        store.record_event(PLAN, planned)
    for note in (str(reuse), built_job.data.dataset.warning, *built_job.notes):
        if note:
            options.observer.note(note)


def _budget(job: SearchJob, n_candidates: int) -> Budget:
    """The job's budget; one evaluation where there is one candidate, as of a fine-tuned network."""
    search, plateau = job.search, job.search.plateau
    evaluations = 1 if n_candidates == 1 else search.evaluations
    return Budget(evaluations, search.minutes, Plateau(plateau.evaluations, plateau.gain) if plateau else None)


@contextmanager
def _connected(
    built_job: BuiltJob, kind: Kind, options: RunOptions, *, scores: bool, trained: bool = False
) -> Iterator[None]:
    """Connects to Ray where the training or the search uses it, with room for the workers.

    Args:
        scores: True if networks are scored, for which a cluster is started.
        trained: True if the run has trained its supernet already.
    """
    training, searches = built_job.job.config.training, kind == "search"
    workers = 1 if trained or built_job.checkpoint is not None else training.workers
    profiles = built_job.job.profiles if searches else ()
    check_ray(built_job.job, profiles, inline=options.inline, address=options.address, workers=workers)
    if searches and options.scores_here and not options.inline:
        text = f"Ray is not installed: networks are scored in this process, one after another ({install('ray')})"
        options.observer.note(text)
    spread = workers > 1 or (scores and not options.scores_here) or (searches and options.address is not None)
    with connected(options.address, spread=spread, profiles=profiles):
        if workers > 1:
            check_workers(workers, training.threads, built_job.device())
        yield
