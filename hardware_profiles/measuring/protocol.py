"""The measuring protocol `interleaved-floor/v1`: plans of rounds, estimates and ties. Pure; no I/O.

All entries of a session run in each of a few rounds, in an order shuffled anew each round. What a busy machine adds to a
run is never negative, so the rounds' minima are what repeats; their median ignores a round that was disturbed throughout.
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
"""Time an entry gets in a round, unless that is less than MIN_RUNS runs."""
MIN_RUNS = 5
MAX_RUNS = 1000
"""Beyond this many runs a minimum gains nothing, and entries of microseconds would flood the raw samples."""
TAIL_RUNS, TAIL_ROUND_MS = 40, 60.0
"""Runs of a longer measurement's round that show its p99 even where three rounds are discarded, and what they may take."""
P90_SAMPLES, P99_SAMPLES = 64, 662
"""Below these a tail is not shown: the bound of MLPerf's LoadGen (Reddi et al. 2019, arXiv:1911.02549, section IV)."""
RETRY_PAUSES_S = (1.0, 4.0)
"""An entry that is noisy is measured so many times again. Where most of a batch are, so is the machine, and it gets so many
seconds each time to calm down: what disturbs it often lasts for a few."""
LAST_PAUSE_S = 10.0
"""Before the last try of what would have no figure at all otherwise."""
NOISY = 0.025
"""An entry is measured again where its resolution is wider: on a calm machine, or beside one busy core, nearly none is."""
CALM_SESSIONS = 10
"""The calm level is the lowest of so many sessions: a machine that has become slower for good is not noisy for ever."""
MAX_RESOLUTION = 0.25
"""A figure that says less than this is none: the architectures of one search often lie within a factor of a few."""
STRAY = 0.05
"""How far the sentinels may exceed their calm level before a round counts as disturbed. Beside one busy core a round's floor
moves by 1.7 %, beside two by 3.6 %; what lies beyond is a frequency step or a neighbour for the length of a round."""

_MAD_TO_SIGMA = 1.4826
_MEDIAN_EFFICIENCY = math.sqrt(math.pi / 2)
"""Standard error of a median over that of a mean, for normal errors (asymptotic)."""
_LOST_SHARE, _LOST_MS = 0.05, 0.02
"""A run lost its CPU if its wall time exceeds its CPU time by more than both: a context switch costs microseconds."""
_LEAST_NOISE = 0.005
"""A/A differences of six rounds are sometimes near zero by chance, while equal models repeat within 0.2 to 0.9 % (measured
over 420 networks of a few milliseconds)."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """The timed runs of one entry: for each round the wall and thread CPU times in milliseconds, a call on average over the
    run's, and the involuntary context switches of the process, each (n_runs,)."""

    wall_ms: tuple[Floats, ...] = field(repr=False)
    cpu_ms: tuple[Floats, ...] = field(repr=False)
    switches: tuple[Floats, ...] = field(repr=False)

    def only(self, which: Sequence[int]) -> Rounds:
        """Some of the rounds, by index."""
        wall, cpu, switches = (tuple(t[i] for i in which) for t in (self.wall_ms, self.cpu_ms, self.switches))
        return Rounds(wall, cpu, switches)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an entry's rounds say.

    Attributes:
        floor_ms: ranking latency.
        floors_ms: (n_rounds,), what it is the median of.
        spread: relative standard error of `floor_ms`, from the rounds' scatter.
        p50_ms: median wall time of all runs.
        p90_ms, p99_ms: percentiles of the same; None where there are too few runs to say.
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
class Sieve:
    """Which rounds count.

    Attributes:
        kept: indices of rounds, at least half of them, in order.
        discarded: the others'.
        disturbed: more than half of the rounds strayed, so that some of the kept ones did.
    """

    kept: tuple[int, ...]
    discarded: tuple[int, ...]
    disturbed: bool


def runs_per_round(floor_ms: float, *, longer: bool = False) -> int:
    """Timed runs in a round of an entry whose run, with all of its calls, takes about `floor_ms` > 0; in longer
    measurements enough for p99, if fast."""
    if floor_ms <= 0:
        return MAX_RUNS
    n = min(max(MIN_RUNS, math.ceil(ROUND_MS / floor_ms)), MAX_RUNS)
    return max(n, TAIL_RUNS) if longer and floor_ms * TAIL_RUNS <= TAIL_ROUND_MS else n


def plan_rounds(
    n_runs: Sequence[int], rng: np.random.Generator, *, longer: bool = False
) -> list[list[tuple[int, int]]]:
    """For each round, (entry's index, its number of runs) in the order to run in; each entry once a round."""
    n_rounds = LONGER_ROUNDS if longer else SEARCH_ROUNDS
    return [[(int(i), n_runs[i]) for i in rng.permutation(len(n_runs))] for _ in range(n_rounds)]


