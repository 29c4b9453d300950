"""Drives runs: trains, searches and resumes, and records how each ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hardware_profiles.errors import ProfilingError
from nas.build.checks import check_measurable, check_trainable
from nas.build.compatibility_facts import compatibility_facts
from nas.build.prepared_job import PreparedJob, prepare_job
from nas.build.search_objects import build_algorithm, build_evaluator
from nas.config import SearchJob, load_job
from nas.engine.budget_extension import Extension
from nas.engine.loop import finalists, measure_again
from nas.engine.loop import search as run_search
from nas.engine.measurement_reuse import Lookup, Sources, earlier_evaluations, find_sources, lookup
from nas.engine.progress import Display, Silent
from nas.engine.run import Run
from nas.errors import ClusterError, JobError, NasError, StoreAwayError, StoreError
from nas.evaluation.base import Evaluator
from nas.evaluation.cached import Cached
from nas.evaluation.cluster import connected
from nas.evaluation.environments import Machines
from nas.evaluation.measured import Measured
from nas.evaluation.scoring import InlineScoring, Scoring
from nas.problem.budget import Budget, Plateau
from nas.store.base import RunStatus, RunStore
from nas.store.compatibility import check_conditions, check_teacher, check_weights
from nas.store.folder import RunFolder, RunsFolder
from nas.store.opening import open_store
from nas.store.run_facts import Kind, RunFacts, SearchFacts
from predictors.errors import PredictorError
from supernets.base import Supernet
from supernets.distributed import check_workers, train_on_workers
from supernets.errors import SupernetError
from supernets.trainer import train as train_supernet

_OPEN = (RunStatus.QUEUED, RunStatus.RUNNING)
USER_ERRORS = (NasError, SupernetError, ProfilingError, PredictorError)
"""What is told to the user as a message; anything else is a fault of ours and keeps its traceback."""


@dataclass(frozen=True)
class RunOptions:
    """How a job is run, as opposed to what it is.

    Attributes:
        inline: score in this process, without Ray.
        address: a running Ray cluster to join; None starts one here.
        store: the URL of a PostgreSQL database for a new run's store; None for a file in the run's folder.
        replay: another run of the same supernet whose measurements are taken where it has them.
        retry_failures: measure again what failed before; set for a run that ended as failed.
    """

    runs: RunsFolder = field(default_factory=lambda: RunsFolder(Path("runs")))
    inline: bool = False
    address: str | None = None
    store: str | None = None
    replay: str | None = None
    display: Display = field(default_factory=Silent)
    retry_failures: bool = False


def train(job: SearchJob, how: RunOptions | None = None, *, source: str = "job") -> Run:
    """Trains the job's supernet and keeps it as a run."""
    return _start(job, how or RunOptions(), "training", source)


def search(job: SearchJob, how: RunOptions | None = None, *, source: str = "job") -> Run:
    """Trains the job's supernet (or takes the one that it names) and searches it."""
    return _start(job, how or RunOptions(), "search", source)


def resume(
    run: str,
    how: RunOptions | None = None,
    *,
    evaluations: str | int | None = None,
    minutes: str | float | None = None,
) -> Run:
    """Goes on with a run where it stopped, whatever stopped it.

    Args:
        evaluations: a new budget (``150``) or more of it (``+50``), with which a finished run goes on, too.
        minutes: likewise, of wall time.

    Raises:
        NasError: the run is finished and its budget is not extended, or another live driver holds it.
    """
    how = how or RunOptions()
    folder = how.runs.get(run)
    store = open_store(folder, driver=True)
    try:
        facts, more = store.facts(), Extension(evaluations, minutes)
        if store.status() is RunStatus.FINISHED and not more:
            raise NasError(
                f"run {run} is finished; there is nothing to resume"
                + (f" (to search on: nas resume {run} --evaluations +50)" if facts and facts.search else "")
            )
        if facts is None:
            raise NasError(
                f"run {run} was killed while it was being made, before anything was measured; start the job again"
            )
        prepared = _prepared_again(folder, store, facts, how)
        if more:
            more.apply(store, run)
        if store.status() is RunStatus.FAILED:
            store.update_state(retry_failures=True)
        return _drive(folder, store, prepared, facts.kind, how)
    finally:
        store.close()


