"""Preparation of a run: the checks before it begins or resumes, and the description of a new one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from hardware_profiles.errors import ProfilingError
from nas.engine.evaluation.cluster import connected
from nas.engine.store.base import RunStore
from nas.engine.store.compatibility import check_compatibility, check_installed, check_plugins
from nas.engine.store.folder import RunFolder, write_atomically
from nas.engine.store.run_facts import Kind, RunFacts, SearchFacts
from nas.jobs.build.checks import check_measurable, check_searchable, check_trainable
from nas.jobs.build.measurement_reuse import Reuse, find_reuse
from nas.jobs.build.prepared_job import PreparedJob, compatibility_facts, prepare_job
from nas.jobs.build.references import check_kind, check_training
from nas.jobs.build.required_parts import check_ray
from nas.jobs.build.search_objects import first_modelled
from nas.jobs.build.supernet_factory import find_device
from nas.jobs.run.passed_objects import check_passed
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import SearchJob, load_job
from nas.plugins.parts import install
from nas.search.problem.budget import Budget, Plateau
from supernets.data import TextFormat
from supernets.networks.capture.captured_model import save_capture
from supernets.training.checkpoint import has_checkpoint
from supernets.training.distributed import check_workers


@contextmanager
def preparing_new(
    job: SearchJob, kind: Kind, options: RunOptions, *, source: str, planning: bool = False
) -> Iterator[tuple[PreparedJob, Reuse]]:
    """A job with what it takes from other runs, and the Ray cluster that its work needs, connected within the context.

    Everything that can be checked before the training is: the cluster starts here, not after hours of training.

    Args:
        planning: True for a plan, which scores nothing, and so starts no cluster; it reports itself on which profiles nothing
            can be measured.

    Raises:
        NasError: a teacher, board, cluster, CPU or run is not there.
    """
    check_kind(job, kind, source=source)
    check_training(job, source=source, inline=options.inline)
    if job.supernet.trains:
        find_device(job.training, source=source)
    options.runs.check_writable()
    prepared = prepare_job(
        job, options.runs, source=source, on_progress=options.observer.count, objects=options.objects
    )
    check_trainable(prepared.supernets)
    if kind == "search":
        check_searchable(prepared)
    with _connected(prepared, kind, options, scores=kind == "search" and not planning):
        environments = {}
        with suppress(ProfilingError) if planning else nullcontext():
            environments = check_measurable(prepared) if kind == "search" else {}
        reuse = find_reuse(options.runs, prepared, options.replay, environments) if kind == "search" else Reuse()
        yield prepared, reuse


@contextmanager
def preparing_again(folder: RunFolder, store: RunStore, facts: RunFacts, options: RunOptions) -> Iterator[PreparedJob]:
    """The job of a run that has begun, as `preparing_new`; `NasError` if it is not compatible with what the run has."""
    source = str(folder.job_file)
    job, count = load_job(folder.job_file, stored=True), options.observer.count
    check_passed(folder.id, job, facts.plugins, options.objects, call=f"nas.resume({folder.id!r}")
    check_installed(f"run {folder.id}", facts.plugins)
    if not (trained := is_trained(folder, store, job.training.epochs)):
        check_training(job, source=source, inline=options.inline)
    prepared = prepare_job(job, options.runs, run=folder, source=source, on_progress=count, objects=options.objects)
    check_plugins(
        f"run {folder.id}",
        facts.plugins,
        prepared.job.plugins.values(),
        accept=options.accept_plugin_versions,
        note=options.observer.note,
    )
    ours = compatibility_facts(prepared, measured=facts.search is not None)
    check_compatibility(f"run {folder.id}", facts.compatibility, ours)
    if facts.search is not None:
        check_searchable(prepared)
    with _connected(prepared, facts.kind, options, scores=facts.kind == "search", trained=trained):
        if facts.search is not None:
            check_measurable(prepared)
        yield prepared


def is_trained(folder: RunFolder, store: RunStore, epochs: int) -> bool:
    """True if a run has trained its supernet to the end and still has its checkpoint."""
    return store.state().epoch == epochs and has_checkpoint(folder.checkpoint)


def describe(
    folder: RunFolder, store: RunStore, prepared: PreparedJob, kind: Kind, reuse: Reuse, options: RunOptions
) -> None:
    """Records what a new run is, and keeps what it needs of its pretrained network."""
    if prepared.supernets.pretrained is not None:
        prepared.supernets.pretrained.keep(folder)
    if (model := prepared.supernets.model) is not None:
        save_capture(folder.model_file, model)
        if isinstance(format := prepared.data.dataset.format, TextFormat):
            write_atomically(folder.model_tokenizer, format.tokenizer.encode())
    config, job, search = prepared.config, prepared.job, None
    if kind == "search":
        search = SearchFacts(
            space=prepared.space,
            objectives=tuple(job.objectives),
            constraints=tuple(job.constraints),
            profiles=tuple(profile.name for profile in job.profiles),
            variants=job.variants,
            algorithm=config.search.algorithm,
            reused=reuse.runs,
            prior_results=reuse.prior_results,
            known_candidates=reuse.known_candidates,
            task=job.task,
            models_from=first_modelled(
                prepared, known_candidates=reuse.known_candidates, n_prior=len(reuse.prior_results)
            ),
        )
    facts = RunFacts(
        name=config.name,
        seed=config.seed,
        compatibility=compatibility_facts(prepared, measured=search is not None),
        epochs=config.training.epochs if prepared.supernets.checkpoint is None else 0,
        plugins=tuple(dict.fromkeys(prepared.job.plugins.values())),
        task=job.task,
        search=search,
    )
    if search is None:
        store.describe(facts)
    else:
        store.describe(facts, budget=_budget(config, prepared.space.size), environments=reuse.environments)
    for note in (str(reuse), prepared.data.dataset.warning, *prepared.supernets.notes):
        if note:
            options.observer.note(note)


def _budget(job: SearchJob, n_candidates: int) -> Budget:
    """The job's budget; one evaluation where there is one candidate, as of a fine-tuned network."""
    search, plateau = job.search, job.search.plateau
    evaluations = 1 if n_candidates == 1 else search.evaluations
    return Budget(evaluations, search.minutes, Plateau(plateau.evaluations, plateau.gain) if plateau else None)


@contextmanager
def _connected(
    prepared: PreparedJob, kind: Kind, options: RunOptions, *, scores: bool, trained: bool = False
) -> Iterator[None]:
    """Connects to Ray where the training or the search uses it, with room for the workers.

    Args:
        scores: True if networks are scored, for which a cluster is started.
        trained: True if the run has trained its supernet already.
    """
    training, searches = prepared.config.training, kind == "search"
    workers = 1 if trained or prepared.supernets.checkpoint is not None else training.workers
    profiles = prepared.job.profiles if searches else ()
    check_ray(
        prepared.config,
        profiles,
        inline=options.inline,
        address=options.address,
        workers=workers,
        source=prepared.job.source,
    )
    if searches and options.scores_here and not options.inline:
        text = f"Ray is not installed: networks are scored in this process, one after another ({install('ray')})"
        options.observer.note(text)
    spread = workers > 1 or (scores and not options.scores_here) or (searches and options.address is not None)
    with connected(options.address, spread=spread, profiles=profiles):
        if workers > 1:
            check_workers(workers, training.threads, prepared.supernets.device())
        yield
