"""The measuring protocol `interleaved-floor/v3`: plans of rounds, estimators, errors and ties. Pure; no I/O.

Other load only adds time to a run, so the fastest of a round's short runs repeats. All entries of a session run in each round,
in an order shuffled per round, until a low quantile of their rounds is known. The constants were fitted on recorded sessions of
tests/benchmarks/noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PROTOCOL = "interleaved-floor/v3"
LEAST_ROUNDS, MOST_ROUNDS = 10, 40
LEAST_LONGER_ROUNDS, MOST_LONGER_ROUNDS = 20, 60
"""Of a longer measurement."""
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
QUANTILE = 0.2
"""Of the rounds' fastest runs, for an entry that nothing interrupts. A machine whose cores others share has several speeds; a
speed that fewer rounds have is chance: a session may have it for some entries alone, and not at all for others. Where runs are
interrupted, whole rounds pay for emptied caches, so that the quantile falls, to the fastest round if half of the runs were."""
SETTLED = 0.025
"""An entry needs no further rounds when the error of this quantile is at most this share of it."""
CALM, CALM_SHARE = 0.1, 0.5
"""A round is calm if its call of nearly no work took at most this share longer than their level; the second is the share of
rounds that must be calm. A busy neighbour on the same core slows entries by a tenth to a half, and that call by a half."""
CALM_SESSIONS = 10
"""The calm level is the lowest of this number of last sessions, so that a permanent slowdown stops to count as noise."""
DISTURBED = 0.05
"""Excess of a session's level of calls over calm sessions from which the machine counts as slower; it repeats to 2 %."""
NOISY = 0.04
"""A measurement with a wider resolution is noisy: it is measured again when the machine may be calmer."""

_BASE_ERROR, _LOAD_ERROR, _SPREAD_ERROR = 0.012, 0.025, 0.6
"""Half of the 90 % interval: of an entry on a quiet machine; what is added where others get all of the CPU's time; per share by
which the rounds of the sentinels spread, since speeds that last longer than a session differ as those within it do."""
_Z = 1.645
"""Standard deviations of half a 90 % interval."""
_INTERRUPTED_ERROR, _INTERRUPTED_POWER = 0.8, 2
"""Of the wall clock: the share of its time that an entry may have lost if all of its runs were interrupted, and the power of
the share of such runs with which that falls. Rough: two threads at a load of 9, against the fastest run of six sessions."""
_UNDISTURBED_SHARE = 0.05
"""With fewer undisturbed runs, as those longer than a time slice on a busy core, a run pays for caches that others emptied."""
_LEAST_PAIRS = 3
"""Undisturbed first and later runs from which a refill is computed."""
_MOST_REFILL = 0.25
"""Of the entry's time; the cost of other entries says little about one that is much faster."""
_WHOLE_SHARE, _WHOLE_MS = 0.02, 0.0005
"""A run was not interrupted if its wall time exceeds its CPU time by no more than both together."""
_CLOCK_LOSS_MS = 0.02
"""What the clock of a thread lost at most in an interrupted run: on a virtual machine with 0.2 % of steal time, of 218,000 runs
of 0.081 ms 76 had 0.064 to 0.075, all of them interrupted."""
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
    """Which time of a run is its latency.

    Attributes:
        threads: that compute.
        on_cpu: the calling threads compute. If they wait for a device, their CPU time is not the latency.
    """

    threads: int = 1
    on_cpu: bool = True

    @property
    def name(self) -> str:
        """``thread-cpu``, which excludes the time of other processes, for one computing thread, else ``wall``."""
        return "thread-cpu" if self.threads == 1 and self.on_cpu else "wall"

    def floors(self, rounds: Rounds) -> Floats:
        """Each round's fastest run in milliseconds, (n_rounds,).

        With several threads the 10th percentile: a lucky overlap of threads would decide the fastest. The CPU time of a run
        that was interrupted counts with what the thread's clock may have lost, but no more than its wall time.
        """
        if self.name != "thread-cpu":
            return np.array([np.min(t) if self.threads == 1 else np.percentile(t, 10) for t in rounds.wall_ms])
        return np.array(
            [
                np.where(
                    wall <= (1 + _WHOLE_SHARE) * cpu + _WHOLE_MS, cpu, np.minimum(cpu + _CLOCK_LOSS_MS, wall)
                ).min()
                for wall, cpu in zip(rounds.wall_ms, rounds.cpu_ms, strict=True)
            ]
        )

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

    def undisturbed(self, rounds: Rounds) -> float:
        """Share of runs that nothing interrupted, nor emptied the caches of."""
        if self.name == "thread-cpu":
            return float(np.mean(np.concatenate(rounds.switches) == 0))
        return 1 - self.lost(rounds)


