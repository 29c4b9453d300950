"""Reuse of other runs' measurements: of a run that is replayed (``replay``), and of a warm start's (``warm_start``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from hardware_profiles.environment import differences
from nas.engine.evaluation.cached_evaluator import Attempts
from nas.engine.store.base import RunStore
from nas.engine.store.compatibility import check_compatibility, check_weights
from nas.engine.store.folder import RunsFolder
from nas.engine.store.run_facts import ReusedRun, RunFacts, SearchFacts
from nas.engine.store.stored_run import StoredRun
from nas.errors import NasError, UnknownNameError
from nas.jobs.build.built_job import BuiltJob
from nas.jobs.build.compatibility_facts import compatibility_facts
from nas.jobs.evaluation.scoring import scoring_environment
from nas.jobs.resolve.references import not_a_search
from nas.search.problem.objectives import ONNX_RUNTIME, Evaluation, Fidelity, Measurement, Objective, Request, Status
from nas.search.problem.tasks import CACHED_EXPERTS
from nas.search.problem.variants import environment_name
from supernets.space import Architecture

MeasurementLookup = Callable[[Sequence[Request]], Attempts]
"""Returns the known attempts at some requests, the first one first."""
_REPLAY, _WARM_START = "replay", "warm_start"


@dataclass(frozen=True, slots=True)
class Reuse:
    """Measurements of other runs that a new run reuses, as they are when it begins; see `SearchFacts`.

    Attributes:
        runs: The runs whose measurements are reused.
        environments: Environments, by `environment_name`, in which the new run must measure: only then can its measurements
            be combined with those of the other runs.
        prior_results: Values and errors of the warm start by candidate, JSON-able.
        known_candidates: Candidates with a value of every metric of the job, in the order measured.
    """

    runs: tuple[ReusedRun, ...] = ()
    environments: Mapping[str, Any] = field(default_factory=dict)
    prior_results: tuple[Mapping[str, Any], ...] = ()
    known_candidates: tuple[Architecture, ...] = ()

    def __str__(self) -> str:
        """A line for people; "" without a warm start."""
        warm = [reused.run for reused in self.runs if not reused.failures]
        if not warm:
            return ""
        n_partly_known = len(
            {result["key"] for result in self.prior_results} - {candidate.key for candidate in self.known_candidates}
        )
        texts = []
        if self.known_candidates:
            texts.append(f"{len(self.known_candidates)} networks are known, cost no evaluations and may join the front")
        if n_partly_known:
            texts.append(f"{n_partly_known} networks are known in part, and models learn from them")
        return f"warm start from {', '.join(warm)}: {'; '.join(texts) or 'no measurement is valid here'}"


def find_reuse(built_job: BuiltJob, replay: str | None, current: Mapping[str, Mapping[str, Any]]) -> Reuse:
    """The measurements of other runs that a new run reuses.

    Args:
        replay: Id of a run whose every measurement is reused; None without one. The job's ``warm_start`` names others.
        current: the environments of the job's profiles now, by `environment_name`.

    Raises:
        NasError: one of them is gone, or no search of the same supernet and data.
    """
    runs = built_job.job.runs
    reused: list[ReusedRun] = []
    environments: dict[str, Any] = {}
    prior_results: list[dict[str, Any]] = []
    if replay:
        with _open(runs, replay, _REPLAY).store() as store:
            facts = _comparable_facts(replay, store, built_job, _REPLAY)
            without = metrics_measured_otherwise(facts, built_job)
            runtimes = facts.search.variants.runtimes if facts.search else ()
            profiles = _by_runtime(facts.compatibility["profiles"], runtimes)
            reused.append(ReusedRun(replay, profiles, failures=True, without=without, scored_in=tuple(runtimes)))
            environments |= store.state().environments
    for run in built_job.job.config.warm_start:
        with _open(runs, run, _WARM_START).store() as store:
            facts, recorded = _comparable_facts(run, store, built_job, _WARM_START), store.state().environments
            runtimes = built_job.job.variants.runtimes
            scored = {environment_name(None, runtime): scoring_environment(runtime) for runtime in runtimes}
            usable = {**current, **scored, **environments}
            same = {of for of, was in recorded.items() if of in usable and not differences(was, usable[of])}
            source = replace(
                _comparable(run, facts.compatibility, built_job, same),
                without=metrics_measured_otherwise(facts, built_job),
            )
            environments = {of: recorded[of] for of in recorded if of in source.environments} | environments
            reused.append(source)
            prior_results += _results(store, source, built_job)
    candidates = known_candidates(prior_results, built_job.job.metrics)
    return Reuse(tuple(reused), environments, tuple(prior_results), candidates)


def known_candidates(
    prior_results: Sequence[Mapping[str, Any]], metrics: Sequence[Objective]
) -> tuple[Architecture, ...]:
    """Candidates with a value of every metric among results that are valid for this run, in the order measured."""
    metrics_by_key: dict[str, set[str]] = {}
    for result in prior_results:
        values = {name for name, (value, _) in result["figures"].items() if value is not None}
        metrics_by_key.setdefault(result["key"], set()).update(values)
    wanted = {metric.name for metric in metrics}
    return tuple(Architecture.parse(key) for key, names in metrics_by_key.items() if wanted <= names)


@contextmanager
def open_lookup(runs: RunsFolder, reused: Sequence[ReusedRun], weights: str) -> Iterator[MeasurementLookup | None]:
    """The lookup of measurements in the runs that a run reuses, open within the context; None where it reuses none.

    Raises `UnknownNameError` if one of them is gone, `CheckpointError` if one is of other weights.
    """
    if not reused:
        yield None
        return
    with ExitStack() as stack:
        stores = [(source, stack.enter_context(StoredRun.open(runs, source.run).store())) for source in reused]
        for source, store in stores:
            check_weights(source.run, store.state().weights, weights)

        def find(requests: Sequence[Request]) -> dict[Request, list[Measurement]]:
            attempts_by_request: dict[Request, list[Measurement]] = {}
            for source, store in stores:
                attempts_by_request |= _valid_attempts(
                    source, store, [r for r in requests if r not in attempts_by_request]
                )
            return attempts_by_request

        yield find


def _valid_attempts(
    source: ReusedRun, store: RunStore, requests: Sequence[Request]
) -> dict[Request, list[Measurement]]:
    """The valid measurements that a reused run's store holds of some requests, the last attempts with samples.

    A replay gets all attempts, so that it learns what its original learnt when that did; a warm start the last ones.
    """
    attempts_by_request: dict[Request, list[Measurement]] = {}
    for request, attempts in store.attempts([r for r in requests if source.has(r)]).items():
        chosen = attempts if source.failures else attempts[-1:]
        chosen = [
            m for m in chosen if m.status is not Status.SKIPPED and (source.failures or m.status is not Status.FAILED)
        ]
        if chosen:
            attempts_by_request[request] = [*chosen[:-1], replace(chosen[-1], samples=store.samples(request))]
    return attempts_by_request


def prior_evaluations(facts: SearchFacts) -> list[Evaluation]:
    """The evaluations of a warm start, with which a search's algorithm begins."""
    evaluations = []
    for result in facts.prior_results:
        candidate = Architecture.parse(result["key"])
        network, variant = facts.variants.split(candidate)
        measured = {}
        for name, (value, error) in result["figures"].items():
            metric, _, profile = name.partition("@")
            request = Request(network, metric, profile or None, Fidelity.SEARCH, *variant)
            status = Status.SKIPPED if value is None else Status.OK
            measured[name] = Measurement(request, status, value, error)
        evaluations.append(Evaluation(candidate, measured))
    return evaluations


