"""Estimates a job's time from a few real training steps, scores, latency measurements and asks."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from hardware_profiles.base import HardwareProfile
from hardware_profiles.measuring.profiler import batches_of
from hardware_profiles.measuring.protocol import LEAST_LONGER_ROUNDS, LEAST_ROUNDS
from hardware_profiles.profiler_factory import open_profiler
from nas.errors import EvaluationError
from nas.jobs.build.built_job import BuiltJob
from nas.jobs.build.search_objects import build_algorithm
from nas.jobs.build.serving import writes_cache_in_place
from nas.jobs.evaluation.measuring_evaluator import deployment_of, served_by
from nas.jobs.evaluation.scoring import InlineScoring, Scored, ScoringTask
from nas.jobs.planning.latencies import measure_all
from nas.search.problem.budget import MAX_FINALISTS
from nas.search.problem.objectives import TIMED_METRICS, Evaluation, Measurement, Status
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.training.trainer import steps_per_epoch, time_training

_STEPS, _STEPS_S = 10, 5.0
_SCORED, _SCORED_S = 8, 6.0
"""Maximum numbers of steps and networks that are timed, and about how many seconds for each."""
_ASK_S, _FIRST_ASK = 8.0, 256
"""About how many seconds asks are timed, and after how many evaluations the first one at most."""
_MAX_GROWTH = 1.0
"""Largest exponent of the growth of an ask's time: shipped models are fitted to some hundred observations at most, and the rest
of an ask is linear in their number."""
_SPREAD = 0.15
"""Relative change of a machine's speed between minutes; it is larger under other load."""
_REPEATED = 2.0
"""Additional measuring time, as a multiple, on a machine so busy that every measurement uses all retries."""
_RAY_S = (4.0, 8.0, 20.0)
"""Start of Ray and its actors: least, usual, most. Measured on two cores."""
_FINALISTS = (0.15, 0.3, 0.5)
"""Finalists as a share of the evaluations, at most `MAX_FINALISTS`: least, usual, most. From the recipes' runs."""


@dataclass(frozen=True, slots=True)
class Span:
    """An estimate in seconds with its range, and a sentence on its origin."""

    seconds: float
    low: float
    high: float
    origin: str

    def __add__(self, addend: Span) -> Span:
        return Span(self.seconds + addend.seconds, self.low + addend.low, self.high + addend.high, "")


@dataclass(frozen=True, slots=True)
class Times:
    """A job's time by its parts; `training` is None if the supernet is trained already."""

    training: Span | None
    search: Span
    final: Span

    @property
    def total(self) -> Span:
        parts = [part for part in (self.training, self.search, self.final) if part is not None]
        return replace(sum(parts[1:], parts[0]), origin="the parts together")

    def parts(self) -> dict[str, Span]:
        """The parts by name, with the total last."""
        parts = {"training": self.training, "search": self.search, "final": self.final, "total": self.total}
        return {name: span for name, span in parts.items() if span is not None}

    def to_json(self) -> dict[str, Any]:
        """Seconds, range and origin of each part."""
        return {name: asdict(span) for name, span in self.parts().items()}


def estimate(built_job: BuiltJob, supernet: Supernet, *, inline: bool) -> Times:
    """Estimates from short samples of each part of the job, on an untrained supernet if the job trains one.

    Args:
        supernet: The supernet of the job, with random weights if the job trains it.
        inline: the search runs in one process, as with `nas search --inline`.

    Raises:
        EvaluationError: a network cannot be scored or measured.
    """
    trains = built_job.checkpoint is None and built_job.job.config.training.epochs > 0
    training = _training(built_job) if trains else None
    torch.set_num_threads(1)
    rng = np.random.default_rng(built_job.job.config.seed)
    scored = _scored(built_job, supernet, rng)
    timed = _timed(built_job, scored)
    ask_s = _ask_seconds(built_job, supernet, rng)
    return Times(training, _search(built_job, scored, timed, ask_s, inline=inline), _final(built_job, scored, timed))


def _training(built_job: BuiltJob) -> Span:
    settings, data = built_job.settings(), built_job.data.dataset
    teacher = built_job.teacher
    step_seconds, after = time_training(
        built_job.untrained(),
        data,
        built_job.strategy(),
        settings,
        task=built_job.data.task,
        teacher=None if teacher is None else teacher.network,
        device=built_job.device(),
        n=_STEPS,
        limit_s=_STEPS_S,
    )
    steps = settings.epochs * steps_per_epoch(data, settings)
    mean, error = _mean(step_seconds)
    origin = f"measured: {len(step_seconds)} steps, {1e3 * mean:.0f} ms each, for {steps}; evaluation after each epoch"
    return _span(steps * mean + settings.epochs * after, steps * error, origin)