@dataclass(frozen=True, slots=True)
class Load:
    """What other processes did to a session.

    Attributes:
        taken: share of the wall time of its runs that others got, 0 to 1.
        refill_ms: CPU time that a run needs to fill the caches again after others ran.
        spread: by how much the median of the sentinels' rounds exceeds their fast ones, relative.
    """

    taken: float = 0.0
    refill_ms: float = 0.0
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """Latency estimate from an entry's rounds.

    Attributes:
        floor_ms: ranking latency.
        error: half of its 90 % interval, relative.
        p50_ms: median wall time of all runs.
        p90_ms, p99_ms: percentiles of the same; None with too few runs.
        preempted_share: of the runs.
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


def limits_of_rounds(*, longer: bool = False) -> tuple[int, int]:
    """Least and most rounds of an entry."""
    return (LEAST_LONGER_ROUNDS, MOST_LONGER_ROUNDS) if longer else (LEAST_ROUNDS, MOST_ROUNDS)


def settled(rounds: Rounds, clock: Clock) -> bool:
    """Whether an entry needs no further rounds."""
    value, error = _level(rounds, clock)
    return error <= SETTLED * value


def calm_rounds(calls: Floats, calm_ms: float = math.inf) -> NDArray[np.bool_]:
    """Which rounds are calm, by the fastest call of nearly no work in each, (n_rounds,).

    Args:
        calm_ms: the level in previous sessions.
    """
    return calls <= (1 + CALM) * min(call_level(calls), calm_ms)


def call_level(calls: Floats) -> float:
    """The level of the calls of nearly no work of a session, (n_rounds,), by which calm sessions are recognised."""
    return float(np.quantile(calls, QUANTILE))


def load_of(entries: Sequence[Rounds], clock: Clock, sentinels: Sequence[Rounds] = ()) -> Load:
    """The load of a session.

    The first run of a round follows another model, so that it too finds the caches filled with something else: what it takes
    beyond the others, both undisturbed, is the refill; the upper quartile over the entries. Only of CPU time: others wait.

    Args:
        entries: all, the sentinels among them.
        sentinels: equal ones.
    """
    spread = _spread(np.concatenate([clock.floors(rounds) for rounds in sentinels])) if sentinels else 0.0
    if clock.name != "thread-cpu":
        return Load(float(np.mean([clock.lost(rounds) for rounds in entries])), spread=spread)
    wall, cpu = (sum(float(t.sum()) for rounds in entries for t in getattr(rounds, k)) for k in ("wall_ms", "cpu_ms"))
    costs = [cost for rounds in entries if (cost := _refill(rounds)) is not None]
    refill_ms = max(0.0, float(np.percentile(costs, 75))) if costs else 0.0
    return Load(min(max(0.0, 1 - cpu / wall), 1.0), refill_ms, spread)


def estimate(rounds: Rounds, clock: Clock, load: Load) -> Estimate:
    """Ranking latency of an entry: a low quantile of its rounds' fastest runs, by thread CPU time if one thread computes.

    An entry of which nearly every run was interrupted had to fill the caches again, partly or wholly: half of the refill is
    subtracted, and is part of the error. The wall clock has no such correction: where most runs were interrupted, the value is
    an upper bound, and the error reaches down to what may be true.
    """
    (floor, own_error), wall, lost = _level(rounds, clock), np.concatenate(rounds.wall_ms), clock.lost(rounds)
    refill = 0.0
    if clock.name == "thread-cpu" and clock.undisturbed(rounds) < _UNDISTURBED_SHARE:
        refill = min(load.refill_ms, _MOST_REFILL * floor) / 2
    value = floor - refill
    interrupted = _INTERRUPTED_ERROR * lost**_INTERRUPTED_POWER if clock.name == "wall" else 0.0
    error = math.hypot(
        _BASE_ERROR + _LOAD_ERROR * load.taken,
        _SPREAD_ERROR * load.spread,
        own_error / value,
        refill / value,
        interrupted,
    )
    p50, p90, p99 = (float(percentile) for percentile in np.percentile(wall, (50, 90, 99)))
    n = len(wall)
    tail = (p90 if n >= P90_SAMPLES else None, p99 if n >= P99_SAMPLES else None)
    return Estimate(value, error, p50, *tail, lost)


def drift(levels: Floats) -> float:
    """Largest relative change of the sentinels' level between the first, the middle and the last third of the rounds."""
    thirds = [float(np.median(part)) for part in np.array_split(levels, 3) if len(part)]
    return max(thirds) / min(thirds) - 1


def excess(call_ms: float, calm_ms: float) -> float:
    """By how much a session's level of calls exceeds that of calm sessions, relative; 0 within the scatter of calm sessions."""
    above = call_ms / calm_ms - 1
    return above if above > DISTURBED else 0.0


def resolution(noise: float, error: float, above: float = 0.0) -> float:
    """Relative difference below which an entry ties with another: the maximum of the difference of the session's two equal
    sentinels, the entry's own error, and the excess of the session over calm ones."""
    return max(noise, error, above)


def _level(rounds: Rounds, clock: Clock) -> tuple[float, float]:
    """A quantile of the rounds' fastest runs, and half of its 90 % interval, from the ranks of a binomial count."""
    ranks = np.sort(clock.floors(rounds))
    n, quantile = len(ranks), QUANTILE * max(0.0, 2 * clock.undisturbed(rounds) - 1)
    at, half = quantile * (n - 1), _Z * math.sqrt(max(quantile, 1 / n) * (1 - quantile) * n)
    value, low, high = np.interp([at, max(0.0, at - half), min(n - 1.0, at + half)], np.arange(n), ranks)
    return float(value), float(high - low) / 2


def _spread(floors: Floats) -> float:
    """By how much the median of floors exceeds their 10th percentile, relative."""
    fast, median = np.percentile(floors, (10, 50))
    return float(median / fast - 1)


def _refill(rounds: Rounds) -> float | None:
    """Milliseconds by which undisturbed first runs exceed undisturbed later ones; None where there are too few of either."""
    pairs = list(zip(rounds.cpu_ms, rounds.switches, strict=True))
    first = [cpu[0] for cpu, switches in pairs if switches[0] == 0]
    later = [cpu[1:][switches[1:] == 0].min(initial=math.inf) for cpu, switches in pairs]
    n_later = sum(math.isfinite(ms) for ms in later)
    return float(min(first) - min(later)) if min(len(first), n_later) >= _LEAST_PAIRS else None