def drive(run: str, how: RunOptions | None = None, *, kind: Kind = "search", more: Extension | None = None) -> Run:
    """Drives a run that waits or was left by its driver, whatever it has of it already; does nothing once it has ended.

    Whatever keeps it from being driven on is recorded as its failure. However often and wherever it is killed, calling it
    again goes on; and so it is after SIGTERM, of which only whoever started this driver knows whether it was a cancel or the
    end of the machine's day, and where the cluster or the database server is gone: whoever looks after those starts them
    again.

    Args:
        kind: what the run is to be, where no driver has described it yet.
        more: taken once, by its id.

    Raises:
        RunHeldError: another live driver has the run.
    """
    how = how or RunOptions()
    folder = how.runs.get(run)
    store = open_store(folder, driver=True)
    try:
        if store.status() not in _OPEN:
            return Run(folder, how.runs)
        with _recording_its_end(store, but=(ClusterError, StoreAwayError)):
            facts = store.facts()
            if facts is not None:
                prepared, kind = _prepared_again(folder, store, facts, how), facts.kind
            else:
                job, source = load_job(folder.job_file), str(folder.job_file)
                _check_kind(job, kind, source)
                prepared = prepare_job(job, how.runs, source=source)
                _describe(folder, store, prepared, kind, _checked(prepared, how, kind, source), how)
            if more and not more.is_applied(store.state()):
                more.apply(store, run)
            if store.status() is RunStatus.QUEUED and _last_end(store) is RunStatus.FAILED:
                store.update_state(retry_failures=True)
            _go_on(folder, store, prepared, kind, how)
        return Run(folder, how.runs)
    finally:
        store.close()


def _last_end(store: RunStore) -> RunStatus | None:
    """How a run ended the last time; None where it never has."""
    return next((status for status, _ in reversed(store.statuses()) if status not in _OPEN), None)


def _prepared_again(folder: RunFolder, store: RunStore, facts: RunFacts, how: RunOptions) -> PreparedJob:
    """The parts of a run that has begun, once they are the same as then."""
    prepared = prepare_job(load_job(folder.job_file), how.runs, run=folder, source=str(folder.job_file))
    ours = compatibility_facts(prepared, measured=facts.search is not None)
    check_conditions(f"run {folder.id}", facts.compatibility, ours)
    trained = store.state().epoch == prepared.config.training.epochs
    _check_reachable(prepared, facts.kind, how, source=str(folder.job_file), trained=trained)
    return prepared


def _start(job: SearchJob, how: RunOptions, kind: Kind, source: str) -> Run:
    _check_kind(job, kind, source)
    how.runs.check_writable()
    place = None if how.store is None else _new_place(how.store, job.name)
    prepared = prepare_job(job, how.runs, source=source)
    sources = _checked(prepared, how, kind, source)
    folder = how.runs.create(job.name, job.to_yaml(), store=place)
    store = open_store(folder, create=True, driver=True)
    try:
        _describe(folder, store, prepared, kind, sources, how)
        return _drive(folder, store, prepared, kind, how)
    finally:
        store.close()


def _check_kind(job: SearchJob, kind: Kind, source: str) -> None:
    if kind == "training" and not job.supernet.trains:
        raise JobError(f"{source}: supernet.from: names a trained supernet, so there is nothing to train; remove it")


def _checked(prepared: PreparedJob, how: RunOptions, kind: Kind, source: str) -> Sources:
    """What a new run takes from others, once all that it needs is known to be there."""
    check_trainable(prepared.supernets)
    environments = _check_reachable(prepared, kind, how, source=source)
    return find_sources(how.runs, prepared, how.replay, environments) if kind == "search" else Sources()


def _new_place(url: str, name: str) -> dict[str, str]:
    """Where a new run's store will be, once the server has let us in."""
    from nas.store.postgres import new_schema

    place = new_schema(url, name)
    return {"url": place.url.render_as_string(), "schema": str(place.schema)}


def _check_reachable(
    prepared: PreparedJob, kind: Kind, how: RunOptions, *, source: str, trained: bool = False
) -> dict[str, Mapping[str, Any]]:
    """What is not there (a board, a cluster, room for workers), or a table that is of another, is told before a run is made.

    Args:
        trained: whether a run has trained its supernet already.

    Returns:
        The environment of each profile that a search measures on, by its name.
    """
    training, measured = prepared.config.training, kind == "search"
    workers = 1 if trained or prepared.supernets.checkpoint is not None else training.workers
    if how.inline and workers > 1:
        raise JobError(
            f"{source}: training.workers: {workers} workers need Ray; run without --inline, or with one worker"
        )
    spread, profiles = workers > 1 or (measured and how.address is not None), prepared.job.profiles if measured else ()
    with connected(how.address, spread=spread, profiles=profiles):
        if workers > 1:
            check_workers(workers, training.threads, prepared.supernets.device())
        return check_measurable(prepared) if measured else {}


