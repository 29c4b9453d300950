"""Turns a session's rounds into measurements."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure, LatencyMeasurement
from hardware_profiles.measuring import protocol
from hardware_profiles.measuring.protocol import MAX_RESOLUTION, PROTOCOL, Estimate, Rounds, RoundSelection
from hardware_profiles.measuring.session import Session, Timed

Result = LatencyMeasurement | LatencyFailure
LEAST_SESSION_NOISE = 0.15
"""Relative, of the time to create a session: the fastest of six varies by 4 to 7 % (one deviation) between processes."""
LEAST_PEAK_NOISE_MIB = 1 / 8
"""The peaks of larger networks varied by this much even where those of the two sentinels were equal."""
_MOST_PERCENT = 10.0
"""Larger shares are factors in messages."""


@dataclass(frozen=True, slots=True)
class _SessionNoise:
    """Noise and speed of a session, from its two sentinels; `noise` (A/A), `excess` and `peak_error` are relative.

    Attributes:
        excess: of their level in the kept rounds over that of calm sessions.
        sentinel_ms: their latency, estimated as for any entry.
        level_ms: the median over rounds of their fastest runs by the wall clock; it classifies rounds and sessions as calm.
    """

    noise: float
    excess: float
    sentinel_ms: float
    level_ms: float
    drift: float
    rounds: RoundSelection
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
    """One result per deployment; each environment gets the session's noise floor and the sentinel's latency.

    Args:
        seconds: duration of the session, which is divided among the deployments, less the wait for the host's lock.
        calm_ms: the sentinels' lowest level in the last sessions on this machine; infinite if there was none.
    """
    about = {
        **environment,
        **session.environment,
        "profile": profile.name,
        "batch_size": profile.batch_size,
        "protocol": PROTOCOL,
        "measured_together": len(deployments),
    }
    noise = None if session.sentinels is None else _session_noise(session.sentinels, calm_ms, profile)
    if noise is not None:
        about |= {key: getattr(noise, key) for key in ("noise", "excess", "sentinel_ms", "level_ms")}
        about["discarded_rounds"] = list(noise.rounds.discarded)
    graphs, own_s = iter(session.graphs), (seconds - session.waited_s) / len(deployments)
    return [_result(deployment, graphs, noise, about, profile, seconds=own_s) for deployment in deployments]


def keep_best(attempts: Sequence[Result], *, threads: int = 1) -> Result:
    """The last attempt if it is quiet or failed, else the one of least resolution, widened to the range of all attempts.

    A resolution wider than `MAX_RESOLUTION` is a failure.

    Args:
        threads: of the profile.
    """
    last = attempts[-1]
    if isinstance(last, LatencyFailure):
        return last
    measured = [found for found in attempts if isinstance(found, LatencyMeasurement)]
    best = last
    if last.noisy:
        best = min(measured, key=lambda found: found.resolution)
        # Attempts that are too noisy to count say nothing about how well the others agree.
        values = [found.latency_ms for found in measured if found.resolution <= MAX_RESOLUTION] or [best.latency_ms]
        spread = (max(values) - min(values)) / best.latency_ms
        best = replace(best, resolution=max(best.resolution, spread))
    if best.resolution > MAX_RESOLUTION:
        by = f"{best.resolution:.0%}" if best.resolution <= _MOST_PERCENT else f"a factor of {1 + best.resolution:.0f}"
        advice = ["stop other load on the machine", "reserve CPUs"]
        advice += ["choose a profile with fewer threads"] if threads > 1 else []
        return LatencyFailure(
            f"latency is uncertain by {by} after {len(attempts)} measurements, expected at most {MAX_RESOLUTION:.0%}; "
            f"{', or '.join([', '.join(advice[:-1]), advice[-1]])}",
            best.environment,
            too_noisy=True,
        )
    return replace(best, seconds=sum(found.seconds for found in measured))


def _session_noise(sentinels: tuple[Timed, Timed], calm_ms: float, profile: HardwareProfile) -> _SessionNoise:
    first, second = (_estimate(found.rounds, profile) for found in sentinels)
    first_mib, second_mib = (found.peak_mib for found in sentinels)
    levels = protocol.sentinel_levels(*(found.rounds for found in sentinels))
    selected = protocol.select_rounds(levels, calm_ms)
    return _SessionNoise(
        noise=protocol.noise_floor(first.floors_ms, second.floors_ms),
        excess=max(0.0, float(np.median(levels[list(selected.kept)])) / calm_ms - 1),
        sentinel_ms=(first.floor_ms + second.floor_ms) / 2,
        level_ms=float(np.median(levels)),
        drift=protocol.drift(levels),
        rounds=selected,
        peak_error=abs(first_mib - second_mib) / max((first_mib + second_mib) / 2, 1e-9),
    )


def _estimate(rounds: Rounds, profile: HardwareProfile) -> Estimate:
    return protocol.estimate(rounds, threads=profile.threads, on_cpu=profile.on_cpu)


def _creation_error(session_ms: Sequence[float]) -> float:
    """Relative gap between the two fastest creations of a session: small if nothing disturbed either."""
    fastest, *others = sorted(session_ms)
    return others[0] / fastest - 1 if others and fastest > 0 else 0.0


def _result(
    deployment: Deployment,
    graphs: Iterator[Timed | str],
    noise: _SessionNoise | None,
    about: Mapping[str, Any],
    profile: HardwareProfile,
    *,
    seconds: float,
) -> Result:
    """The sums over a deployment's graphs of latency times calls; the samples are stored graph after graph."""
    own = [next(graphs) for _ in deployment.graphs]
    if not own:
        return LatencyFailure("the deployment has no graph; it needs at least one", about)
    for graph, found in zip(deployment.graphs, own, strict=True):
        if isinstance(found, str):
            where = f"graph {graph.name!r}: " if len(own) > 1 else ""
            return LatencyFailure(f"{where}{found}", about)
    timed = [found for found in own if isinstance(found, Timed)]
    assert noise is not None  # for the type checker: the sentinels ran if any graph did
    kept = [found.rounds.only(noise.rounds.kept) for found in timed]
    parts = [_estimate(rounds, profile) for rounds in kept]
    calls = np.array([graph.calls for graph in deployment.graphs], dtype=np.float64)
    floors, spreads = np.array([p.floor_ms for p in parts]), np.array([p.spread for p in parts])
    latency = float(calls @ floors)
    spread = float(np.hypot.reduce(calls * floors * spreads)) / latency
    resolution = protocol.resolution(noise.noise, spread, noise.excess)
    wall, cpu = ([times for found in timed for times in getattr(found.rounds, key)] for key in ("wall_ms", "cpu_ms"))
    session_ms, peak_mib = sum(min(found.session_ms) for found in timed), sum(found.peak_mib for found in timed)
    session_error = max(LEAST_SESSION_NOISE, *(_creation_error(found.session_ms) for found in timed))
    return LatencyMeasurement(
        latency_ms=latency,
        resolution=resolution,
        p50_ms=float(calls @ [part.p50_ms for part in parts]),
        p90_ms=_tail(calls, [part.p90_ms for part in parts]),
        p99_ms=_tail(calls, [part.p99_ms for part in parts]),
        samples=sum(len(times) for rounds in kept for times in rounds.wall_ms),
        session_ms=session_ms,
        peak_mib=peak_mib,
        session_error_ms=session_error * session_ms,
        peak_error_mib=max(noise.peak_error * peak_mib, LEAST_PEAK_NOISE_MIB),
        discarded_rounds=len(noise.rounds.discarded),
        drift=noise.drift,
        preempted_share=float(np.average([p.preempted_share for p in parts], weights=calls * floors)),
        noisy=noise.rounds.disturbed or resolution > protocol.NOISY,
        protocol=PROTOCOL,
        environment={**about, "graphs": _graphs(deployment, timed, parts)},
        raw_ms=np.concatenate(wall),
        raw_cpu_ms=np.concatenate(cpu),
        round_lengths=tuple(len(times) for times in wall),
        seconds=seconds,
    )


def _tail(calls: NDArray[np.float64], percentiles: Sequence[float | None]) -> float | None:
    """Sum over graphs of calls times percentile, as if graphs were slow at the same time; None if a graph has none."""
    known = [value for value in percentiles if value is not None]
    return float(calls @ known) if len(known) == len(percentiles) else None


def _graphs(deployment: Deployment, timed: Sequence[Timed], parts: Sequence[Estimate]) -> list[dict[str, Any]]:
    """How each graph was measured; JSON-able."""
    return [
        {
            "name": graph.name, "calls": graph.calls, "inputs": len(graph.inputs), "latency_ms": part.floor_ms,
            "clock": part.clock, "rounds": len(found.rounds.wall_ms), "providers": list(found.providers),
        }
        for graph, found, part in zip(deployment.graphs, timed, parts, strict=True)
    ]  # fmt: skip
