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
from nas.engine.predictions import MAX_NETWORKS
from nas.engine.process_memory import PeakMemory, release_free_memory
from nas.errors import EvaluationError
from nas.jobs.build.built_job import BuiltJob
from nas.jobs.build.option_losses import OptionLosses
from nas.jobs.build.search_objects import build_algorithm, has_option_losses
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
_MAX_BUSY = 5.0
"""Largest factor by which a busy machine is expected to slow down what is predicted."""
_SPREAD = 0.15
"""Relative change of a machine's speed between minutes; it is larger under other load."""
_REPEATED = 2.0
"""Additional measuring time, as a multiple, on a machine so busy that every measurement uses all retries."""
_RAY_S, _REPORT_S = (4.0, 8.0, 20.0), (1.0, 2.0, 5.0)
"""Start of Ray and its actors, and the report with its plots, on an idle machine: least, usual, most. Measured on two cores."""
_RAY_MIB, _WORKER_MIB, _REPORT_MIB = 400.0, 320.0, 50.0
"""Memory of Ray's own processes, of a worker that scores with its libraries, and of the plots. Measured on two cores."""
_MEMORY_SPREAD = (0.85, 1.5)
"""The least and the largest peak of a run's memory over the expected one."""
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
    """A job's time by its parts, from the start of the command to its end.

    Attributes:
        start: Libraries, data and model are loaded, and Ray is started.
        training: Training of the supernet; None if it is trained already.
        search: Search with its evaluations.
        final: The front is measured again.
        report: Report and plots.
    """

    start: Span
    training: Span | None
    search: Span
    final: Span
    report: Span

    @property
    def total(self) -> Span:
        parts = [part for part in (self.start, self.training, self.search, self.final, self.report) if part is not None]
        return replace(sum(parts[1:], parts[0]), origin="the parts together")

    def parts(self) -> dict[str, Span]:
        """The parts by name, in order, with the total last."""
        parts = {
            "start": self.start,
            "training": self.training,
            "search": self.search,
            "final": self.final,
            "report": self.report,
            "total": self.total,
        }
        return {name: span for name, span in parts.items() if span is not None}

    def to_json(self) -> dict[str, Any]:
        """Seconds, range and origin of each part."""
        return {name: asdict(span) for name, span in self.parts().items()}


@dataclass(frozen=True, slots=True)
class Memory:
    """The peak memory of a job's processes, together.

    Attributes:
        mib: The expected peak, in MiB.
        low, high: Its range.
        measured_mib: The peak of the plan itself, which trains, scores and measures as the job does.
        origin: What was measured, and what is predicted.
    """

    mib: float
    low: float
    high: float
    measured_mib: float
    origin: str


def estimate(
    built_job: BuiltJob, supernet: Supernet, memory: PeakMemory, *, inline: bool, start_s: float = 0.0
) -> tuple[Times, Memory]:
    """Estimates from short samples of each part of the job, on an untrained supernet if the job trains one.

    Args:
        built_job: The job.
        supernet: The supernet of the job, with random weights if the job trains it.
        memory: Samples the memory of the plan, from its begin.
        inline: the search runs in one process, as with `nas search --inline`.
        start_s: Seconds that this process took until the job was checked, as that of a search will.

    Raises:
        EvaluationError: a network cannot be scored or measured.
    """
    # How much longer than its own CPU time this process took, since other processes use the machine.
    busy = min(max(1.0, start_s / time.process_time()), _MAX_BUSY)
    trains = built_job.checkpoint is None and built_job.job.config.training.epochs > 0
    training = _training(built_job) if trains else None
    torch.set_num_threads(1)
    rng = np.random.default_rng(built_job.job.config.seed)
    data = built_job.data
    scoring = InlineScoring(supernet, data.calibration, data.dataset.validation, data.task)
    corrected = _corrected(scoring)
    before_mib = memory.sample()
    peak_mib = memory.restart()
    scored = _scored(built_job, scoring, rng)
    del scoring
    release_free_memory()  # the activations of the largest network, by which others are corrected
    scoring_mib = memory.restart()
    timed = _timed(built_job, scored)
    option_losses = _option_losses(built_job, supernet)
    ask_s = _ask_seconds(built_job, supernet, rng)
    peak_mib = max(peak_mib, scoring_mib, memory.restart())
    search = _search(built_job, scored, timed, ask_s, inline=inline)
    for once in (corrected, option_losses):
        if once is not None:
            search = replace(search + once, origin=f"{search.origin}; {once.origin}")
    times = Times(
        _start(start_s, busy, inline=inline), training, search, _final(built_job, scored, timed), _report(busy)
    )
    return times, _memory(built_job, peak_mib, max(0.0, scoring_mib - before_mib), inline=inline)


def _start(start_s: float, busy: float, *, inline: bool) -> Span:
    span = _span(start_s, 0.0, f"measured: {start_s:.1f} s until the job was checked")
    if inline:
        return span
    low, usual, high = (busy * seconds for seconds in _RAY_S)
    origin = f"{span.origin}; predicted: {usual:.0f} s for Ray"
    return replace(span + Span(usual, low, high, ""), origin=origin)


def _report(busy: float) -> Span:
    low, usual, high = (busy * seconds for seconds in _REPORT_S)
    return Span(usual, low, high, "predicted: the report and its plots")


