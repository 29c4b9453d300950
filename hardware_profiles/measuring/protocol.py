"""The measuring protocol `interleaved-floor/v5`: plans of rounds, estimators, errors and ties. Pure; no I/O.

Other load only adds time to a run, so the fastest of a round's short runs repeats. All entries of a session run in each round,
in an order shuffled per round, until a quantile of their rounds is known. What a round took longer than usual, by the sentinels
that ran in it, is divided out first (`pace`). The constants were fitted on recorded rounds of 30 networks of 0.04
to 4.4 ms on two cores of a shared virtual machine: alone, beside bursts, and beside 1, 4 and 8 busy processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.measuring.pace import Pace

Floats = NDArray[np.float64]

PROTOCOL = "interleaved-floor/v5"
LEAST_ROUNDS, ENOUGH_ROUNDS, MOST_ROUNDS = 10, 20, 40
"""Only an entry whose runs are often interrupted gets more rounds than enough: few of them tell its latency."""
LEAST_LONGER_ROUNDS, ENOUGH_LONGER_ROUNDS, MOST_LONGER_ROUNDS = 20, 30, 60
"""Minimum, sufficient and maximum number of rounds of a longer measurement."""
ROUND_MS = 4.0
"""Time of an entry in a round, unless that is less than MIN_RUNS runs. A round shorter than a time slice has runs that no other
process interrupts."""
MIN_RUNS = 3
MAX_RUNS = 500
"""More runs do not improve a minimum, and entries of microseconds would flood the raw samples."""
TAIL_RUNS, TAIL_ROUND_MS = 40, 60.0
"""Runs per round of a longer measurement, enough for a p99, and their maximum time."""
P90_SAMPLES, P99_SAMPLES = 64, 662
"""Fewest samples for a percentile: the bound of MLPerf's LoadGen (Reddi et al. 2019, arXiv:1911.02549, sec. IV)."""
QUANTILE, _LEAST_QUANTILE = 0.4, 0.05
"""Quantile of the rounds' fastest runs, for an entry that is seldom interrupted, and for one that always is. Where others run
between an entry's runs, whole rounds pay for the caches that they emptied."""
_SELDOM = 0.5
"""Share of undisturbed runs from which an entry counts as seldom interrupted."""
PATIENCE = 50
"""A round times out after this multiple of its planned time, plus the seconds that any answer may take."""
SETTLED = 0.025
"""An entry needs no further rounds when the error of its quantile is at most this share of it."""
SLOWER = 0.1
"""A round is slow if its large sentinels took this share longer than usual."""
NOISY = 0.06
"""A measurement with a wider resolution is noisy: it is measured again when the machine may be calmer."""