def _describe(
    folder: RunFolder, store: RunStore, prepared: PreparedJob, kind: Kind, sources: Sources, how: RunOptions
) -> None:
    """Records the facts of a run that never change, and keeps what it needs of the pretrained network that it is made of."""
    if prepared.supernets.pretrained is not None:
        prepared.supernets.pretrained.keep(folder)
    job, search = prepared.config, None
    if kind == "search":
        search = SearchFacts(
            space=prepared.space,
            objectives=tuple(prepared.job.objectives),
            constraints=tuple(prepared.job.constraints),
            profiles=tuple(p.name for p in prepared.job.profiles),
            precisions=prepared.job.precisions,
            algorithm=job.search.algorithm,
            reused=sources.runs,
            prior_results=sources.learnt,
        )
    facts = RunFacts(
        name=job.name,
        seed=job.seed,
        compatibility=compatibility_facts(prepared, measured=search is not None),
        epochs=job.training.epochs if prepared.supernets.checkpoint is None else 0,
        search=search,
    )
    if search is None:
        store.describe(facts)
    else:
        store.describe(facts, budget=_budget(job), environments=sources.machines)
    for told in (str(sources), prepared.data.dataset.warning):
        if told:
            how.display.note(told)


def _budget(job: SearchJob) -> Budget:
    search, plateau = job.search, job.search.plateau
    ends = None if plateau is None else Plateau(plateau.evaluations, plateau.gain)
    return Budget(search.evaluations, search.minutes, ends)


def _drive(folder: RunFolder, store: RunStore, prepared: PreparedJob, kind: Kind, how: RunOptions) -> Run:
    """Does what is left of a run, and records how it ended; an interruption, too, which is its user's wish."""
    with _recording_its_end(store), _recording_interruption(folder, store, how):
        _go_on(folder, store, prepared, kind, how)
    return Run(folder, how.runs)


def _go_on(folder: RunFolder, store: RunStore, prepared: PreparedJob, kind: Kind, how: RunOptions) -> None:
    """Does what is left of a run."""
    how = replace(how, retry_failures=store.state().retry_failures)
    store.set_status(RunStatus.RUNNING)
    _begin_display(folder, store, how)
    supernet, weights = _supernet(folder, store, prepared, how)
    check_weights(folder.id, store.state().weights, weights)
    store.update_state(weights=weights)
    if kind == "search":
        _search(store, prepared, supernet, weights, how)


def _begin_display(folder: RunFolder, store: RunStore, how: RunOptions) -> None:
    facts, budget = store.facts(), store.state().budget
    assert facts is not None
    n_evaluations = store.n_whole(len(facts.search.metrics)) if facts.search else 0
    how.display.begin(folder, facts, budget, n_evaluations)


@contextmanager
def _recording_interruption(folder: RunFolder, store: RunStore, how: RunOptions) -> Iterator[None]:
    """Keeps in a run's store that its user has interrupted it."""
    try:
        yield
    except KeyboardInterrupt:
        reason = f"interrupted; go on with: nas resume {folder.id}"
        store.set_status(RunStatus.CANCELLED, reason=reason)
        how.display.note(reason)
        raise


@contextmanager
def _recording_its_end(store: RunStore, *, but: tuple[type[NasError], ...] = ()) -> Iterator[None]:
    """Keeps in a run's store how the driving of it ends: finished, or failed and why, unless by some errors."""
    try:
        yield
    except but:
        raise
    except USER_ERRORS as error:
        with suppress(StoreError):  # the store itself may be what failed, and the first error is the one to tell
            store.set_status(RunStatus.FAILED, reason=str(error))
        raise
    store.update_state(retry_failures=False)
    store.set_status(RunStatus.FINISHED, reason=str(store.state().stop or ""))


