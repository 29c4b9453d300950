"""Drives runs: starts, continues and resumes them, and records how each ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Unpack

from hardware_profiles.errors import ProfilingError, UnreachableError
from nas.engine.resumption import Resumption, check_ended
from nas.engine.store.base import RunStatus, RunStore
from nas.engine.store.folder import RunFolder
from nas.engine.store.opening import new_place, open_store
from nas.engine.store.run_facts import Kind
from nas.engine.store.run_state import Away
from nas.errors import ClusterError, JobError, NasError, Remedy, StoreAwayError, StoreError, attach_remedy
from nas.jobs.build.built_job import BuiltJob
from nas.jobs.resolve.references import check_training
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.run.execution import RunExecution
from nas.jobs.run.passed_objects import PassedPlugins, resumed_with, with_passed
from nas.jobs.run.preparation import describe, preparing_again, preparing_new
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import SearchJob, load_job
from nas.jobs.schema.errors import show
from nas.runs.run import Run
from predictors.errors import PredictorError
from supernets.errors import SupernetError

_OPEN = (RunStatus.QUEUED, RunStatus.RUNNING)
USER_ERRORS = (NasError, SupernetError, ProfilingError, PredictorError)
"""Errors whose message is for the user; any other is a fault of this program and keeps its traceback."""


def train(
    job: SearchJob, options: RunOptions | None = None, *, source: str = "job", **passed: Unpack[PassedPlugins]
) -> Run:
    """The run that trained the job's supernet.

    Args:
        job: Job whose supernet is trained; `JobError` if it names a trained one.
        options: Folder of the runs, Ray cluster, store and observer of the run; None for the defaults of `RunOptions`.
        source: Name of the job in error messages, e.g. the path of its file.
        passed: see `run`.
    """
    return start(*_resolved(job, options or RunOptions(), passed, "training", source), "training")


def run(
    job: SearchJob, options: RunOptions | None = None, *, source: str = "job", **passed: Unpack[PassedPlugins]
) -> Run:
    """The run that trained the job's supernet (unless the job names a trained one) and searched it.

    Args:
        job: Job to run; `nas.load_job` reads one from a file.
        options: Folder of the runs, Ray cluster, store and observer of the run; None for the defaults of `RunOptions`.
        source: Name of the job in error messages, e.g. the path of its file.
        passed: plug-ins in place of those that the job names, see `nas.jobs.run.passed_objects.PassedPlugins`.
    """
    return start(*_resolved(job, options or RunOptions(), passed, "search", source), "search")


def resume(
    run: str,
    options: RunOptions | None = None,
    *,
    evaluations: str | int | None = None,
    minutes: str | float | None = None,
    retry_failed: bool = False,
    **passed: Unpack[PassedPlugins],
) -> Run:
    """Continues a run where it stopped; `NasError` if it is finished, or another live driver holds it.

    Args:
        run: Id of the run, which is looked up in the runs folder of `options`.
        options: Folder of the runs, Ray cluster and observer; None for the defaults of `RunOptions`.
        evaluations: a new budget (``150``) or an increase (``+50``), with which a finished run continues, too.
        minutes: likewise, of wall time.
        retry_failed: measure again what failed or was too noisy, also in a finished run.
        passed: the objects that the run was started with, see `run`.
    """
    options = resumed_with(options or RunOptions(), passed)
    folder = options.runs.get(run)
    with closing(open_store(folder, driver=True, on_wait=options.observer.waiting)) as store:
        more = Resumption(evaluations, minutes, retry_failed=retry_failed)
        facts = check_ended(folder, store, more)
        more.check(store, run)
        store.update_state(away=None)
        with _naming_next_step(folder), preparing_again(folder, store, facts, options) as built_job:
            if more:
                more.apply(store, run)
            if store.status() is RunStatus.FAILED:
                store.update_state(retry_failures=True)
            with _recording_end(store), _recording_interruption(folder, store, options):
                RunExecution(folder, store, built_job, options).execute()
    return Run(folder, options.runs)


def drive(run: str, options: RunOptions | None = None, *, kind: Kind = "search", more: Resumption | None = None) -> Run:
    """Continues a run that waits or has lost its driver, from any state; does nothing once it has ended.

    An error that prevents this is recorded as the run's failure. After a kill, a call continues the run; also after
    SIGTERM, which may be a cancellation or a machine's shutdown, and where the cluster, the database server or a profile's
    machine does not answer: these are no failures, and the service that started this driver decides. A machine that stays
    away is recorded; the next call tries it once, at its begin.

    Args:
        kind: Kind of the run, where no driver has described it yet.
        more: Extension of the run, which is applied once, by its id.

    Raises:
        RunHeldError: another live driver has the run.
    """
    options = options or RunOptions()
    folder = options.runs.get(run)
    with closing(open_store(folder, driver=True, on_wait=options.observer.waiting)) as store:
        if store.status() not in _OPEN:
            return Run(folder, options.runs)
        was_away = store.state().away is not None
        with (
            _naming_next_step(folder),
            _recording_end(store, but=(ClusterError, StoreAwayError, UnreachableError)),
            _recording_away(store),
            _preparing(folder, store, kind, replace(options, await_machines=not was_away)) as built_job,
        ):
            if was_away:
                store.update_state(away=None)
            if more and not more.is_applied(store.state()):
                more.apply(store, run)
            ends = [status for status, _ in store.statuses() if status not in _OPEN]
            if store.status() is RunStatus.QUEUED and ends[-1:] == [RunStatus.FAILED]:
                store.update_state(retry_failures=True)
            RunExecution(folder, store, built_job, options).execute()
    return Run(folder, options.runs)


@contextmanager
def _preparing(folder: RunFolder, store: RunStore, kind: Kind, options: RunOptions) -> Iterator[BuiltJob]:
    """The job of a run that has begun, or that is described now."""
    if (facts := store.facts()) is not None:
        with preparing_again(folder, store, facts, options) as built_job:
            yield built_job
        return
    config = load_job(folder.job_file, stored=True)
    job = ResolvedJob(config, options.runs, str(folder.job_file), options.objects)
    check_training(job, kind, inline=options.inline)
    with preparing_new(job, kind, options, store=store) as (built_job, reuse):
        describe(folder, store, built_job, kind, reuse, options)
        yield built_job


def start(job: ResolvedJob, options: RunOptions, kind: Kind) -> Run:
    """A new run of a job, of which `nas.jobs.resolve.references.check_training` has been called, from its begin to its end."""
    name = job.config.name
    place = None if options.store is None else new_place(options.store, name)
    with preparing_new(job, kind, options) as (built_job, reuse):
        folder = options.runs.create(name, job.config.to_yaml(), store=place)
        opened = open_store(folder, create=True, driver=True, on_wait=options.observer.waiting)
        with closing(opened) as store:
            describe(folder, store, built_job, kind, reuse, options)  # before, there is nothing to resume
            with _naming_next_step(folder), _recording_end(store), _recording_interruption(folder, store, options):
                RunExecution(folder, store, built_job, options).execute()
    return Run(folder, options.runs)


def _resolved(
    config: SearchJob, options: RunOptions, passed: PassedPlugins, kind: Kind, source: str
) -> tuple[ResolvedJob, RunOptions]:
    """A job with the plug-ins that were passed, and options that hold them."""
    if not isinstance(config, SearchJob):
        raise JobError(
            f"job: expected a job, as nas.load_job(PATH) reads it, got {show(config)}", code="job.invalid-value"
        )
    config, options = with_passed(config, options, passed)
    job = ResolvedJob(config, options.runs, source, options.objects)
    check_training(job, kind, inline=options.inline)
    return job, options


@contextmanager
def _recording_interruption(folder: RunFolder, store: RunStore, options: RunOptions) -> Iterator[None]:
    """Records that the user has interrupted a run."""
    try:
        yield
    except KeyboardInterrupt:
        with suppress(StoreAwayError):
            store.set_status(RunStatus.CANCELLED, reason="interrupted")
        options.observer.note(f"interrupted; the run {folder.id} can be resumed")
        raise


@contextmanager
def _recording_away(store: RunStore) -> Iterator[None]:
    """Records which machine ended a driver, since it was away."""
    try:
        yield
    except UnreachableError as error:
        if store.state().away is None:  # else the service counts its tries
            now = time.time()
            store.update_state(away=Away.first(error.profile, now if error.wait is None else error.wait.since, now))
        raise


@contextmanager
def _naming_next_step(folder: RunFolder) -> Iterator[None]:
    """Attaches to an error, or to an interruption, that the run can be resumed, unless it has another remedy."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        attach_remedy(error, Remedy("resume", folder.id))
        raise


@contextmanager
def _recording_end(store: RunStore, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Records how a run ends: finished, or failed and why, but for some errors."""
    try:
        yield
    except but:
        raise
    except USER_ERRORS as error:
        with suppress(StoreError):  # the store itself may have failed, and the first error is the one to report
            store.set_status(RunStatus.FAILED, reason=str(error))
        raise
    store.update_state(retry_failures=False)
    store.set_status(RunStatus.FINISHED, reason=str(store.state().stop or ""))