_BASE_ERROR, _LOAD_ERROR, _SHIFT_ERROR, _REFERENCE_ERROR = 0.014, 0.045, 0.4, 0.2
"""Half of the 90 % interval: of an entry on a quiet machine; what is added where others get all of the CPU's time; the share of
what was divided out that may be wrong; and per share of the time that others got in the sessions that tell the usual speed: on
a machine that was never measured without them, it is the speed beside them."""
_SPREAD_ERROR, _WALL_SPREAD_ERROR = 0.2, 0.6
"""Per share by which the rounds of the sentinels spread: of what is divided by the pace, and of wall times, which are not."""
_SCATTERED_ERROR = 0.4
"""Error of a large model none of whose memory is in huge pages: from 1.2 to 2.5 times its latency in them."""
_Z = 1.645
"""Standard deviations of half a 90 % interval."""
_INTERRUPTED_ERROR, _INTERRUPTED_POWER = 0.8, 2
"""For the wall clock: the share of its time that an entry may have lost if all of its runs were interrupted, and the power of
the share of such runs with which that falls. Rough: two threads at a load of 9, against the fastest run of six sessions."""
_WHOLE_SHARE, _WHOLE_MS = 0.02, 0.0005
"""A run was not interrupted if its wall time exceeds its CPU time by no more than both together."""
_CLOCK_LOSS_MS = 0.02
"""Maximum time that the clock of a thread lost in an interrupted run: on a virtual machine with 0.2 % of steal time, of 218,000
runs of 0.081 ms 76 had 0.064 to 0.075, all of them interrupted."""
_LEAST_MS = 1e-6
"""A run takes a nanosecond at least: the clock of a thread may be coarse, and times are compared as ratios."""
_LOST_SHARE, _LOST_MS = 0.05, 0.02
"""A run was preempted if its wall time exceeds its CPU time by more than both: a context switch costs microseconds."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """The timed runs of one entry: for each round the wall and thread CPU times in milliseconds per call, and the
    involuntary context switches of the process, each (n_runs,)."""

    wall_ms: tuple[Floats, ...] = field(repr=False)
    cpu_ms: tuple[Floats, ...] = field(repr=False)
    switches: tuple[Floats, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Clock:
    """The time of a run that counts as its latency.

    Attributes:
        threads: Number of threads that compute.
        on_cpu: True if the calling threads compute. If they wait for a device, their CPU time is not the latency.
        has_cpu_time: False if the threads' CPU times are unknown, as in a browser.
    """

    threads: int = 1
    on_cpu: bool = True
    has_cpu_time: bool = True

    @property
    def name(self) -> str:
        """``thread-cpu``, which excludes the time of other processes, for one computing thread, else ``wall``."""
        return "thread-cpu" if self.paced and self.has_cpu_time else "wall"

    @property
    def paced(self) -> bool:
        """True if the pace is divided out: one thread computes, and waits for the processor alone, as the sentinels do."""
        return self.threads == 1 and self.on_cpu

    def floors(self, rounds: Rounds) -> Floats:
        """Each round's fastest run in milliseconds, (n_rounds,).

        With several threads the 10th percentile: a lucky overlap of threads would decide the fastest. The CPU time of a run
        that was interrupted counts with what the thread's clock may have lost, but no more than its wall time.
        """
        if self.name != "thread-cpu":
            fast = [np.min(t) if self.threads == 1 else np.percentile(t, 10) for t in rounds.wall_ms]
        else:
            fast = [
                np.where(
                    wall <= (1 + _WHOLE_SHARE) * cpu + _WHOLE_MS, cpu, np.minimum(cpu + _CLOCK_LOSS_MS, wall)
                ).min()
                for wall, cpu in zip(rounds.wall_ms, rounds.cpu_ms, strict=True)
            ]
        return np.maximum(fast, _LEAST_MS)

    def lost(self, rounds: Rounds) -> float:
        """Share of preempted runs.

        A single computing thread shows its loss as wall time beyond CPU time. If threads also wait, for each other or for a
        device, a run counts that was switched out and took longer than the fastest: most switches on an idle core cost nothing.
        """
        wall, cpu = np.concatenate(rounds.wall_ms), np.concatenate(rounds.cpu_ms)
        if self.name == "thread-cpu":
            return float(np.mean(wall - cpu > np.maximum(_LOST_SHARE * cpu, _LOST_MS)))
        slow = wall - wall.min() > np.maximum(_LOST_SHARE * wall.min(), _LOST_MS)
        return float(np.mean((np.concatenate(rounds.switches) > 0) & slow))

    def seldom_interrupted(self, rounds: Rounds) -> bool:
        """Returns True if enough runs were undisturbed."""
        return self.undisturbed(rounds) >= _SELDOM

    def undisturbed(self, rounds: Rounds) -> float:
        """Share of runs that nothing interrupted, nor emptied the caches of."""
        if self.name == "thread-cpu":
            return float(np.mean(np.concatenate(rounds.switches) == 0))
        return 1 - self.lost(rounds)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Latency estimate from an entry's rounds.

    Attributes:
        floor_ms: ranking latency.
        error: half of its 90 % interval, relative.
        p50_ms: median wall time of all runs.
        p90_ms, p99_ms: percentiles of the same; None with too few runs.
        preempted_share: Share of the runs that were preempted.
    """

    floor_ms: float
    error: float
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    preempted_share: float


def runs_per_round(floor_ms: float, *, longer: bool = False) -> int:
    """Timed runs per round of an entry whose run, with all of its calls, takes about `floor_ms`."""
    if floor_ms <= 0:
        return MAX_RUNS
    n = min(max(MIN_RUNS, math.ceil(ROUND_MS / floor_ms)), MAX_RUNS)
    return max(n, TAIL_RUNS) if longer and floor_ms * TAIL_RUNS <= TAIL_ROUND_MS else n


