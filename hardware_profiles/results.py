"""From a session's rounds to measurements."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure, LatencyMeasurement
from hardware_profiles.protocol import PROTOCOL, Rounds, estimate, is_noisy, noise_floor, resolution
from hardware_profiles.session import Session

Result = LatencyMeasurement | LatencyFailure


def results(
    deployments: Sequence[Deployment],
    session: Session,
    profile: HardwareProfile,
    environment: Mapping[str, Any],
    *,
    seconds: float,
) -> list[Result]:
    """One result a deployment; the session's noise floor and the sentinel's latency go into each environment.

    Args:
        seconds: what the session took, shared out among the deployments.
    """
    noise, sentinel_ms = (math.nan, math.nan) if session.sentinels is None else _noise(session.sentinels, profile)
    about = {
        **environment,
        "profile": profile.name,
        "batch_size": profile.batch_size,
        "precision": profile.precision,
        "noise": noise,
        "sentinel_ms": sentinel_ms,
        "measured_together": len(deployments),
    }
    rounds = iter(session.graphs)
    return [
        _result(deployment, rounds, noise, about, threads=profile.threads, seconds=seconds / len(deployments))
        for deployment in deployments
    ]


def keep_best(attempts: Sequence[Result]) -> Result:
    """The last attempt if it is quiet or failed, else the one of least resolution, widened to what the attempts differ by."""
    seconds = sum(found.seconds for found in attempts if isinstance(found, LatencyMeasurement))
    last = attempts[-1]
    if isinstance(last, LatencyFailure):
        return last
    if not last.noisy:
        return replace(last, seconds=seconds)
    measured = [found for found in attempts if isinstance(found, LatencyMeasurement)]
    best = min(measured, key=lambda found: found.resolution)
    figures = [found.latency_ms for found in measured]
    differ = (max(figures) - min(figures)) / best.latency_ms
    return replace(best, resolution=max(best.resolution, differ), seconds=seconds)


def _noise(sentinels: tuple[Rounds, Rounds], profile: HardwareProfile) -> tuple[float, float]:
    """The session's noise floor (A/A) and the sentinel's latency."""
    first, second = (estimate(rounds, threads=profile.threads) for rounds in sentinels)
    return noise_floor(first.floors_ms, second.floors_ms), (first.floor_ms + second.floor_ms) / 2


def _result(
    deployment: Deployment,
    rounds: Iterator[Rounds | str],
    noise: float,
    about: Mapping[str, Any],
    *,
    threads: int,
    seconds: float,
) -> Result:
    """A deployment's latency is the sum over its graphs of calls x latency; the samples are kept graph after graph."""
    own = [next(rounds) for _ in deployment.graphs]
    if not own:
        return LatencyFailure("the deployment has no graph; it needs one at least")
    for graph, found in zip(deployment.graphs, own, strict=True):
        if isinstance(found, str):
            where = f"graph {graph.name!r}: " if len(own) > 1 else ""
            return LatencyFailure(f"{where}{found}")
    timed = [found for found in own if isinstance(found, Rounds)]
    parts = [estimate(found, threads=threads) for found in timed]
    calls = np.array([graph.calls for graph in deployment.graphs], dtype=np.float64)
    floors, spreads = np.array([p.floor_ms for p in parts]), np.array([p.spread for p in parts])
    latency = float(calls @ floors)
    spread = float(np.hypot.reduce(calls * floors * spreads)) / latency
    wall = [times for found in timed for times in found.wall_ms]
    graphs = [
        {
            "name": graph.name,
            "calls": graph.calls,
            "latency_ms": part.floor_ms,
            "clock": part.clock,
            "rounds": len(t.wall_ms),
        }
        for graph, part, t in zip(deployment.graphs, parts, timed, strict=True)
    ]
    return LatencyMeasurement(
        latency_ms=latency,
        resolution=resolution(noise, spread),
        p50_ms=float(calls @ [part.p50_ms for part in parts]),
        samples=sum(len(times) for times in wall),
        preempted_share=float(np.average([p.preempted_share for p in parts], weights=calls * floors)),
        noisy=is_noisy(noise, spread),
        protocol=PROTOCOL,
        environment={**about, "graphs": graphs},
        raw_ms=np.concatenate(wall),
        raw_cpu_ms=np.concatenate([times for found in timed for times in found.cpu_ms]),
        round_lengths=tuple(len(times) for times in wall),
        seconds=seconds,
    )