def _open(runs: RunsFolder, run: str, option: str) -> StoredRun:
    try:
        return StoredRun.open(runs, run)
    except UnknownNameError as error:
        raise NasError(f"{option}: {error}", code=error.code, parameter=option) from None


def _comparable_facts(run: str, store: RunStore, built_job: BuiltJob, option: str) -> RunFacts:
    """The facts of a run whose measurements a search of this job could have made; else `NasError`."""
    facts = store.facts()
    if facts is None or facts.search is None:
        raise not_a_search(run, where=option)
    recorded, current = dict(facts.compatibility), compatibility_facts(built_job, measured=True)
    profiles = current.pop("profiles")
    for name in ("metrics", "expert_cache"):  # which decide on single metrics alone
        current.pop(name, None)
    if option == _REPLAY:
        common = recorded["profiles"].keys() & profiles.keys()
        current["profiles"] = {name: profiles[name] for name in common}
        recorded["profiles"] = {name: recorded["profiles"][name] for name in common}
    if built_job.checkpoint is not None:
        was, now = store.state().weights, built_job.checkpoint.weights_digest
        if was not in (None, now):
            raise NasError(
                f"{option} {run}: it searched another supernet, of the weights {was}; this job's has {now}, and "
                "measurements are valid for their weights alone; name a run that searched this one, or none",
                code="run.incompatible",
                parameter=option,
            )
        del current["supernet"]
    elif "weights" in recorded["supernet"]:
        raise NasError(
            f"{option} {run}: it searched a trained supernet, and this job trains its own; "
            "name the same one with supernet.from",
            code="run.incompatible",
            parameter=option,
        )
    check_compatibility(
        f"{option}: run {run}", recorded, current, remedy="name a run that was made under this job's, or none"
    )
    return facts