def estimate(rounds: Rounds, *, threads: int, on_cpu: bool) -> Estimate:
    """Ranking latency of an entry: median over rounds of each round's minimum, of the wall clock.

    With more than one thread the 10th percentile replaces the minimum, since a lucky overlap of threads is no floor.
    Where most runs of one thread were preempted (as all are that outlast a time slice of a busy core), its CPU time
    replaces the wall time.

    Args:
        on_cpu: the calling threads do the computing. Where they wait for a device that does, CPU time is no latency.
    """
    wall = np.concatenate(rounds.wall_ms)
    alone = threads == 1 and on_cpu
    lost = _lost_cpu(rounds, alone=alone)
    clock = "thread-cpu" if alone and lost > 0.5 else "wall"
    times = rounds.cpu_ms if clock == "thread-cpu" else rounds.wall_ms
    floors = np.array([np.min(t) if threads == 1 else np.percentile(t, 10) for t in times])
    floor = float(np.median(floors))
    p50, p90, p99 = (float(value) for value in np.percentile(wall, (50, 90, 99)))
    return Estimate(
        floor,
        floors,
        _standard_error(floors) / floor,
        p50,
        p90 if len(wall) >= P90_SAMPLES else None,
        p99 if len(wall) >= P99_SAMPLES else None,
        lost,
        clock,
    )


def sentinel_levels(first: Rounds, second: Rounds) -> Floats:
    """For each round the mean of the fastest runs of the two sentinels, in milliseconds, (n_rounds,)."""
    return np.array([(np.min(a) + np.min(b)) / 2 for a, b in zip(first.wall_ms, second.wall_ms, strict=True)])


def sieve(levels: Floats, calm_ms: float = math.inf) -> Sieve:
    """Which rounds to keep, by the sentinels' levels in them, (n_rounds,).

    A round strays where its level exceeds the calm one by more than `STRAY`: the lower quartile, so that up to three
    quarters of the rounds may be disturbed and the quartile is still calm, or what sessions before have shown, if less. At
    most half are discarded, the worst. The sentinels are treated alike and only their mean is looked at, which says nothing
    about their difference, the A/A noise; and that is taken from all rounds (see `noise_floor`), so that no choice of rounds
    can make it small.
    """
    strayed = np.flatnonzero(levels > (1 + STRAY) * min(float(np.percentile(levels, 25)), calm_ms))
    worst = strayed[np.argsort(-levels[strayed], kind="stable")][: len(levels) // 2]
    discarded = tuple(sorted(int(i) for i in worst))
    kept = tuple(i for i in range(len(levels)) if i not in discarded)
    return Sieve(kept, discarded, len(strayed) > len(levels) // 2)


def drift(levels: Floats) -> float:
    """Largest relative change of the sentinels' level between the first, the middle and the last third of all rounds."""
    thirds = [float(np.median(part)) for part in np.array_split(levels, 3) if len(part)]
    return max(thirds) / min(thirds) - 1


def noise_floor(first: Floats, second: Floats) -> float:
    """Relative A/A difference that two entries of one model showed in the same rounds, (n_rounds,) floors each.

    The larger of what the two estimates differ by and of two standard errors of that difference: the first alone is
    one draw, and may be small by luck. Never below half a per cent.
    """
    level = (float(np.median(first)) + float(np.median(second))) / 2
    offset = abs(float(np.median(first)) - float(np.median(second)))
    return max(offset / level, 2 * _standard_error(first - second) / level, _LEAST_NOISE)


def resolution(noise: float, spread: float, excess: float = 0.0) -> float:
    """Relative difference below which an entry ties with another: the session's noise, two of its own errors, or what the
    session's sentinels exceed those of calmer sessions by, whichever is the largest."""
    return max(noise, 2 * spread, excess)


def is_noisy(resolution: float) -> bool:
    """Whether an entry is worth measuring again."""
    return resolution > NOISY


def tied(first_ms: float, second_ms: float, resolution: float) -> bool:
    """Whether two latencies differ by no more than the relative resolution of the larger."""
    return abs(first_ms - second_ms) <= resolution * max(first_ms, second_ms)


def _standard_error(values: Floats) -> float:
    """Robust standard error of a median, from the median absolute deviation; 0 for one value."""
    deviation = float(np.median(np.abs(values - np.median(values))))
    return _MEDIAN_EFFICIENCY * _MAD_TO_SIGMA * deviation / math.sqrt(len(values))


def _lost_cpu(rounds: Rounds, *, alone: bool) -> float:
    """Share of runs that lost time to others.

    Involuntary switches alone do not tell: most on an idle core cost nothing. A thread that computes alone shows its loss
    as wall time beyond CPU time; of one that also waits, for other threads or for a device, a run is counted that was
    switched away from and took longer than the entry's fastest.
    """
    wall, cpu = np.concatenate(rounds.wall_ms), np.concatenate(rounds.cpu_ms)
    if alone:
        return float(np.mean(wall - cpu > np.maximum(_LOST_SHARE * cpu, _LOST_MS)))
    slow = wall - wall.min() > np.maximum(_LOST_SHARE * wall.min(), _LOST_MS)
    return float(np.mean((np.concatenate(rounds.switches) > 0) & slow))