def _scored(built_job: BuiltJob, supernet: Supernet, rng: np.random.Generator) -> list[Scored]:
    data = built_job.data
    scoring = InlineScoring(supernet, data.calibration, data.dataset.validation, data.task)
    scored = tuple(o.metric for o in built_job.job.metrics if o.of_task)
    timed = any(o.metric in TIMED_METRICS for o in built_job.job.metrics)
    names = {name for profile in built_job.job.profiles for name in _served(built_job, profile)}
    model, served = timed and "" in names, sorted(names - {""})
    started, scores = time.perf_counter(), list[Scored]()
    while len(scores) < 2 or (len(scores) < _SCORED and time.perf_counter() - started < _SCORED_S):
        network, variant = built_job.job.variants.split(built_job.space.sample(rng))
        score = scoring.score_one(ScoringTask(network, variant, metrics=scored, model=model, served=tuple(served)))
        if score.failure:
            message = f"cannot score network {network.key} in {variant}: {score.failure}"
            raise EvaluationError(message, code="evaluation.not-scored")
        scores.append(score)
    return scores


def _timed(built_job: BuiltJob, scored: Sequence[Scored]) -> dict[str, list[float]]:
    """The seconds of each latency measurement, in a session of about a batch, by the name of each objective's profile."""
    wanted = {o.profile for o in built_job.job.metrics if o.profile is not None}
    seconds_by_profile = {}
    batch = built_job.job.config.search.batch
    networks = (list(scored) * batch)[: min(batch, _SCORED)]
    for profile in (profile for profile in built_job.job.profiles if profile.name in wanted):
        examples, served = built_job.data.timed_batches(profile), _served(built_job, profile)
        context = 1 if built_job.serving is None else built_job.serving.context_tokens
        deployments = [
            deployment_of(network, name, examples, context_tokens=context)
            for network in networks
            for name in sorted(served)
        ]
        energy = profile.name in built_job.job.energy_profiles
        seed = built_job.job.config.seed
        with open_profiler(profile, seed=seed, await_first=False, energy=energy) as profiler:
            # Those of different batches do not change each other's time.
            together = len(next(batches_of(deployments, profiler.batch_bytes)))
            deployments = deployments[: max(together, len(served) * len(scored))]
            results = measure_all(profiler, deployments, [f"a network on profile {profile.name}"] * len(deployments))
        seconds_by_profile[profile.name] = [result.seconds for result in results]
    return seconds_by_profile


def _served(built_job: BuiltJob, profile: HardwareProfile) -> set[str]:
    """The names of the models that are timed on a profile; "" for the one of networks that are served by one."""
    metrics = [o.metric for o in built_job.job.metrics if o.profile == profile.name]
    return {served_by(metric, in_place=writes_cache_in_place(profile)) for metric in metrics}


def _ask_seconds(built_job: BuiltJob, supernet: Supernet, rng: np.random.Generator) -> float:
    """Mean seconds of the algorithm's `ask` for one batch over the search.

    Asks are timed after more and more evaluations, as long as time allows; those of a longer search follow from the growth. The
    observations are simulated from the networks' costs, which takes the algorithm as long.
    """
    last, started = max(1, _n_evaluations(built_job) - 1), time.perf_counter()
    sizes, seconds = list[int](), list[float]()
    for n in _ask_sizes(last):
        algorithm = build_algorithm(built_job, supernet)
        sampled = list(dict.fromkeys(built_job.space.sample(rng) for _ in range(n)))
        algorithm.tell([_simulated(built_job, supernet, a, rng) for a in sampled])
        before = time.perf_counter()
        algorithm.ask(built_job.job.config.search.batch)
        sizes.append(n)
        seconds.append(time.perf_counter() - before)
        if len(sizes) > 1 and 2 * (time.perf_counter() - started) > _ASK_S:  # the next one takes at least as long
            break
    return mean_seconds(sizes, seconds, last)


