"""Estimators of latency from recorded rounds: what others use, the previous protocol, and candidates.

An estimator takes a recording, whose first entries are the sentinels, and returns one `Guess` per network. Those that stop
early say how many rounds they needed. `PRESENT` is the one that hardware_profiles uses, by its own functions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.measuring import protocol
from hardware_profiles.measuring.pace import Pace, Speed, pace_of
from hardware_profiles.measuring.protocol import Clock, Rounds

Floats = NDArray[np.float64]

N_SENTINELS = 6
FIRST, SECOND, CALL, DENSE, MEMORY, SMALL = range(N_SENTINELS)
CLOCK = Clock(threads=1)
PRESENT = "present: CPU time at the usual speed"


@dataclass(frozen=True, slots=True)
class Recording:
    """One session: the rounds of each entry, the sentinels first, and when each round ended, (n_rounds,) seconds.

    Attributes:
        busy: share of the time of all CPUs that others took.
        usual: the machine's usual speed, from the quiet sessions.
        beside: the speed of the first session beside the same load: all that a first run there knows.
    """

    load: str
    number: int
    names: tuple[str, ...]
    entries: tuple[Rounds, ...]
    ends_s: Floats
    busy: float
    usual: Speed | None = None
    beside: Speed | None = None

    @classmethod
    def read(cls, file: Path) -> Recording:
        """What `record` wrote."""
        load, number, _ = file.name.rsplit(".", 2)
        with np.load(file, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            ends, keys = about["round_ends_s"], ("wall_ms", "cpu_ms", "switches")
            entries = tuple(
                Rounds(*(tuple(stored[f"{i}/{r}/{key}"].astype(np.float64) for r in range(len(ends))) for key in keys))
                for i in range(len(about["names"]))
            )
        return cls(load, int(number), tuple(about["names"]), entries, np.array(ends), about["environment"]["busy"])

    @property
    def networks(self) -> tuple[Rounds, ...]:
        """The entries that are no sentinels."""
        return self.entries[N_SENTINELS:]

    def seconds(self, n_rounds: Sequence[int]) -> float:
        """Duration of a session in which each network took part in this number of rounds."""
        each = np.diff(self.ends_s, prepend=0.0) / len(self.networks)
        return float(sum(each[:n].sum() for n in n_rounds))


@dataclass(frozen=True, slots=True)
class Guess:
    """A latency, half of its stated 90 % interval (relative; NaN where the estimator states none), and the rounds needed."""

    ms: float
    error: float
    n_rounds: int


Estimator = Callable[[Recording], list[Guess]]


def first(rounds: Rounds, n: int) -> Rounds:
    """The first rounds."""
    return Rounds(rounds.wall_ms[:n], rounds.cpu_ms[:n], rounds.switches[:n])


def of_runs(take: Callable[[Floats], float], n: int) -> Estimator:
    """A statistic of the first `n` wall times, as other tools report it; the rounds are those that these runs took."""

    def estimator(recording: Recording) -> list[Guess]:
        found = []
        for rounds in recording.networks:
            needed = int(np.searchsorted(np.cumsum([len(t) for t in rounds.wall_ms]), n)) + 1
            runs = np.concatenate(rounds.wall_ms[:needed])[:n]
            found.append(Guess(take(runs), math.nan, min(needed, len(rounds.wall_ms))))
        return found

    return estimator


def _standard_error(values: Floats) -> float:
    """Robust standard error of a median, from the median absolute deviation."""
    deviation = float(np.median(np.abs(values - np.median(values))))
    return math.sqrt(math.pi / 2) * 1.4826 * deviation / math.sqrt(len(values))


def previous(recording: Recording) -> list[Guess]:
    """The protocol `interleaved-floor/v1`, its first attempt: six rounds (here, of four short rounds each), the median of their
    minima; wall time, or CPU time where most runs were preempted; rounds with slow sentinels discarded."""
    joined = [_joined(rounds) for rounds in recording.entries]
    a, b = (np.array([t.min() for t in joined[i].wall_ms]) for i in (FIRST, SECOND))
    level = (a + b) / 2
    slow = np.flatnonzero(level > 1.05 * np.percentile(level, 25))
    worst = slow[np.argsort(-level[slow], kind="stable")][:3]
    kept = [i for i in range(6) if i not in worst]
    noise = max(abs(np.median(a) - np.median(b)), 2 * _standard_error(a - b)) / np.median(level)
    found = []
    for rounds in joined[N_SENTINELS:]:
        times = rounds.cpu_ms if CLOCK.lost(rounds) > 0.5 else rounds.wall_ms
        floors = np.array([times[i].min() for i in kept])
        value = float(np.median(floors))
        found.append(Guess(value, max(float(noise), 2 * _standard_error(floors) / value, 0.005), 24))
    return found


def _joined(rounds: Rounds) -> Rounds:
    def by_four(times: tuple[Floats, ...]) -> tuple[Floats, ...]:
        return tuple(np.concatenate(times[i : i + 4]) for i in range(0, 24, 4))

    return Rounds(by_four(rounds.wall_ms), by_four(rounds.cpu_ms), by_four(rounds.switches))


def _floors(rounds: Rounds, *, wall: bool = False) -> Floats:
    return np.array([t.min() for t in (rounds.wall_ms if wall else rounds.cpu_ms)])


def _with_error(rounds: Rounds, value: float, taken: float) -> Guess:
    """The error of every simple candidate, from its three fastest rounds."""
    floors = np.sort(_floors(rounds))
    error = math.hypot(0.012 + 0.025 * taken, 1.5 * (floors[min(2, len(floors) - 1)] / floors[0] - 1))
    return Guess(value, error, len(floors))


def lowest(quantile: float, *, wall: bool = False, n_rounds: int = 40) -> Estimator:
    """A quantile of the rounds' fastest runs; 0 is the minimum of all."""

    def estimator(recording: Recording) -> list[Guess]:
        taken = protocol.taken_share(recording.entries, CLOCK)
        found = []
        for rounds in (first(r, n_rounds) for r in recording.networks):
            value = float(np.quantile(_floors(rounds, wall=wall), quantile))
            found.append(_with_error(rounds, value, taken))
        return found

    return estimator


