"""The measuring protocol `interleaved-floor/v1`: plans of rounds, estimators, noise and ties. Pure; no I/O.

All entries of a session run in each round, in an order shuffled per round. Other load only adds time to a run, so the
rounds' minima are repeatable; their median ignores a round that was disturbed throughout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PROTOCOL = "interleaved-floor/v1"
SEARCH_ROUNDS = 6
LONGER_ROUNDS = 20
ROUND_MS = 15.0
"""Time of an entry in a round, unless that is less than MIN_RUNS runs."""
MIN_RUNS = 5
MAX_RUNS = 1000
"""More runs do not improve a minimum, and entries of microseconds would flood the raw samples."""
TAIL_RUNS, TAIL_ROUND_MS = 40, 60.0
"""Runs per round of a longer measurement, enough for a p99 if three rounds are discarded, and their maximum time."""
P90_SAMPLES, P99_SAMPLES = 64, 662
"""Fewest samples for a percentile: the bound of MLPerf's LoadGen (Reddi et al. 2019, arXiv:1911.02549, sec. IV)."""
RETRY_PAUSES_S = (1.0, 4.0)
"""Noisy entries are re-measured once per pause. Where most of a batch is noisy, the machine is disturbed, often for a few
seconds, and the retry waits for the pause first."""
LAST_PAUSE_S = 10.0
"""Pause before the last retry of entries that have no valid measurement yet."""
NOISY = 0.025
"""An entry with a wider resolution is re-measured; on a calm machine, or beside one busy core, few entries are wider."""
CALM_SESSIONS = 10
"""The calm level is the lowest of this number of last sessions, so that a permanent slowdown stops to count as noise."""
MAX_RESOLUTION = 0.25
"""A wider resolution fails the measurement: the latencies of one search often differ by a small factor only."""
DISTURBED = 0.05
"""Excess of the sentinels over their calm level from which a round counts as disturbed. One busy core moves a round's floor
by 1.7 %, two by 3.6 %; more is a frequency step, or another process for the length of a round."""

