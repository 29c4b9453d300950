"""Makes what a job's search runs with: its algorithm, with features of candidates, and its evaluator."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.lookup_table_file import load_lookup
from hardware_profiles.profiler_factory import open_profiler
from nas.jobs.build.built_job import BuiltJob
from nas.jobs.build.serving import writes_cache_in_place
from nas.jobs.evaluation.cost_parts import ComputedParts, TimedParts
from nas.jobs.evaluation.environments import Environments
from nas.jobs.evaluation.features import ArchitectureFeatures, LatencyFeatures, OneShotFeatures
from nas.jobs.evaluation.measuring_evaluator import MeasuringEvaluator, TimedProfile
from nas.jobs.evaluation.own_metrics import OwnMetrics
from nas.jobs.evaluation.scoring import CALIBRATION_BATCH, Scoring
from nas.jobs.evaluation.served_memory import ServedMemory
from nas.search.base import FeatureSource, SearchAlgorithm, SearchProblem
from nas.search.budgets.additive_scores import reduced_networks
from nas.search.problem.objectives import EXACT_METRICS, Evaluation
from nas.search.problem.pareto import Array
from nas.search.problem.tasks import SERVED_MEMORY
from nas.search.problem.variants import Variants, environment_name, exact_value
from nas.search.registry import make_algorithm, models_from
from supernets.data import Part
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.sharing.base import Supernet
from supernets.space import Architecture

_PREDICTED_FROM_BLOCKS = frozenset({"latency_ms", "throughput", "energy_mj"})
"""Metrics that the latencies of blocks help to predict."""
SOLVED_TIMES = frozenset({"latency_ms", "energy_mj", "time_to_first_token_ms", "time_per_token_ms"})
"""Timed metrics that are sums over a network's blocks, so that networks can be solved for limits on them."""


def build_algorithm(
    built_job: BuiltJob,
    supernet: Supernet,
    warm_start: Sequence[Evaluation] = (),
    *,
    known_candidates: Sequence[Architecture] = (),
    first: Sequence[Architecture] = (),
    losses: Sequence[Array] = (),
) -> SearchAlgorithm:
    """The job's search algorithm over this supernet's space, given the evaluations of other runs.

    Args:
        warm_start: Evaluations of other runs, on which models are fitted from the beginning.
        known_candidates: Candidates of the warm start that the search evaluates first.
        first: Networks that the algorithm asks for before others, in every variant.
        losses: Losses of options, see `SearchProblem.losses`.
    """
    job, config = built_job.job, built_job.job.config
    exact = {
        metric.name: partial(exact_values, supernet, job.variants, metric.metric, memory=built_job.memory(supernet))
        for metric in job.metrics
        if metric.metric in EXACT_METRICS
    }
    problem = SearchProblem(
        built_job.space,
        job.objectives,
        config.seed,
        constraints=job.constraints,
        features=metric_features(built_job, supernet),
        exact=exact,
        warm_start=warm_start,
        known_architectures=known_candidates,
        first=job.variants.candidates(first),
        costs=cost_parts(built_job, supernet) if config.search.start == "solved" else {},
        n_reduced=config.search.evaluations // 2 if config.search.start == "solved" else 0,
        losses=losses,
    )
    implementation, settings = job.objects.get("search.algorithm"), config.search.settings
    return make_algorithm(
        config.search.algorithm,
        problem,
        settings=settings,
        implementation=implementation,
        predictor=config.search.predictor or "",
    )


