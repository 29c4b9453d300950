"""Other runs whose measurements a run takes where it has use for them: the one that it replays, and its warm start's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from hardware_profiles.environment import differences
from nas.build.compatibility_facts import compatibility_facts
from nas.build.prepared_job import PreparedJob
from nas.errors import NasError, UnknownNameError
from nas.evaluation.scoring import scoring_environment
from nas.problem.objectives import Evaluation, Fidelity, Measurement, Request, Status
from nas.store.base import RunStore
from nas.store.compatibility import check_conditions, check_weights
from nas.store.folder import RunsFolder
from nas.store.run_facts import ReusedRun, RunFacts, SearchFacts
from nas.store.stored_run import StoredRun
from supernets.space import Architecture

Lookup = Callable[[Sequence[Request]], dict[Request, Measurement]]
"""The known measurements among some requests."""
_REPLAY, _WARM = "--replay", "warm_start"


@dataclass(frozen=True, slots=True)
class Sources:
    """All runs that a run takes measurements from, as they were when it began.

    Attributes:
        machines: the environments that the run's own figures must come from, to stand beside those.
        learnt: by network, in the order measured: its ``key`` and its ``figures``, name -> [value, error], both null where
            the run has none (it failed, or was not worth taking). Kept, so that a resumed search begins from the same,
            whatever became of the runs.
    """

    runs: tuple[ReusedRun, ...] = ()
    machines: Mapping[str, Any] = field(default_factory=dict)
    learnt: tuple[Mapping[str, Any], ...] = ()

    def __str__(self) -> str:
        """For people, what is begun with."""
        warm = [source.run for source in self.runs if not source.failures]
        return f"warm start: figures of {len(self.learnt)} networks from {', '.join(warm)}" if warm else ""


def find_sources(
    runs: RunsFolder, prepared: PreparedJob, replay: str | None, environments: Mapping[str, Mapping[str, Any]]
) -> Sources:
    """What a new run takes from others.

    Args:
        replay: a run to take every measurement of; the job's ``warm_start`` names others.
        environments: of the job's profiles as they are now, by name.

    Raises:
        NasError: one of them is gone, or no search of the same supernet and data.
    """
    sources: list[ReusedRun] = []
    machines: dict[str, Any] = {}
    learnt: list[dict[str, Any]] = []
    for run, option in [
        *([(replay, _REPLAY)] if replay else []),
        *((run, _WARM) for run in prepared.config.warm_start),
    ]:
        with _open(runs, run, option).store() as store:
            facts, theirs = _checked(run, store, prepared, option), store.state().environments
            if option == _REPLAY:
                sources.append(ReusedRun(run, tuple(facts.compatibility["profiles"]), failures=True))
                machines = {**theirs, **machines}
                continue
            source = _comparable(run, facts.compatibility, theirs, prepared, environments, machines)
            usable = [f"profile {name}" for name in source.profiles] + ["accuracy"] * source.accuracy
            machines = {**{of: theirs[of] for of in usable if of in theirs}, **machines}
            sources.append(source)
            learnt += _figures(store, source, prepared)
    return Sources(tuple(sources), machines, tuple(learnt))


@contextmanager
def lookup(runs: RunsFolder, sources: Sequence[ReusedRun], weights: str) -> Iterator[Lookup | None]:
    """What finds the measurements of the runs that a run reuses; None where it reuses none.

    Raises:
        UnknownNameError: one of them is gone.
        CheckpointError: one of them is of other weights.
    """
    if not sources:
        yield None
        return
    with ExitStack() as stack:
        stores = [stack.enter_context(StoredRun.open(runs, source.run).store()) for source in sources]
        for source, store in zip(sources, stores, strict=True):
            check_weights(source.run, store.state().weights, weights)

        def find(requests: Sequence[Request]) -> dict[Request, Measurement]:
            found: dict[Request, Measurement] = {}
            for source, store in zip(sources, stores, strict=True):
                found |= _found(source, store, [r for r in requests if r not in found])
            return found

        yield find


def _found(reused: ReusedRun, store: RunStore, requests: Sequence[Request]) -> dict[Request, Measurement]:
    """The valid measurements that a reused run's store holds of some requests, with samples."""
    found = store.find([r for r in requests if reused.has(r)])
    return {
        r: replace(m, samples=store.samples(r))
        for r, m in found.items()
        if m.status is not Status.SKIPPED and (reused.failures or m.status is not Status.FAILED)
    }