def limits_of_rounds(*, longer: bool = False) -> tuple[int, int, int]:
    """Least, enough and most rounds of an entry."""
    if longer:
        return LEAST_LONGER_ROUNDS, ENOUGH_LONGER_ROUNDS, MOST_LONGER_ROUNDS
    return LEAST_ROUNDS, ENOUGH_ROUNDS, MOST_ROUNDS


def settled(rounds: Rounds, clock: Clock, pace: Pace) -> bool:
    """Returns True if an entry needs no further rounds."""
    return _level(rounds, clock, pace)[1] <= SETTLED


def taken_share(entries: Sequence[Rounds], clock: Clock) -> float:
    """Share of the wall time of all runs that others got, 0 to 1: of one computing thread; otherwise, of preempted runs.

    For systems that do not tell how busy their CPUs are.
    """
    if clock.name != "thread-cpu":
        return float(np.mean([clock.lost(rounds) for rounds in entries]))
    wall, cpu = (sum(float(t.sum()) for rounds in entries for t in getattr(rounds, k)) for k in ("wall_ms", "cpu_ms"))
    return min(max(0.0, 1 - cpu / wall), 1.0)


def estimate(rounds: Rounds, clock: Clock, pace: Pace, *, scattered: float = 0.0) -> Estimate:
    """Ranking latency of an entry: a quantile of its rounds' fastest runs at the machine's usual speed, by thread CPU time if
    one thread computes.

    Times of several threads or of a device are not divided by the pace, and by how much the session was slower or faster than
    usual is an error. Where most of its runs were interrupted, the value is an upper bound, and the error reaches down to what
    may be true.

    Args:
        pace: Pace of the whole session; an entry may have left before its last rounds.
        scattered: share of a large model that is not in huge pages.
    """
    (value, own_error), lost, paced = _level(rounds, clock, pace), clock.lost(rounds), clock.paced
    error = math.hypot(
        _BASE_ERROR + _LOAD_ERROR * pace.other_load,
        pace.usual.error + _REFERENCE_ERROR * pace.usual.other_load,
        own_error,
        (_SPREAD_ERROR if paced else _WALL_SPREAD_ERROR) * pace.spread,
        (_SHIFT_ERROR if paced else 1.0) * pace.shift(value),
        0.0 if clock.name == "thread-cpu" else _INTERRUPTED_ERROR * lost**_INTERRUPTED_POWER,
        _SCATTERED_ERROR * scattered,
    )
    wall = np.concatenate(rounds.wall_ms)
    p50, p90, p99 = (float(percentile) for percentile in np.percentile(wall, (50, 90, 99)))
    n = len(wall)
    tail = (p90 if n >= P90_SAMPLES else None, p99 if n >= P99_SAMPLES else None)
    return Estimate(value, error, p50, *tail, lost)


def drift(levels: Floats) -> float:
    """Largest relative change of the sentinels' level between the first, the middle and the last third of the rounds."""
    thirds = [float(np.median(part)) for part in np.array_split(levels, 3) if len(part)]
    return max(thirds) / min(thirds) - 1


def resolution(noise: float, error: float) -> float:
    """Relative difference below which an entry ties with another: the difference of the session's two equal sentinels, or the
    entry's own error if that is larger."""
    return max(noise, error)


def _level(rounds: Rounds, clock: Clock, pace: Pace) -> tuple[float, float]:
    """A quantile of the rounds' fastest runs in milliseconds, and half of its 90 % interval, relative, from the ranks of a
    binomial count."""
    floors = np.log(clock.floors(rounds))
    n = len(floors)
    if clock.paced:
        floors = floors - pace.slowdown_at(float(np.exp(np.median(floors))))[:n]
    ranks = np.sort(floors)
    quantile = max(_LEAST_QUANTILE, QUANTILE * min(1.0, clock.undisturbed(rounds) / _SELDOM) ** 2)
    at, half = quantile * (n - 1), _Z * math.sqrt(max(quantile, 1 / n) * (1 - quantile) * n)
    value, low, high = np.interp([at, max(0.0, at - half), min(n - 1.0, at + half)], np.arange(n), ranks)
    return float(np.exp(value)), float(high - low) / 2