def by_mode(recording: Recording) -> list[Guess]:
    """The median of the rounds in which the call and the product of matrices were within a tenth of their fastest."""
    taken = protocol.taken_share(recording.entries, CLOCK)
    sentinels = np.array([_floors(recording.entries[i]) for i in (CALL, DENSE)])
    calm = np.all(sentinels <= 1.1 * sentinels.min(axis=1, keepdims=True), axis=0)
    chosen = calm if calm.sum() >= 3 else np.full(len(calm), fill_value=True)
    found = []
    for rounds in recording.networks:
        floors = _floors(rounds)
        value = float(np.median(floors[chosen]))
        spread = 2 * _standard_error(floors[chosen]) / value
        found.append(Guess(value, math.hypot(0.012 + 0.025 * taken, spread), len(floors)))
    return found


def regressed(recording: Recording) -> list[Guess]:
    """Each network's rounds regressed on the sentinels' of the same rounds (call, convolutions, memory; ridge on logarithms),
    at the sentinels' calm level; two further passes give less weight to rounds far above the line."""
    levels = np.array([np.log(_floors(recording.entries[i])) for i in (FIRST, CALL, MEMORY)])
    x = (levels - levels.min(axis=1, keepdims=True)).T
    design = np.column_stack([np.ones(len(x)), x])
    found = []
    for rounds in recording.networks:
        y, weight = np.log(_floors(rounds)), np.ones(len(x))
        for _ in range(3):
            scaled = design * weight[:, None]
            fit = np.linalg.solve(scaled.T @ design + np.diag([0.0, 0.1, 0.1, 0.1]), scaled.T @ y)
            above = y - design @ fit
            weight = 1 / (1 + np.maximum(above, 0) / 0.02) ** 2
        scatter = float(np.sqrt(np.average(above**2, weights=weight)))
        found.append(Guess(float(np.exp(fit[0])), math.hypot(0.012, 2 * scatter / math.sqrt(weight.sum())), len(y)))
    return found


