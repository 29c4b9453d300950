"""Turns a session's rounds into measurements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure, LatencyMeasurement
from hardware_profiles.measuring import protocol
from hardware_profiles.measuring.energy import Energy
from hardware_profiles.measuring.pace import Pace, Speed
from hardware_profiles.measuring.protocol import PROTOCOL, Clock, Estimate
from hardware_profiles.measuring.session import Session, Timed

Result = LatencyMeasurement | LatencyFailure
LEAST_SESSION_NOISE = 0.15
"""Relative noise of the time to create a session: the fastest of six varies by 4 to 7 % (one deviation) between processes."""
LEAST_PEAK_NOISE_MIB = 1 / 8
"""The peaks of larger networks varied by this much even where those of the two sentinels were equal."""


@dataclass(frozen=True, slots=True)
class _SessionNoise:
    """Noise and speed of a session, from its sentinels; `noise` (A/A) and `peak_error` are relative.

    Attributes:
        sentinel_ms: latency of the two equal sentinels, estimated as for any entry: at the usual speed.
        speed: Speed of this session.
        drift: Drift of the two equal sentinels.
        slow_rounds: indices of rounds in which these were slower than usual.
    """

    noise: float
    sentinel_ms: float
    pace: Pace
    speed: Speed
    drift: float
    slow_rounds: tuple[int, ...]
    peak_error: float

    def to_json(self) -> dict[str, Any]:
        """The facts of the session that each of its measurements stores."""
        pace = self.pace
        return {
            "noise": self.noise,
            "sentinel_ms": self.sentinel_ms,
            "level_ms": self.speed.large_ms,
            "speed": self.speed.to_json(),
            "usual": pace.usual.to_json(),
            "taken": pace.other_load,
            "spread": pace.spread,
            "slow_rounds": list(self.slow_rounds),
        }


def results(
    deployments: Sequence[Deployment],
    session: Session,
    profile: HardwareProfile,
    environment: Mapping[str, Any],
    *,
    seconds: float,
    usual: Speed | None = None,
) -> list[Result]:
    """One result per deployment; each environment gets the session's noise floor and the sentinel's latency.

    Args:
        seconds: duration of the session, which is divided among the deployments, less the wait for the host's lock.
        usual: the machine's usual speed; None if this session is the first.
    """
    clock = clock_of(profile)
    about = {
        **environment,
        **session.environment,
        "profile": profile.name,
        "batch_size": profile.batch_size,
        "protocol": PROTOCOL,
        "measured_together": len(deployments),
    }
    paced = session.pace(clock, usual)
    noise = None if paced is None else _session_noise(session, *paced, clock)
    about |= noise.to_json() if noise is not None else {}
    graphs, own_s = iter(session.graphs), (seconds - session.waited_s) / len(deployments)
    return [_result(deployment, graphs, noise, about, clock, seconds=own_s) for deployment in deployments]


def clock_of(profile: HardwareProfile) -> Clock:
    """The time of a run that is the profile's latency."""
    return Clock(profile.threads, profile.on_cpu or profile.provider == "wasm", has_cpu_time=not profile.browser)


def _session_noise(session: Session, pace: Pace, speed: Speed, clock: Clock) -> _SessionNoise:
    assert session.sentinels is not None  # for the type checker: its pace is theirs
    first, second = session.sentinels[:2]
    first_ms, second_ms = (protocol.estimate(sentinel.rounds, clock, pace).floor_ms for sentinel in (first, second))
    slow = np.flatnonzero(np.expm1(pace.slower[-1]) > protocol.SLOWER)
    return _SessionNoise(
        noise=abs(first_ms - second_ms) / ((first_ms + second_ms) / 2),
        sentinel_ms=(first_ms + second_ms) / 2,
        pace=pace,
        speed=speed,
        drift=protocol.drift(np.exp(pace.slower[-1])),
        slow_rounds=tuple(slow.tolist()),
        peak_error=abs(first.peak_mib - second.peak_mib) / max((first.peak_mib + second.peak_mib) / 2, 1e-9),
    )


def _creation_error(session_ms: Sequence[float]) -> float:
    """Relative gap between the two fastest creations of a session: small if nothing disturbed either."""
    fastest, *slower = sorted(session_ms)
    return slower[0] / fastest - 1 if slower and fastest > 0 else 0.0