def earlier_evaluations(facts: SearchFacts) -> list[Evaluation]:
    """What a search's algorithm learns before it begins."""
    found = []
    for learnt in facts.prior_results:
        candidate = Architecture.parse(learnt["key"])
        network, precision = facts.precisions.split(candidate)
        measured = {}
        for name, (value, error) in learnt["figures"].items():
            metric, _, profile = name.partition("@")
            request = Request(network, metric, profile or None, Fidelity.SEARCH, precision)
            status = Status.SKIPPED if value is None else Status.OK
            measured[name] = Measurement(request, status, value, error)
        found.append(Evaluation(candidate, measured))
    return found


def _open(runs: RunsFolder, run: str, option: str) -> StoredRun:
    try:
        return StoredRun.open(runs, run)
    except UnknownNameError as error:
        raise NasError(f"{option}: {error}") from None


def _checked(run: str, store: RunStore, prepared: PreparedJob, option: str) -> RunFacts:
    """The facts of a run whose measurements a search of this job could have made.

    Raises:
        NasError: it is no search, or was made under other conditions.
    """
    facts = store.facts()
    if facts is None or facts.search is None:
        raise NasError(
            f"{option} {run}: it is no search, so it has no measurements to take; `nas runs` lists the searches"
        )
    theirs, ours = dict(facts.compatibility), compatibility_facts(prepared, measured=True)
    profiles = ours.pop("profiles")
    if option == _REPLAY:
        common = theirs["profiles"].keys() & profiles.keys()
        ours["profiles"] = {name: profiles[name] for name in common}
        theirs["profiles"] = {name: theirs["profiles"][name] for name in common}
    if prepared.supernets.checkpoint is not None:
        was, now = store.state().weights, prepared.supernets.checkpoint.weights_digest
        if was not in (None, now):
            raise NasError(
                f"{option} {run}: it searched another supernet, of the weights {was}; this job's has {now}, and "
                "figures go with the weights; name a run that searched this one, or none"
            )
        del ours["supernet"]
    elif "weights" in theirs["supernet"]:
        raise NasError(
            f"{option} {run}: it searched a trained supernet, and this job trains its own; "
            "name the same one with supernet.from"
        )
    check_conditions(f"{option}: run {run}", theirs, ours, remedy="name a run that was made under this job's, or none")
    return facts


def _comparable(
    run: str,
    compatibility: Mapping[str, Any],
    known: Mapping[str, Any],
    prepared: PreparedJob,
    environments: Mapping[str, Mapping[str, Any]],
    machines: Mapping[str, Any],
) -> ReusedRun:
    """A warm start's run, with what of it was measured as this job will measure."""
    theirs, ours = compatibility["profiles"], compatibility_facts(prepared, measured=True)["profiles"]

    def agrees(of: str, now: Mapping[str, Any]) -> bool:
        was = known.get(of)
        return was is not None and not differences(was, machines.get(of, now))

    equal = [
        name
        for name, profile in ours.items()
        if theirs.get(name) == profile and agrees(f"profile {name}", environments[name])
    ]
    return ReusedRun(run, tuple(equal), accuracy=agrees("accuracy", scoring_environment()))


def _figures(store: RunStore, source: ReusedRun, prepared: PreparedJob) -> list[dict[str, Any]]:
    """The figures of a run's search, by candidate of this job; those of another machine under names of their own.

    What a candidate lacks is told too: one that was left for being slow is the fastest of those without accuracy, maybe.
    """
    precisions = prepared.job.precisions
    found: dict[Architecture, dict[str, list[float | None]]] = {}
    for measurement in store.measurements(Fidelity.SEARCH):
        request = measurement.request
        if request.precision not in precisions.names:
            continue
        name = request.metric if request.profile is None else f"{request.metric}@{request.profile}"
        if not source.has(request):
            name = f"{name} of {source.run}" if request.profile else f"{name}@{source.run}"
        figures = found.setdefault(precisions.candidate(request), {})
        figures[name] = [measurement.value, measurement.error]
    return [
        {"key": candidate.key, "figures": figures}
        for candidate, figures in found.items()
        if any(value is not None for value, _ in figures.values())
    ]
