"""Latencies of a training's nested networks: measured when they are first asked for, and kept in the run's store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from hardware_profiles.profiler_factory import open_profiler
from nas.engine.evaluation.cached_evaluator import CachedEvaluator
from nas.engine.formatting import counted
from nas.engine.store.opening import open_store
from nas.engine.store.stored_run import StoredRun
from nas.errors import EvaluationError, SelectionError
from nas.jobs.build.trained_run import load_trained_run
from nas.jobs.evaluation.environments import Environments
from nas.jobs.evaluation.measuring_evaluator import MeasuringEvaluator, TimedProfile
from nas.jobs.evaluation.scoring import InlineScoring
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema.search_job import stored_job
from nas.search.problem.objectives import Measurement, Request
from nas.search.problem.tasks import LANGUAGE
from nas.search.problem.variants import environment_name
from supernets.space import Architecture

LATENCY = "latency_ms"
MAX_MEASURED = 500
"""Networks that are measured without a search, at most: some minutes."""
_TOGETHER = 20
"""Networks whose models are in memory at once; each such batch is kept before the next begins."""


def timed_profiles(run: StoredRun) -> tuple[str, ...]:
    """Names of the profiles of a training's job; none for language models, which are served by several models.

    Raises:
        JobError: a profile is unknown, or its file is missing or malformed.
    """
    return () if stored_job(run).task == LANGUAGE else tuple(profile.name for profile in _resolved(run).profiles)


def measured_latencies(
    run: StoredRun, networks: Sequence[Architecture], profile: str, *, note: Callable[[str], None]
) -> dict[Architecture, tuple[float, float]]:
    """Latency and error of each network in fp32 on one of `timed_profiles`, in ms per batch.

    What the run's store lacks is measured here and kept there: the next call measures nothing.

    Args:
        note: called before something is measured, and when the measurement has to wait for its machine.

    Raises:
        SelectionError: there are too many networks.
        EvaluationError: a network cannot be measured, or the machine is another than that of earlier measurements.
        RunHeldError: another process writes into the run.
    """
    if len(networks) > MAX_MEASURED:
        raise SelectionError(
            f"run {run.id!r} has {len(networks)} networks, and without a search at most {MAX_MEASURED} are measured; search "
            f"it with supernet: {{from: {run.id}}}, or limit computed costs, e.g. macs<=2e6",
            code="selection.not-measured",
        )
    runtime = _resolved(run).variants.runtimes[0]
    requests = [Request(network, LATENCY, profile, runtime=runtime) for network in networks]
    with run.store() as store:
        measurements = store.find(requests)
    missing = [request for request in requests if request not in measurements or measurements[request].value is None]
    if missing:
        note(f"measuring the latency of {counted(len(missing), 'network')} on {profile}; run {run.id} keeps it")
        measurements |= _measure(run, missing, note)
    return {request.architecture: _value_and_error(measurements[request]) for request in requests}


def _measure(run: StoredRun, requests: Sequence[Request], note: Callable[[str], None]) -> dict[Request, Measurement]:
    """The measurements of requests of one profile and runtime, each kept in the run's store when it is made."""
    trained, place = load_trained_run(run), (str(requests[0].profile), requests[0].runtime)
    profile, supernet = _resolved(run).deployed[place], trained.checkpoint.supernet
    part = trained.data.dataset.validation
    with closing(open_store(run.folder, driver=True)) as store:
        environments = Environments(store.state().environments, lambda state: store.update_state(environments=state))
        usual = environments.usual_speed(environment_name(*place))
        timed = TimedProfile(
            open_profiler(profile, seed=stored_job(run).seed, on_wait=note, usual=usual),
            trained.data.timed_batches(profile),
        )
        measured = MeasuringEvaluator(
            InlineScoring(supernet, trained.data.calibration, part, trained.data.task),
            supernet.cost,
            {place: timed},
            weights=trained.checkpoint.weights_digest,
            data=part.digest,
            environments=environments,
        )
        measurements: dict[Request, Measurement] = {}
        with closing(CachedEvaluator(measured, store.attempts, keep=store.add)) as evaluator:
            for start in range(0, len(requests), _TOGETHER):
                measurements |= {m.request: m for m in evaluator.evaluate(requests[start : start + _TOGETHER])}
    return measurements


def _resolved(run: StoredRun) -> ResolvedJob:
    return ResolvedJob(stored_job(run), run.runs, str(run.folder.job_file))


def _value_and_error(measurement: Measurement) -> tuple[float, float]:
    if measurement.value is None:
        request = measurement.request
        raise EvaluationError(
            f"the latency of {request.architecture.key} on profile {request.profile} cannot be measured: "
            f"{measurement.message}; limit computed costs instead, e.g. macs<=2e6",
            code="latency.not-measured",
        )
    return measurement.value, measurement.error or 0.0