def _memory(built_job: BuiltJob, peak_mib: float, scoring_mib: float, *, inline: bool) -> Memory:
    mib, origin = peak_mib + _REPORT_MIB, f"measured: {peak_mib / 1024:.1f} GiB in this plan"
    if not inline:
        workers = _n_workers(built_job)
        worker_mib = _WORKER_MIB + scoring_mib
        mib += _RAY_MIB + workers * worker_mib
        each = f"{worker_mib / 1024:.1f} GiB for each of {workers} workers" if workers > 1 else "its worker"
        origin += f"; predicted: {_RAY_MIB / 1024:.1f} GiB for Ray, {each}"
    low, high = (mib * share for share in _MEMORY_SPREAD)
    return Memory(mib, low, high, peak_mib, origin)


def _n_workers(built_job: BuiltJob) -> int:
    """The workers that score networks at once, with Ray."""
    search = built_job.job.config.search
    return min(search.workers or search.batch, search.batch, len(os.sched_getaffinity(0)))


def timed_training(built_job: BuiltJob, *, n: int, limit_s: float) -> tuple[list[float], float]:
    """Seconds of some steps of a job's training, and of what follows each epoch; see `time_training`."""
    teacher = built_job.teacher
    return time_training(
        built_job.untrained(),
        built_job.training_data,
        built_job.strategy(),
        built_job.settings(),
        task=built_job.data.task,
        teacher=None if teacher is None else teacher.network,
        device=built_job.device(),
        n=n,
        limit_s=limit_s,
    )


def _training(built_job: BuiltJob) -> Span:
    settings, data = built_job.settings(), built_job.training_data
    step_seconds, after = timed_training(built_job, n=_STEPS, limit_s=_STEPS_S)
    steps = settings.epochs * steps_per_epoch(data, settings)
    mean, error = _mean(step_seconds)
    origin = f"measured: {len(step_seconds)} steps, {1e3 * mean:.0f} ms each, for {steps}; evaluation after each epoch"
    return _span(steps * mean + settings.epochs * after, steps * error, origin)


def _corrected(scoring: InlineScoring) -> Span | None:
    """The time of what subnets are corrected by, which is computed once; None without a correction."""
    started = time.perf_counter()
    if scoring.extraction.correction is None:
        return None
    seconds = time.perf_counter() - started
    return _span(seconds, 0.0, f"activations of the largest network, {seconds:.2g} s")


def _scored(built_job: BuiltJob, scoring: InlineScoring, rng: np.random.Generator) -> list[Scored]:
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


def _option_losses(built_job: BuiltJob, supernet: Supernet) -> Span | None:
    """The time of the losses of options, of which some are measured, evenly over the layers; None where none are needed."""
    if built_job.job.config.search.start != "solved" or not has_option_losses(built_job):
        return None
    started, seconds = time.perf_counter(), list[float]()
    losses = OptionLosses(built_job, supernet)
    before, networks = time.perf_counter() - started, list(losses.networks.values())
    for network in networks[:: -(-len(networks) // _SCORED)]:
        started = time.perf_counter()
        losses.loss_of(network)
        seconds.append(time.perf_counter() - started)
    mean, error = _mean(seconds)
    origin = f"losses of {len(seconds)} of {len(networks)} options, {mean:.2g} s each"
    return _span(before + len(networks) * mean, len(networks) * error, origin)


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
    workers = 1 if inline else _n_workers(built_job)
    score, score_error = _mean([network.seconds for network in scored])
    turns = 1 + (batches - 1) * math.ceil(search.batch / workers)  # a batch waits for its slowest worker
    timing = n_evaluations * sum(float(np.mean(seconds_each)) for seconds_each in timed.values())
    seconds = turns * score + batches * ask_s + timing
    each = f"{len(scored)} of {n_evaluations} networks scored, {score:.2g} s each"
    times = "".join(f", measured on {name}, {np.mean(seconds_each):.2g} s" for name, seconds_each in timed.items())
    parallel = "" if workers == 1 else f"; {workers} at once"
    span = _span(seconds, turns * score_error, f"measured: {each}{times}; asks, {ask_s:.2g} s per batch{parallel}")
    span = replace(span, high=span.high + _REPEATED * timing)
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
    counts = [max(2.0, min(share * n, MAX_FINALISTS)) for share in _FINALISTS]
    shown = validation_s if built_job.data.task.illustrates else 0.0
    low, usual, high = (count * each + min(count, MAX_NETWORKS + 1) * shown for count in counts)
    pictures = f", and {shown:.2g} s for the predictions of each that are kept" if shown else ""
    origin = f"estimated: {counts[1]:.0f} finalists, {each:.2g} s each by the measurements above{pictures}"
    return Span(usual, low * (1 - _SPREAD), high * (1 + _SPREAD + _REPEATED), origin)


def _mean(seconds: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error, which for a single value is half of it."""
    mean = float(np.mean(seconds))
    return mean, float(np.std(seconds, ddof=1)) / math.sqrt(len(seconds)) if len(seconds) > 1 else mean / 2


def _span(seconds: float, error: float, origin: str) -> Span:
    """The estimate plus or minus two standard errors and the variation of the machine's speed."""
    away = 2 * error + _SPREAD * seconds
    return Span(seconds, max(0.0, seconds - away), seconds + away, origin)