def present(
    least: int = protocol.LEAST_ROUNDS, enough: int = protocol.ENOUGH_ROUNDS, most: int = protocol.MOST_ROUNDS,
    *, usual: Callable[[Recording], Speed | None] = attrgetter("usual"),
) -> Estimator:  # fmt: skip
    """The protocol of hardware_profiles, with these limits of rounds.

    Args:
        busy: share of the time of all CPUs that others took.
        usual: the machine's usual speed, if it is known.
    """

    def estimator(recording: Recording) -> list[Guess]:
        known = usual(recording)
        ns = [_needed(recording, rounds, known, (least, enough, most)) for rounds in recording.networks]
        used = [first(rounds, n) for rounds, n in zip(recording.networks, ns, strict=True)]
        sentinels = [first(rounds, max(ns)) for rounds in recording.entries[:N_SENTINELS]]
        pace = _pace(sentinels, known, recording.busy)
        a, b = (protocol.estimate(sentinels[i], CLOCK, pace).floor_ms for i in (FIRST, SECOND))
        found = []
        for rounds, n in zip(used, ns, strict=True):
            estimate = protocol.estimate(rounds, CLOCK, pace)
            error = protocol.resolution(2 * abs(a - b) / (a + b), estimate.error)
            found.append(Guess(estimate.floor_ms, error, n))
        return found

    return estimator


def _needed(recording: Recording, rounds: Rounds, usual: Speed | None, limits: tuple[int, int, int]) -> int:
    least, enough, most = limits
    for n in range(least, most):
        pace = _pace([first(own, n) for own in recording.entries[:N_SENTINELS]], usual)
        own = first(rounds, n)
        if protocol.settled(own, CLOCK, pace) or (n >= enough and CLOCK.seldom_interrupted(own)):
            return n
    return most


def _pace(sentinels: Sequence[Rounds], usual: Speed | None, taken: float = 0.0) -> Pace:
    call, small, a, b = (CLOCK.floors(sentinels[i]) for i in (CALL, SMALL, FIRST, SECOND))
    return pace_of(call, small, np.stack([a, b]), usual, other_load=taken)[0]


def speed_of(recording: Recording) -> Speed:
    """The speed of a session."""
    sentinels = recording.entries[:N_SENTINELS]
    call, small, a, b = (CLOCK.floors(sentinels[i]) for i in (CALL, SMALL, FIRST, SECOND))
    return pace_of(call, small, np.stack([a, b]), None, other_load=recording.busy)[1]


ESTIMATORS: dict[str, Estimator] = {
    "mean of 20": of_runs(lambda runs: float(runs.mean()), 20),
    "median of 200": of_runs(lambda runs: float(np.median(runs)), 200),
    "minimum of 200": of_runs(lambda runs: float(runs.min()), 200),
    "interleaved-floor/v1": previous,
    "wall time, minimum": lowest(0, wall=True),
    "CPU time, minimum": lowest(0),
    "CPU time, minimum, 10 rounds": lowest(0, n_rounds=10),
    "CPU time, 10 % quantile of rounds": lowest(0.1),
    "CPU time, 20 % quantile of rounds": lowest(0.2),
    "CPU time, 35 % quantile of rounds": lowest(0.35),
    "CPU time, median of calm rounds": by_mode,
    "CPU time, regressed on sentinels": regressed,
    "present, all 40 rounds": present(40, 40, 40),
    "present, 10 rounds": present(10, 10, 10),
    "present, on a machine that was never measured": present(usual=attrgetter("beside")),
    PRESENT: present(),
}