def metrics_measured_otherwise(facts: RunFacts, built_job: BuiltJob) -> tuple[str, ...]:
    """The metrics that another run took otherwise: the job's additional ones, by another plug-in, version or settings, or not
    at all; and those of experts in memory, with another cache."""
    current_facts = compatibility_facts(built_job, measured=True)
    recorded_metrics: Mapping[str, Any] = facts.compatibility.get("metrics", {})
    job_metrics: Mapping[str, Any] = current_facts.get("metrics", {})
    refs = [ref for key, ref in built_job.job.plugins.items() if key.startswith("metrics.")]
    same = {
        ref.target for ref in refs if any((ref.target, ref.version) == (t.target, t.version) for t in facts.plugins)
    }
    differing = [
        name
        for name, metric in job_metrics.items()
        if recorded_metrics.get(name) != metric or metric["class"] not in same
    ]
    if current_facts.get("expert_cache") != facts.compatibility.get("expert_cache"):
        differing += [*CACHED_EXPERTS, "resident_mib"]
    return tuple(differing)


def _comparable(run: str, compatibility: Mapping[str, Any], built_job: BuiltJob, same: set[str]) -> ReusedRun:
    """A warm start's run, with the profiles that both measure by the same protocol and in the `same` environment."""
    recorded_profiles, runtimes = compatibility["profiles"], built_job.job.variants.runtimes
    job_profiles = compatibility_facts(built_job, measured=True)["profiles"]
    equal = [name for name in job_profiles if recorded_profiles.get(name) == job_profiles[name]]
    profiles = tuple(name for name in _by_runtime(equal, runtimes) if f"profile {name}" in same)
    scored = [runtime for runtime in runtimes if environment_name(None, runtime) in same]
    other_runtimes = tuple(runtime for runtime in scored if runtime != ONNX_RUNTIME)
    return ReusedRun(run, profiles, accuracy=ONNX_RUNTIME in scored, scored_in=other_runtimes)


def _by_runtime(profiles: Iterable[str], runtimes: Sequence[str]) -> tuple[str, ...]:
    """Profiles in each runtime, as `ReusedRun` names them."""
    return tuple(environment_name(name, r).removeprefix("profile ") for name in profiles for r in runtimes)


def _results(store: RunStore, source: ReusedRun, built_job: BuiltJob) -> list[dict[str, Any]]:
    """The results of a run's search, by candidate of this job; those of another environment under names of their own.

    Missing values are included: a candidate that was skipped for its latency must not count as the fastest without accuracy.
    """
    variants = built_job.job.variants
    results_by_candidate: dict[Architecture, dict[str, list[float | None]]] = {}
    for measurement in store.measurements(Fidelity.SEARCH):
        request = measurement.request
        if request.variant not in variants:
            continue
        name = request.name
        if not source.has(request):
            name = f"{name} of {source.run}" if request.profile else f"{name}@{source.run}"
        values = results_by_candidate.setdefault(variants.candidate(request), {})
        values[name] = [measurement.value, measurement.error]
    return [
        {"key": candidate.key, "figures": values}
        for candidate, values in results_by_candidate.items()
        if any(value is not None for value, _ in values.values())
    ]
