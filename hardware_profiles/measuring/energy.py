"""Energy of calls by the protocol `energy-above-waiting/v1`: plans of rounds, the estimator and its error.

Counters of energy change about every millisecond, and count everything that their domain does. So each entry of a session runs
for many changes in a row, in each round, in an order shuffled per round, and so does waiting, whose power is subtracted. Other
load that lasts as long as a round cancels; the median over rounds suppresses shorter load.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.measuring.protocol import PATIENCE

ENERGY_PROTOCOL = "energy-above-waiting/v1"
LEAST_ROUNDS, MOST_ROUNDS = 8, 24
LEAST_LONGER_ROUNDS, MOST_LONGER_ROUNDS = 12, 40
"""Minimum and maximum number of rounds of a longer measurement."""
TARGET_ERROR = 0.02
"""An entry needs no further rounds when half of its 90 % interval is at most this share."""
NOISY = 0.1
"""An energy with a larger relative error is noisy: it is measured again when the machine may be calmer."""
PILOT_UPDATES = 20
"""Changes of the counter in the first round, which shows how long an entry must run."""
_LEAST_BLOCK_MS, _MOST_BLOCK_MS, _MOST_UPDATES = 40.0, 400.0, 20
"""Least and most time of an entry in a round; of a slow counter, most is the time of this number of changes."""
_EMPTY_ROUNDS = 4
"""Rounds in a row without any energy after which there will be none."""
_RESOLUTION_SHARE = 0.5
"""Part of `TARGET_ERROR` that the steps of the counter may cause."""
_NORMAL_90, _OF_MAD = 1.645, 1.4826
"""Half of a 90 % interval of normal values, in standard deviations, and a standard deviation in median absolute deviations."""
_MEDIAN_90, _SMALL_SAMPLE = 2.0, 6.0
"""Half of a 90 % interval of a median of n normal values is 2 + 6 / n of their standard deviation, estimated from their median
absolute deviation, over the root of n; simulated for n from 8 to 40."""
_READS = 4
"""Each value has the errors of four reads, two of its own and two of waiting; a read is up to one step late, uniformly."""
_LEAST_ERROR = 0.01
"""Smallest relative error; no counter is known to be more accurate."""
WAITING = ""
"""The entry of the worker that waits."""

_Ask = Callable[[dict[str, Any], float, Sequence[int]], dict[str, Any]]
"""Sends a command, with the seconds until its timeout and the entries that it works on; its answer."""


@dataclass(frozen=True, slots=True)
class Block:
    """The counters and the clocks of an entry in a round.

    Attributes:
        uj: Microjoules.
        s: Seconds.
        cpu_s: CPU seconds of the worker.
        runs: Number of runs; 0 for waiting.
        others_s: CPU seconds of other processes on the worker's CPUs while it waited.
    """

    uj: float
    s: float
    cpu_s: float
    runs: int
    others_s: float = 0.0

    @property
    def watts(self) -> float:
        """The mean power."""
        return self.uj / self.s / 1e6 if self.s > 0 else math.nan


@dataclass(frozen=True, slots=True)
class Energy:
    """The energy of an entry above waiting.

    Attributes:
        mj: millijoules per call, above 0.
        error_mj: half of its 90 % interval.
        rounds: Number of rounds behind the value.
        others_cpus: CPUs that others used of the worker's while it waited; 0 with a device.
    """

    mj: float
    error_mj: float
    rounds: int
    others_cpus: float = 0.0


@dataclass(frozen=True, slots=True)
class SessionEnergy:
    """The energies of a session's entries.

    Attributes:
        by_entry: The energy of each entry by its index, or the reason why it has none.
        about: Facts of the session, for the environment of its measurements; JSON-able.
    """

    by_entry: Mapping[int, Energy | str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


def block_ms(update_ms: float, watts: float, idle_watts: float, rounds: int) -> float:
    """Milliseconds that an entry of this power must run in each round so that the counter's steps cause little error.

    Args:
        update_ms: Milliseconds between changes of the counter.
        watts: Power of the entry, and `idle_watts` that of waiting.
        rounds: Number of rounds.
    """
    share = (watts - idle_watts) / watts if watts > idle_watts > 0 else 1.0
    step_error = _NORMAL_90 * math.sqrt(_READS / 12 / rounds)
    wanted_ms = step_error * update_ms / (_RESOLUTION_SHARE * TARGET_ERROR * share)
    return min(max(_LEAST_BLOCK_MS, wanted_ms), max(_MOST_BLOCK_MS, _MOST_UPDATES * update_ms))


def estimate_energy(pairs: Sequence[tuple[Block, Block]], update_ms: float, *, calls: int, on_cpu: bool) -> Energy:
    """The energy of a call from an entry's blocks, each with the waiting of its round.

    While the worker runs, it displaces processes that used its CPUs while it waited, and their energy is missing in the value:
    at most what they used, or what the worker uses, at the power of the block. That is part of the error. A value below its
    random error is replaced by the middle of the interval that is possible, from 0 to the value and its error.

    Args:
        pairs: The block of the entry and that of waiting, round by round.
        update_ms: Milliseconds between changes of the counter.
        calls: Number of calls of a run.
        on_cpu: True if the worker computes on the CPU.
    """
    blocks = [block for block, _ in pairs]
    net = np.array([(b.uj - wait.watts * 1e6 * b.s) / (b.runs * calls) / 1e3 for b, wait in pairs])
    value = float(np.median(net))
    spread = _OF_MAD * float(np.median(np.abs(net - value)))
    late_mj = np.median([max(b.watts, wait.watts) * update_ms / (b.runs * calls) for b, wait in pairs])
    others_cpus = sum(wait.others_s for _, wait in pairs) / sum(wait.s for _, wait in pairs) if on_cpu else 0.0
    displaced = min(others_cpus, sum(b.cpu_s for b in blocks) / sum(b.s for b in blocks), 1.0)
    random = math.hypot(
        (_MEDIAN_90 + _SMALL_SAMPLE / len(pairs)) * spread / math.sqrt(len(pairs)),
        _NORMAL_90 * math.sqrt(_READS / 12 / len(pairs)) * float(late_mj),
    )
    if value < random:
        value = random = (max(value, 0.0) + random) / 2
    whole_mj = float(np.median([b.uj / (b.runs * calls) / 1e3 for b in blocks]))
    error = math.hypot(random, _LEAST_ERROR * value, displaced * whole_mj)
    return Energy(value, error, len(pairs), others_cpus)


def noise_of(first: Energy | str | None, second: Energy | str | None) -> float:
    """The relative difference of the two equal sentinels; 0 where one has no energy."""
    if not isinstance(first, Energy) or not isinstance(second, Energy):
        return 0.0
    return abs(first.mj - second.mj) / ((first.mj + second.mj) / 2)


@dataclass
class EnergyRounds:
    """Runs rounds of entries with these milliseconds and calls per run until the error of each is small.

    Attributes:
        update_ms: Milliseconds between changes of the counter.
        sentinels: Number of entries of `run_ms` that stay to the end.
        failures: Reasons by entry; those of entries that fail while they run are added.
    """

    ask: _Ask
    update_ms: float
    run_ms: Mapping[int, float]
    calls: Mapping[int, int]
    sentinels: int
    on_cpu: bool
    answer_s: float
    longer: bool
    failures: dict[int, str]
    _pairs: dict[int, list[tuple[Block, Block]]] = field(init=False)
    _unclear: str = ""
    _stopped: str = ""
    _empty: int = 0
    _waits: list[Block] = field(init=False)

    def run(self, rng: np.random.Generator) -> SessionEnergy:
        """The energies; a counter that fails ends the rounds, and no entry has a value."""
        self._pairs, self._waits = {i: [] for i in self.run_ms}, []
        min_rounds, max_rounds = (
            (LEAST_LONGER_ROUNDS, MOST_LONGER_ROUNDS) if self.longer else (LEAST_ROUNDS, MOST_ROUNDS)
        )
        pilot_ms = max(_LEAST_BLOCK_MS / 2, PILOT_UPDATES * self.update_ms)
        plan = {i: (pilot_ms, max(1, math.ceil(pilot_ms / ms)) if ms > 0 else 1) for i, ms in self.run_ms.items()}
        plan = self._planned(self._round(plan, pilot_ms, rng), plan, min_rounds)
        wait_ms = max((ms for ms, _ in plan.values()), default=0.0)
        active = list(self.run_ms)
        for n_done in range(1, max_rounds + 1):
            active = [i for i in active if i not in self.failures]
            if self._stopped or not any(i >= self.sentinels for i in active):
                break
            blocks = self._round({i: plan[i] for i in active}, wait_ms, rng)
            if (wait := blocks.pop(WAITING, None)) is not None:
                self._waits.append(wait)
                for key, block in blocks.items():
                    self._pairs[int(key)].append((block, wait))
            if n_done >= min_rounds:
                active = [i for i in active if i < self.sentinels or not self._settled(i, min_rounds)]
        return self._result(min_rounds, wait_ms)

    def _planned(
        self, pilot: Mapping[str, Block], plan: Mapping[int, tuple[float, int]], rounds: int
    ) -> dict[int, tuple[float, int]]:
        """The milliseconds and runs of each entry in a round, by what the pilot showed."""
        waiting, adjusted = pilot.get(WAITING), dict(plan)
        for i, (_, n) in plan.items():
            block = pilot.get(str(i))
            if waiting is not None and block is not None and block.s > 0:
                ms = block_ms(self.update_ms, block.watts, waiting.watts, rounds)
                adjusted[i] = ms, max(2, math.ceil(n * ms / (1e3 * block.s)))
        return adjusted

    def _round(
        self, plan: Mapping[int, tuple[float, int]], wait_ms: float, rng: np.random.Generator
    ) -> dict[str, Block]:
        """The blocks of a round by key; without those that failed or are unclear."""
        keys = [WAITING, *map(str, plan)]
        numbers = {WAITING: wait_ms, **{str(i): n for i, (_, n) in plan.items()}}
        order = [[keys[k], numbers[keys[k]]] for k in rng.permutation(len(keys))]
        seconds = self.answer_s + PATIENCE * (wait_ms + sum(ms for ms, _ in plan.values())) / 1e3
        answer = self.ask({"do": "energy", "order": order}, seconds, list(plan))
        if answer["event"] != "energy":
            self._stopped = str(answer["message"])
            return {}
        blocks = {}
        for key, block in answer["entries"].items():
            if "message" in block:
                self.failures[int(key)] = str(block["message"])
            elif "unclear" in block or block["uj"] <= 0:
                self._unclear = str(block.get("unclear", "the counter stood still"))
            else:
                runs = 0 if key == WAITING else int(numbers[key])
                blocks[key] = Block(block["uj"], block["s"], block["cpu_s"], runs, block["others_s"])
        self._empty = 0 if blocks else self._empty + 1
        if self._empty == _EMPTY_ROUNDS:
            self._stopped = f"no entry of {_EMPTY_ROUNDS} rounds has an energy: {self._unclear}"
        return blocks

    def _settled(self, i: int, min_rounds: int) -> bool:
        """Returns True if more rounds would reduce the error little; the error by displaced energy does not count."""
        if len(self._pairs[i]) < min_rounds:
            return False
        energy = self._estimate(i, on_cpu=False)
        return energy.error_mj <= TARGET_ERROR * energy.mj

    def _estimate(self, i: int, *, on_cpu: bool) -> Energy:
        return estimate_energy(self._pairs[i], self.update_ms, calls=self.calls[i], on_cpu=on_cpu)

    def _result(self, min_rounds: int, wait_ms: float) -> SessionEnergy:
        if self._stopped:
            return SessionEnergy(dict.fromkeys(self.run_ms, self._stopped), {"failure": self._stopped})
        too_few = f"only some rounds of {min_rounds} have an energy: {self._unclear}"
        energies = {
            i: self._estimate(i, on_cpu=self.on_cpu) if len(pairs) >= min_rounds else too_few
            for i, pairs in self._pairs.items()
        }
        waits: NDArray[np.float64] = np.array([wait.watts for wait in self._waits])
        others_cpus = sum(wait.others_s for wait in self._waits) / max(sum(wait.s for wait in self._waits), 1e-9)
        idle = {"waiting_w": float(np.median(waits)), "others_cpus": others_cpus} if len(waits) else {}
        return SessionEnergy(energies, {"protocol": ENERGY_PROTOCOL, "rounds": len(waits), "block_ms": wait_ms, **idle})