def _ask_sizes(last: int) -> list[int]:
    """Numbers of evaluations after which asks are timed: each about half of the next, up to the last."""
    sizes = [last]
    while sizes[-1] > _FIRST_ASK or len(sizes) < 2:
        sizes.append(max(1, sizes[-1] // 2))
    return sizes[::-1]


def mean_seconds(sizes: Sequence[int], seconds: Sequence[float], last: int) -> float:
    """The mean over 1 to `last` evaluations of what was timed after some of them.

    Between timed sizes it is interpolated; after the largest, it grows by a power of the size, as it did between the last two.

    Args:
        sizes: Numbers of evaluations, ascending, two at least.
        seconds: Seconds of an ask after each.
        last: Number of evaluations after which the last ask is made.
    """
    numbers = np.unique(np.linspace(1, last, 200).astype(np.int64))
    (n_before, n_after), (before, after) = sizes[-2:], seconds[-2:]
    growth = math.log(after / before) / math.log(n_after / n_before) if n_after > n_before and before > 0 else 0.0
    beyond = after * (numbers / n_after) ** min(max(growth, 0.0), _MAX_GROWTH)
    return float(np.where(numbers <= n_after, np.interp(numbers, sizes, seconds), beyond).mean())


def _n_evaluations(built_job: BuiltJob) -> int:
    """The evaluations of the search: its budget, or all networks of a smaller space."""
    return min(built_job.job.config.search.evaluations, built_job.space.size)


def _simulated(
    built_job: BuiltJob, supernet: Supernet, candidate: Architecture, rng: np.random.Generator
) -> Evaluation:
    network, _ = built_job.job.variants.split(candidate)
    macs, largest_macs = (supernet.cost(a).macs for a in (network, supernet.space.largest))
    measurements = {}
    for objective in built_job.job.metrics:
        quality = 1 - 0.1 * (largest_macs / macs) ** 0.25
        value = (quality if objective.sign < 0 else 1 - quality) if objective.of_task else float(macs)
        request = built_job.job.variants.request(candidate, objective)
        measurements[objective.name] = Measurement(request, Status.OK, value * float(rng.uniform(0.99, 1.01)), 0.0)
    return Evaluation(candidate, measurements)


def _search(
    built_job: BuiltJob, scored: Sequence[Scored], timed: dict[str, list[float]], ask_s: float, *, inline: bool
) -> Span:
    search, n_evaluations = built_job.job.config.search, _n_evaluations(built_job)
    batches = 1 + math.ceil((n_evaluations - 2) / search.batch)
    workers = 1 if inline else min(search.workers or search.batch, search.batch, len(os.sched_getaffinity(0)))
    score, score_error = _mean([network.seconds for network in scored])
    turns = 1 + (batches - 1) * math.ceil(search.batch / workers)  # a batch waits for its slowest worker
    timing = n_evaluations * sum(float(np.mean(seconds_each)) for seconds_each in timed.values())
    seconds = turns * score + batches * ask_s + timing
    each = f"{len(scored)} of {n_evaluations} networks scored, {score:.2g} s each"
    times = "".join(f", measured on {name}, {np.mean(seconds_each):.2g} s" for name, seconds_each in timed.items())
    parallel = "" if workers == 1 else f"; {workers} at once"
    span = _span(seconds, turns * score_error, f"measured: {each}{times}; asks, {ask_s:.2g} s per batch{parallel}")
    span = replace(span, high=span.high + _REPEATED * timing)
    if not inline:
        min_s, usual_s, max_s = _RAY_S
        span = replace(span, seconds=span.seconds + usual_s, low=span.low + min_s, high=span.high + max_s)
    if search.minutes is not None:
        limit = 60 * search.minutes
        span = replace(span, seconds=min(span.seconds, limit), low=min(span.low, limit), high=min(span.high, limit))
    return span


def _final(built_job: BuiltJob, scored: Sequence[Scored], timed: dict[str, list[float]]) -> Span:
    data, n = built_job.data.dataset, _n_evaluations(built_job)
    validation_s = float(np.mean([network.seconds for network in scored]))
    timing = sum(float(np.mean(seconds_each)) for seconds_each in timed.values())
    score = validation_s * len(data.test.labels) / len(data.validation.labels)
    each = score + timing * LEAST_LONGER_ROUNDS / LEAST_ROUNDS
    low, usual, high = (max(2.0, min(share * n, MAX_FINALISTS)) * each for share in _FINALISTS)
    origin = f"estimated: {usual / each:.0f} finalists, {each:.2g} s each by the measurements above"
    return Span(usual, low * (1 - _SPREAD), high * (1 + _SPREAD + _REPEATED), origin)


def _mean(seconds: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error, which for a single value is half of it."""
    mean = float(np.mean(seconds))
    return mean, float(np.std(seconds, ddof=1)) / math.sqrt(len(seconds)) if len(seconds) > 1 else mean / 2


def _span(seconds: float, error: float, origin: str) -> Span:
    """The estimate plus or minus two standard errors and the variation of the machine's speed."""
    away = 2 * error + _SPREAD * seconds
    return Span(seconds, max(0.0, seconds - away), seconds + away, origin)