def _result(
    deployment: Deployment,
    graphs: Iterator[Timed | str],
    noise: _SessionNoise | None,
    about: Mapping[str, Any],
    clock: Clock,
    *,
    seconds: float,
) -> Result:
    """The sums over a deployment's graphs of latency times calls; the samples are stored graph after graph."""
    outcomes = [next(graphs) for _ in deployment.graphs]
    if not outcomes:
        return LatencyFailure("the deployment has no graph; it needs at least one", about)
    for graph, outcome in zip(deployment.graphs, outcomes, strict=True):
        if isinstance(outcome, str):
            where = f"graph {graph.name!r}: " if len(outcomes) > 1 else ""
            return LatencyFailure(f"{where}{outcome}", about)
    timed = [outcome for outcome in outcomes if isinstance(outcome, Timed)]
    assert noise is not None  # for the type checker: the sentinels ran if any graph did
    parts = [protocol.estimate(entry.rounds, clock, noise.pace, scattered=entry.scattered) for entry in timed]
    calls = np.array([graph.calls for graph in deployment.graphs], dtype=np.float64)
    floors, errors = np.array([p.floor_ms for p in parts]), np.array([p.error for p in parts])
    latency = float(calls @ floors)
    error = float(calls * floors @ errors) / latency  # what disturbs one graph disturbs the others
    resolution = protocol.resolution(noise.noise, error)
    wall, cpu = ([times for entry in timed for times in getattr(entry.rounds, key)] for key in ("wall_ms", "cpu_ms"))
    session_ms, peak_mib = sum(min(entry.session_ms) for entry in timed), sum(entry.peak_mib for entry in timed)
    energy_mj, energy_error_mj, energy_failure = _energy(deployment, timed, about)
    session_error = max(LEAST_SESSION_NOISE, *(_creation_error(entry.session_ms) for entry in timed))
    return LatencyMeasurement(
        latency_ms=latency,
        resolution=resolution,
        p50_ms=float(calls @ [part.p50_ms for part in parts]),
        p90_ms=_tail(calls, [part.p90_ms for part in parts]),
        p99_ms=_tail(calls, [part.p99_ms for part in parts]),
        samples=sum(len(times) for times in wall),
        session_ms=session_ms,
        peak_mib=peak_mib,
        session_error_ms=session_error * session_ms,
        peak_error_mib=max(noise.peak_error * peak_mib, LEAST_PEAK_NOISE_MIB),
        drift=noise.drift,
        preempted_share=float(np.average([p.preempted_share for p in parts], weights=calls * floors)),
        noisy=resolution > protocol.NOISY,
        protocol=PROTOCOL,
        environment={**about, "graphs": _graphs(deployment, timed, parts, clock)},
        raw_ms=np.concatenate(wall),
        raw_cpu_ms=np.concatenate(cpu),
        round_lengths=tuple(len(times) for times in wall),
        seconds=seconds,
        energy_mj=energy_mj,
        energy_error_mj=energy_error_mj,
        energy_failure=energy_failure,
    )


def _energy(
    deployment: Deployment, timed: Sequence[Timed], about: Mapping[str, Any]
) -> tuple[float | None, float | None, str]:
    """The sum over graphs of energy times calls, its error, and why there is none.

    What disturbs one graph disturbs the others, so that their errors are added. The difference of the two equal sentinels, in
    the environment, is the least error.
    """
    pairs: list[tuple[int, Energy]] = []
    for graph, entry in zip(deployment.graphs, timed, strict=True):
        if not isinstance(entry.energy, Energy):
            return None, None, entry.energy or ""
        pairs.append((graph.calls, entry.energy))
    value = sum(calls * energy.mj for calls, energy in pairs)
    error = sum(calls * energy.error_mj for calls, energy in pairs)
    return value, max(error, value * float(about["energy"]["noise"])), ""


def _tail(calls: NDArray[np.float64], percentiles: Sequence[float | None]) -> float | None:
    """Sum over graphs of calls times percentile, as if graphs were slow at the same time; None if a graph has none."""
    values = [value for value in percentiles if value is not None]
    return float(calls @ values) if len(values) == len(percentiles) else None


def _graphs(
    deployment: Deployment, timed: Sequence[Timed], parts: Sequence[Estimate], clock: Clock
) -> list[dict[str, Any]]:
    """The conditions and the result of the measurement of each graph; JSON-able."""
    return [
        {
            "name": graph.name,
            "calls": graph.calls,
            "inputs": len(graph.inputs),
            "latency_ms": part.floor_ms,
            "clock": clock.name,
            "rounds": len(entry.rounds.wall_ms),
            "providers": list(entry.providers),
            "scattered": entry.scattered,
        }
        for graph, entry, part in zip(deployment.graphs, timed, parts, strict=True)
    ]
