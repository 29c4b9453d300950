"""From a session's rounds to measurements."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure, LatencyMeasurement
from hardware_profiles.measuring.protocol import (
    MAX_RESOLUTION,
    PROTOCOL,
    Estimate,
    Rounds,
    Sieve,
    drift,
    estimate,
    is_noisy,
    noise_floor,
    resolution,
    sentinel_levels,
    sieve,
)
from hardware_profiles.measuring.session import Session, Timed

Result = LatencyMeasurement | LatencyFailure
LEAST_SESSION_NOISE = 0.15
"""Of the time to make a session: the fastest of six scatters by 4 to 7 % (one deviation) from one process to the next."""
LEAST_PEAK_NOISE_MIB = 1 / 8
"""Sentinels of equal pages tell nothing of a larger model: the peaks of those networks ranged over so much."""


@dataclass(frozen=True, slots=True)
class _Calibration:
    """What the two sentinels tell of a session; the errors are relative.

    Attributes:
        excess: of their level in the rounds that are kept over that of calmer sessions.
        sentinel_ms: their latency, as of any entry; level_ms: the median over rounds of their fastest runs, by the wall clock,
            by which rounds and sessions are told calm.
    """

    noise: float
    excess: float
    sentinel_ms: float
    level_ms: float
    drift: float
    sieve: Sieve
    peak_error: float


def results(
    deployments: Sequence[Deployment],
    session: Session,
    profile: HardwareProfile,
    environment: Mapping[str, Any],
    *,
    seconds: float,
    calm_ms: float = math.inf,
) -> list[Result]:
    """One result a deployment; the session's noise floor and the sentinel's latency go into each environment.

    Args:
        seconds: what the session took, shared out among the deployments but for what it waited for others.
        calm_ms: the sentinels' lowest level in the last sessions on this machine; infinite where there was none.
    """
    about = {
        **environment,
        **session.conditions,
        "profile": profile.name,
        "batch_size": profile.batch_size,
        "protocol": PROTOCOL,
        "measured_together": len(deployments),
    }
    told = None if session.sentinels is None else _calibrate(session.sentinels, calm_ms, profile)
    if told is not None:
        about |= {
            "noise": told.noise,
            "excess": told.excess,
            "sentinel_ms": told.sentinel_ms,
            "level_ms": told.level_ms,
            "discarded_rounds": list(told.sieve.discarded),
        }
    graphs, own_s = iter(session.graphs), (seconds - session.waited_s) / len(deployments)
    return [_result(deployment, graphs, told, about, profile, seconds=own_s) for deployment in deployments]


def keep_best(attempts: Sequence[Result]) -> Result:
    """The last attempt if it is quiet or failed, else the one of least resolution, widened to what the attempts differ by.

    Where even that tells less than `MAX_RESOLUTION`, it is a failure: no figure where none is deserved.
    """
    seconds = sum(found.seconds for found in attempts if isinstance(found, LatencyMeasurement))
    last = attempts[-1]
    if isinstance(last, LatencyFailure):
        return last
    best = last
    if last.noisy:
        measured = [found for found in attempts if isinstance(found, LatencyMeasurement)]
        best = min(measured, key=lambda found: found.resolution)
        # What was disturbed beyond use says nothing of how well the others agree.
        figures = [found.latency_ms for found in measured if found.resolution <= MAX_RESOLUTION] or [best.latency_ms]
        differ = (max(figures) - min(figures)) / best.latency_ms
        best = replace(best, resolution=max(best.resolution, differ))
    if best.resolution > MAX_RESOLUTION:
        times = f"{len(attempts)} measurements" if len(attempts) > 1 else "one measurement"
        return LatencyFailure(
            f"the machine is too noisy to say anything: after {times} latencies less than {best.resolution:.0%} apart cannot "
            f"be told from each other, and {MAX_RESOLUTION:.0%} is the most that is accepted; stop other work on the machine, "
            f"leave this one CPUs of its own, or take a profile of fewer threads",
            best.environment,
        )
    return replace(best, seconds=seconds)


def _calibrate(sentinels: tuple[Timed, Timed], calm_ms: float, profile: HardwareProfile) -> _Calibration:
    first, second = (_estimate(found.rounds, profile) for found in sentinels)
    levels = sentinel_levels(*(found.rounds for found in sentinels))
    kept = sieve(levels, calm_ms)
    return _Calibration(
        noise=noise_floor(first.floors_ms, second.floors_ms),
        excess=max(0.0, float(np.median(levels[list(kept.kept)])) / calm_ms - 1),
        sentinel_ms=(first.floor_ms + second.floor_ms) / 2,
        level_ms=float(np.median(levels)),
        drift=drift(levels),
        sieve=kept,
        peak_error=_differ(*(found.peak_mib for found in sentinels)),
    )


def _estimate(rounds: Rounds, profile: HardwareProfile) -> Estimate:
    return estimate(rounds, threads=profile.threads, on_cpu=profile.on_cpu)


def _settled(session_ms: Sequence[float]) -> float:
    """What the second-fastest making took beyond the fastest, as a share: small where what disturbs was absent twice."""
    fastest, *others = sorted(session_ms)
    return others[0] / fastest - 1 if others and fastest > 0 else 0.0


def _differ(first: float, second: float) -> float:
    """Relative to their mean; 0 where both are 0."""
    return 2 * abs(first - second) / (first + second) if first + second > 0 else 0.0


def _result(
    deployment: Deployment,
    graphs: Iterator[Timed | str],
    told: _Calibration | None,
    about: Mapping[str, Any],
    profile: HardwareProfile,
    *,
    seconds: float,
) -> Result:
    """A deployment's figures are sums over its graphs, of latency times calls; the samples are kept graph after graph."""
    own = [next(graphs) for _ in deployment.graphs]
    if not own:
        return LatencyFailure("the deployment has no graph; it needs one at least", about)
    for graph, found in zip(deployment.graphs, own, strict=True):
        if isinstance(found, str):
            where = f"graph {graph.name!r}: " if len(own) > 1 else ""
            return LatencyFailure(f"{where}{found}", about)
    timed = [found for found in own if isinstance(found, Timed)]
    assert told is not None  # for the type checker: the sentinels ran where any graph did
    kept = [found.rounds.only(told.sieve.kept) for found in timed]
    parts = [_estimate(rounds, profile) for rounds in kept]
    calls = np.array([graph.calls for graph in deployment.graphs], dtype=np.float64)
    floors, spreads = np.array([p.floor_ms for p in parts]), np.array([p.spread for p in parts])
    latency = float(calls @ floors)
    spread = float(np.hypot.reduce(calls * floors * spreads)) / latency
    tells = resolution(told.noise, spread, told.excess)
    wall = [times for found in timed for times in found.rounds.wall_ms]
    session_ms, peak_mib = sum(min(found.session_ms) for found in timed), sum(found.peak_mib for found in timed)
    session_error = max(LEAST_SESSION_NOISE, *(_settled(found.session_ms) for found in timed))
    return LatencyMeasurement(
        latency_ms=latency,
        resolution=tells,
        p50_ms=float(calls @ [part.p50_ms for part in parts]),
        p90_ms=_tail(calls, [part.p90_ms for part in parts]),
        p99_ms=_tail(calls, [part.p99_ms for part in parts]),
        samples=sum(len(times) for rounds in kept for times in rounds.wall_ms),
        session_ms=session_ms,
        peak_mib=peak_mib,
        session_error_ms=session_error * session_ms,
        peak_error_mib=max(told.peak_error * peak_mib, LEAST_PEAK_NOISE_MIB),
        discarded_rounds=len(told.sieve.discarded),
        drift=told.drift,
        preempted_share=float(np.average([p.preempted_share for p in parts], weights=calls * floors)),
        noisy=told.sieve.disturbed or is_noisy(tells),
        protocol=PROTOCOL,
        environment={**about, "graphs": _graphs(deployment, timed, parts)},
        raw_ms=np.concatenate(wall),
        raw_cpu_ms=np.concatenate([times for found in timed for times in found.rounds.cpu_ms]),
        round_lengths=tuple(len(times) for times in wall),
        seconds=seconds,
    )


def _tail(calls: NDArray[np.float64], percentiles: Sequence[float | None]) -> float | None:
    """Sum over graphs of calls times percentile (graphs that are slow at the same time), None if one has none."""
    known = [value for value in percentiles if value is not None]
    return float(calls @ known) if len(known) == len(percentiles) else None


def _graphs(deployment: Deployment, timed: Sequence[Timed], parts: Sequence[Estimate]) -> list[dict[str, Any]]:
    """How each graph was measured; JSON-able."""
    return [
        {
            "name": graph.name,
            "calls": graph.calls,
            "inputs": len(graph.inputs),
            "latency_ms": part.floor_ms,
            "clock": part.clock,
            "rounds": len(found.rounds.wall_ms),
            "providers": list(found.providers),
        }
        for graph, found, part in zip(deployment.graphs, timed, parts, strict=True)
    ]