def first_modelled(
    built_job: BuiltJob, *, known_candidates: Collection[Architecture] = (), n_prior: int = 0
) -> int | None:
    """The number of the first evaluation that the job's algorithm chooses by models; see `nas.search.registry.models_from`.

    With the start `solved`, of the first network that the search solves for.
    """
    search, space = built_job.job.config.search, built_job.space
    if search.start == "solved" and has_option_losses(built_job):
        return len({space.smallest, space.largest}) + 1
    if search.start == "solved":
        return len({space.smallest, space.largest, *reduced_networks(space, search.evaluations // 2)}) + 1
    return models_from(
        search.algorithm,
        built_job.space,
        batch=search.batch,
        predictor=search.predictor or "",
        known_architectures=known_candidates,
        n_prior=n_prior,
    )


def has_option_losses(built_job: BuiltJob) -> bool:
    """Returns True if the losses of options can be measured one by one, which is so for decoders that are corrected."""
    is_decoder = isinstance(built_job.family, DecoderFamily)
    return is_decoder and built_job.sharing.correction is not None


def metric_features(built_job: BuiltJob, supernet: Supernet) -> dict[str, FeatureSource]:
    """Features by name of each metric that is modelled: analytic costs; with a lookup table, block latencies too; and for the
    scores of a decoder's subnets that are corrected, the energy that they lack."""
    job = built_job.job
    costs = ArchitectureFeatures(supernet, job.variants)
    source = FeatureSource(costs, costs.layout)
    features = {metric.name: source for metric in job.metrics if metric.metric not in EXACT_METRICS}
    if supernet.sharing.spec.correction is not None and isinstance(supernet.family, DecoderFamily):
        scores = OneShotFeatures(supernet, built_job.data.calibration.split(CALIBRATION_BATCH), job.variants)
        scored = [
            metric.name for metric in job.metrics if metric.profile is None and metric.metric not in EXACT_METRICS
        ]
        features |= dict.fromkeys(scored, FeatureSource(scores, scores.layout))
    for profile in job.profiles:
        if (path := job.lookup_tables.get(profile.name)) is not None:
            table = load_lookup(path, profile=profile, environment=None)
            latencies = LatencyFeatures(supernet, table, job.variants)
            timed = [m.name for m in job.metrics if m.profile == profile.name and m.metric in _PREDICTED_FROM_BLOCKS]
            features |= dict.fromkeys(timed, FeatureSource(latencies, latencies.layout))
    return features


def cost_parts(built_job: BuiltJob, supernet: Supernet) -> dict[str, ComputedParts | TimedParts]:
    """The parts of each cost that limits are solved for, by name: every computed metric, and the timed ones of the job.

    Raises:
        LookupTableError, EvaluationError: a lookup table of the job cannot be read, or is of another space.
    """
    job, memory = built_job.job, built_job.memory(supernet)
    names = sorted(EXACT_METRICS if memory is not None else EXACT_METRICS - SERVED_MEMORY)
    parts: dict[str, ComputedParts | TimedParts] = {
        name: ComputedParts(supernet, job.variants, name, memory) for name in names
    }
    for metric in job.metrics:
        if metric.profile is not None and metric.metric in SOLVED_TIMES:
            path = job.lookup_tables.get(metric.profile) if metric.metric in _PREDICTED_FROM_BLOCKS else None
            profile = next(profile for profile in job.profiles if profile.name == metric.profile)
            table = None if path is None else load_lookup(path, profile=profile, environment=None)
            parts[metric.name] = TimedParts(supernet, job.variants, table)
    return parts


def build_evaluator(
    built_job: BuiltJob,
    supernet: Supernet,
    weights: str,
    part: Part,
    scoring: Scoring,
    *,
    seed: int,
    environments: Environments,
    on_wait: Callable[[str], None] | None = None,
    on_wait_end: Callable[[], None] | None = None,
) -> MeasuringEvaluator:
    """The evaluator of this supernet's subnets, which scores them on one part of the data.

    Args:
        on_wait, on_wait_end: called when a measurement has to wait for its machine, and when it need no longer.
    """
    timed = {metric.profile for metric in built_job.job.metrics}
    profiles = {
        place: TimedProfile(
            open_profiler(
                profile,
                seed=seed,
                on_wait=on_wait,
                on_wait_end=on_wait_end,
                usual=environments.usual_speed(environment_name(*place)),
                energy=profile.name in built_job.job.energy_profiles,
            ),
            built_job.data.timed_batches(profile),
            1 if built_job.serving is None else built_job.serving.context_tokens,
            in_place=writes_cache_in_place(profile),
        )
        for place, profile in built_job.job.deployed.items()
        if profile.name in timed
    }
    return MeasuringEvaluator(
        scoring,
        supernet.cost,
        profiles,
        weights=weights,
        data=part.digest,
        environments=environments,
        own_metrics=own_metrics_on(built_job, part) if built_job.job.own_metrics else None,
        memory=built_job.memory(supernet),
    )


def own_metrics_on(built_job: BuiltJob, part: Part) -> OwnMetrics:
    """The metrics of the job's plug-ins, on the examples of a part of its data."""
    return OwnMetrics(
        built_job.job.own_metrics,
        inputs=part.inputs.numpy(),
        labels=part.labels.numpy(),
        profiles=built_job.job.deployed,
    )


def exact_values(
    supernet: Supernet,
    variants: Variants,
    metric: str,
    candidates: Sequence[Architecture],
    *,
    memory: ServedMemory | None = None,
) -> NDArray[np.float64]:
    """A computed metric of candidates, (n,).

    Args:
        memory: Memory of language models; None for other networks.
    """
    split = [variants.split(candidate) for candidate in candidates]
    networks, precisions = [network for network, _ in split], [variant.precision for _, variant in split]
    if memory is not None and metric in SERVED_MEMORY:
        return memory.mib(metric, networks, precisions)
    totals = getattr(supernet.costs(networks), metric).sum(axis=1).tolist()
    alone = memory is not None
    values = [exact_value(metric, total, p, weights_alone=alone) for total, p in zip(totals, precisions, strict=True)]
    return np.array(values, dtype=np.float64)