_MAD_TO_SIGMA = 1.4826
_MEDIAN_EFFICIENCY = math.sqrt(math.pi / 2)
"""Standard error of a median over that of a mean, for normal errors (asymptotic)."""
_LOST_SHARE, _LOST_MS = 0.05, 0.02
"""A run was preempted if its wall time exceeds its CPU time by more than both: a context switch costs microseconds."""
_LEAST_NOISE = 0.005
"""Lower bound of the noise floor: A/A differences of six rounds are sometimes near zero by chance, while equal models repeat
within 0.2 to 0.9 % (measured over 420 networks of a few milliseconds)."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """The timed runs of one entry: for each round the wall and thread CPU times in milliseconds per call, and the
    involuntary context switches of the process, each (n_runs,)."""

    wall_ms: tuple[Floats, ...] = field(repr=False)
    cpu_ms: tuple[Floats, ...] = field(repr=False)
    switches: tuple[Floats, ...] = field(repr=False)

    def only(self, which: Sequence[int]) -> Rounds:
        """The rounds with these indices."""
        return Rounds(*(tuple(t[i] for i in which) for t in (self.wall_ms, self.cpu_ms, self.switches)))


@dataclass(frozen=True, slots=True)
class Estimate:
    """Latency estimate from an entry's rounds.

    Attributes:
        floor_ms: ranking latency.
        floors_ms: (n_rounds,), whose median `floor_ms` is.
        spread: relative standard error of `floor_ms`, from the scatter of the rounds.
        p50_ms: median wall time of all runs.
        p90_ms, p99_ms: percentiles of the same; None with too few runs.
        clock: ``wall`` or ``thread-cpu``.
    """

    floor_ms: float
    floors_ms: Floats = field(repr=False)
    spread: float
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    preempted_share: float
    clock: str


@dataclass(frozen=True, slots=True)
class RoundSelection:
    """Indices of the kept rounds (at least half) and of the discarded; `disturbed` if some of the kept were disturbed, too."""

    kept: tuple[int, ...]
    discarded: tuple[int, ...]
    disturbed: bool


def runs_per_round(floor_ms: float, *, longer: bool = False) -> int:
    """Timed runs per round of an entry whose run, with all of its calls, takes about `floor_ms`."""
    if floor_ms <= 0:
        return MAX_RUNS
    n = min(max(MIN_RUNS, math.ceil(ROUND_MS / floor_ms)), MAX_RUNS)
    return max(n, TAIL_RUNS) if longer and floor_ms * TAIL_RUNS <= TAIL_ROUND_MS else n


def plan_rounds(
    n_runs: Sequence[int], rng: np.random.Generator, *, longer: bool = False
) -> list[list[tuple[int, int]]]:
    """For each round, (entry's index, its number of runs) in execution order; each entry once per round."""
    n_rounds = LONGER_ROUNDS if longer else SEARCH_ROUNDS
    return [[(int(i), n_runs[i]) for i in rng.permutation(len(n_runs))] for _ in range(n_rounds)]


def estimate(rounds: Rounds, *, threads: int, on_cpu: bool) -> Estimate:
    """Ranking latency of an entry: median over rounds of each round's minimum wall time.

    With several threads the 10th percentile replaces the minimum, which a lucky overlap of threads would decide. Where most
    runs of a single thread were preempted (as all runs longer than a time slice on a busy core are), CPU time replaces
    wall time.

    Args:
        on_cpu: the calling threads compute. If they wait for a device, their CPU time is not the latency.
    """
    wall = np.concatenate(rounds.wall_ms)
    alone = threads == 1 and on_cpu
    lost = _lost_cpu(rounds, alone=alone)
    clock = "thread-cpu" if alone and lost > 0.5 else "wall"
    times = rounds.cpu_ms if clock == "thread-cpu" else rounds.wall_ms
    floors = np.array([np.min(t) if threads == 1 else np.percentile(t, 10) for t in times])
    floor = float(np.median(floors))
    p50, p90, p99 = (float(value) for value in np.percentile(wall, (50, 90, 99)))
    n = len(wall)
    tail = (p90 if n >= P90_SAMPLES else None, p99 if n >= P99_SAMPLES else None)
    return Estimate(floor, floors, _standard_error(floors) / floor, p50, *tail, lost, clock)


def sentinel_levels(first: Rounds, second: Rounds) -> Floats:
    """For each round the mean of the fastest runs of the two sentinels, in milliseconds, (n_rounds,)."""
    return np.array([(np.min(a) + np.min(b)) / 2 for a, b in zip(first.wall_ms, second.wall_ms, strict=True)])


def select_rounds(levels: Floats, calm_ms: float = math.inf) -> RoundSelection:
    """The rounds to keep, by the sentinels' levels in them, (n_rounds,).

    A round is disturbed if its level exceeds the calm level by more than `DISTURBED`. The calm level is the lower quartile,
    which stays calm if up to three quarters of the rounds are disturbed, or that of previous sessions, if lower. At most half
    of the rounds are discarded, the worst. The selection depends only on the mean of the sentinels and not on their
    difference, the A/A noise, which is taken from all rounds (see `noise_floor`): no selection can make it small.
    """
    disturbed = np.flatnonzero(levels > (1 + DISTURBED) * min(float(np.percentile(levels, 25)), calm_ms))
    worst = disturbed[np.argsort(-levels[disturbed], kind="stable")][: len(levels) // 2]
    discarded = tuple(np.sort(worst).tolist())
    kept = tuple(i for i in range(len(levels)) if i not in discarded)
    return RoundSelection(kept, discarded, len(disturbed) > len(levels) // 2)


def drift(levels: Floats) -> float:
    """Largest relative change of the sentinels' level between the first, the middle and the last third of the rounds."""
    thirds = [float(np.median(part)) for part in np.array_split(levels, 3) if len(part)]
    return max(thirds) / min(thirds) - 1


def noise_floor(first: Floats, second: Floats) -> float:
    """Relative A/A difference of two entries with the same model in the same rounds, (n_rounds,) floors each: the maximum of
    the difference of the estimates, which may be small by chance, of two standard errors of it, and of half a per cent."""
    a, b = float(np.median(first)), float(np.median(second))
    level = (a + b) / 2
    return max(abs(a - b) / level, 2 * _standard_error(first - second) / level, _LEAST_NOISE)


def resolution(noise: float, spread: float, excess: float = 0.0) -> float:
    """Relative difference below which an entry ties with another: the maximum of the session's noise floor, two of the
    entry's standard errors, and the excess of the session's sentinels over those of calm sessions."""
    return max(noise, 2 * spread, excess)


def _standard_error(values: Floats) -> float:
    """Robust standard error of a median, from the median absolute deviation; 0 for one value."""
    deviation = float(np.median(np.abs(values - np.median(values))))
    return _MEDIAN_EFFICIENCY * _MAD_TO_SIGMA * deviation / math.sqrt(len(values))


def _lost_cpu(rounds: Rounds, *, alone: bool) -> float:
    """Share of preempted runs.

    A single computing thread shows its loss as wall time beyond CPU time. If threads also wait, for each other or for a device,
    a run counts that was switched out and took longer than the fastest: most switches on an idle core cost nothing.
    """
    wall, cpu = np.concatenate(rounds.wall_ms), np.concatenate(rounds.cpu_ms)
    if alone:
        return float(np.mean(wall - cpu > np.maximum(_LOST_SHARE * cpu, _LOST_MS)))
    slow = wall - wall.min() > np.maximum(_LOST_SHARE * wall.min(), _LOST_MS)
    return float(np.mean((np.concatenate(rounds.switches) > 0) & slow))