def _supernet(folder: RunFolder, store: RunStore, prepared: PreparedJob, how: RunOptions) -> tuple[Supernet, str]:
    """The trained supernet and the digest of its weights: the one that the job names, or trained (the rest of the way) here."""
    if prepared.supernets.checkpoint is not None:
        return prepared.supernets.checkpoint.supernet, prepared.supernets.checkpoint.weights_digest
    supernets, data = prepared.supernets, prepared.data.dataset
    supernet, settings, display = supernets.untrained(), supernets.settings(), how.display

    def on_epoch(epoch: Any) -> None:
        if epoch.best is None:
            store.update_state(epoch=epoch.epoch)
        else:
            store.update_state(epoch=epoch.epoch, best_epoch=epoch.best)
        display.epoch(epoch, settings.epochs)

    workers = prepared.config.training.workers
    trained = store.state().epoch == settings.epochs  # its teacher may be gone
    teacher = None if trained else prepared.supernets.teacher()
    if teacher is not None:
        check_teacher(folder.id, store.state().teacher, teacher.weights_digest)
        store.update_state(teacher=teacher.weights_digest)
    common: Any = {
        "teacher": None if teacher is None else teacher.network,
        "device": prepared.supernets.device(),
        "on_step": display.step,
        "on_epoch": on_epoch,
    }
    if workers == 1 or trained:
        digest = train_supernet(supernet, data, supernets.strategy(), settings, folder.checkpoint, **common)
    else:
        with connected(how.address, spread=True):
            digest = train_on_workers(
                supernet,
                prepared.data.dataset,
                prepared.supernets.strategy(),
                settings,
                folder.checkpoint,
                workers=workers,
                **common,
            )
    store.update_state(epoch=settings.epochs)  # a kill may have come between the checkpoint and its row
    return supernet, digest


def _search(store: RunStore, prepared: PreparedJob, supernet: Supernet, weights: str, how: RunOptions) -> None:
    torch.set_num_threads(1)
    cluster = connected(how.address, spread=not how.inline, profiles=prepared.job.profiles)
    with lookup(how.runs, store.search_facts().reused, weights) as known, cluster:
        _search_knowing(store, prepared, supernet, weights, how, known)


def _search_knowing(
    store: RunStore, prepared: PreparedJob, supernet: Supernet, weights: str, how: RunOptions, known: Lookup | None
) -> None:
    """Searches, then measures the finalists again; what is known from other runs is not measured."""
    job, data = prepared.config, prepared.data.dataset
    facts, state = store.search_facts(), store.state()
    assert state.budget is not None
    machines = Machines(state.environments, lambda known: store.update_state(environments=known), calm_levels(store))
    measure = partial(
        build_evaluator, prepared, supernet, weights, seed=job.seed, note=how.display.note, machines=machines
    )
    few = job.search.screen_images
    with _closing(measure(data.validation, _scoring(prepared, supernet, how), screen_images=few)) as measured:
        evaluations = run_search(
            prepared.space,
            prepared.job.objectives,
            build_algorithm(prepared, supernet, earlier_evaluations(facts)),
            _taking(measured, known),
            store,
            state.budget,
            batch=job.search.batch,
            constraints=prepared.job.constraints,
            precisions=prepared.job.precisions,
            retry_failures=how.retry_failures,
            screen_images=few,
            on_progress=how.display.progress,
        )
    space = prepared.space
    chosen = finalists(evaluations, prepared.job.objectives, [space.smallest, space.largest], prepared.job.constraints)
    # Only now, with the search over, is the test part put before an evaluator.
    test = InlineScoring(supernet, prepared.data.calibration, data.test)
    with _closing(measure(data.test, test)) as measured:
        measure_again(
            chosen, prepared.job.metrics, _taking(measured, known), store,
            precisions=prepared.job.precisions, on_progress=how.display.progress,
        )  # fmt: skip


def calm_levels(store: RunStore) -> dict[str, list[float]]:
    """By profile, the sentinels' levels in the sessions in which a run measured, one a session."""
    found: dict[str, dict[float, None]] = {}
    for measurement in store.measurements():
        level = measurement.environment.get("level_ms")
        if level is not None:  # a batch's rows may come from several sessions in turns
            found.setdefault(str(measurement.request.profile), {})[float(level)] = None
    return {profile: list(levels) for profile, levels in found.items()}


@contextmanager
def _closing(evaluator: Measured) -> Iterator[Measured]:
    try:
        yield evaluator
    finally:
        evaluator.close()


def _scoring(prepared: PreparedJob, supernet: Supernet, how: RunOptions) -> Scoring:
    """Scoring on the validation part: here, or by Ray actors."""
    part, search = prepared.data.dataset.validation, prepared.config.search
    if how.inline:
        return InlineScoring(supernet, prepared.data.calibration, part)
    from nas.evaluation.ray_pool import RayPool

    return RayPool(
        supernet, prepared.data.calibration, part,
        workers=search.workers, time_limit_s=search.time_limit_s,
        note=how.display.note,
    )  # fmt: skip


def _taking(measured: Measured, known: Lookup | None) -> Evaluator:
    return measured if known is None else Cached(measured, known, replay_failures=True)
