"""A measuring session: graphs and the sentinels, timed together by a worker that holds the host's lock."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.base import Graph
from hardware_profiles.errors import WorkerDiedError, WorkerError
from hardware_profiles.measuring.energy import Energy, EnergyRounds, SessionEnergy, noise_of
from hardware_profiles.measuring.pace import Pace, Speed, pace_of
from hardware_profiles.measuring.protocol import (
    PATIENCE,
    Clock,
    Rounds,
    limits_of_rounds,
    runs_per_round,
    settled,
    taken_share,
)
from hardware_profiles.transports.connection import Connection

_Convert = Callable[[bytes, Mapping[str, NDArray[Any]]], bytes]
_TRIVIAL = bytes.fromhex(
    "08083a330a0c0a0178120179220452656c751201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112"
    "040a02080142040a00100d"
)
"""An ONNX model of one Relu node from ``x`` to ``y``, float32 (1,)."""
_SENTINELS, _EQUAL = 4, 2
"""Two of the same network, whose difference is noise; then a small network and a call of nearly no work: see `pace`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Timeouts in seconds: of the worker's start, of the wait for the host's lock, of the answer to a command."""

    start: float = 60.0
    lock: float = 900.0
    answer: float = 120.0


@dataclass(frozen=True, slots=True)
class Timed:
    """The measurements of one graph in a session.

    Attributes:
        rounds: times per call, averaged over the graph's inputs.
        session_ms: Milliseconds of each creation of a runtime session.
        peak_mib: peak resident memory that one creation and one run added, in a process of their own.
        providers: Execution providers in order of priority.
        energy: Energy of a call, or the reason why it has none; None where it was not asked for.
        scattered: share of a large model that is not in huge pages; 0 for others.
    """

    rounds: Rounds = field(repr=False)
    session_ms: tuple[float, ...]
    peak_mib: float
    providers: tuple[str, ...]
    energy: Energy | str | None = None
    scattered: float = 0.0


@dataclass(frozen=True, slots=True)
class Session:
    """The measurements of each graph, or the reason why it has none.

    Attributes:
        sentinels: two of the same network, the small network and the call; None if no graph could be loaded.
        environment: Facts that may have changed since the worker's start: share of its CPUs' time that the hypervisor gave to
            others, load, governor, quota, and the seconds for which the machine was suspended; JSON-able. ``busy``: share of
            the time of all CPUs that other processes took during the rounds, where the system tells it. With energy, how it
            was measured: ``energy``.
        waited_s: time until the host's lock was free.
    """

    graphs: tuple[Timed | str, ...] = field(repr=False)
    sentinels: tuple[Timed, Timed, Timed, Timed] | None = field(repr=False)
    environment: Mapping[str, Any]
    waited_s: float = 0.0

    def pace(self, clock: Clock, usual: Speed | None) -> tuple[Pace, Speed] | None:
        """See `pace_of`; None without sentinels."""
        if self.sentinels is None:
            return None
        timed = [*self.sentinels, *(entry for entry in self.graphs if isinstance(entry, Timed))]
        other_load = self.environment.get("busy")
        if other_load is None:
            other_load = taken_share([entry.rounds for entry in timed], clock)
        return _pace([entry.rounds for entry in self.sentinels], clock, usual, other_load)


def trivial_model(convert: _Convert) -> str:
    """The model that a worker loads and runs before each other, to set up the runtime, in hexadecimal digits.

    Args:
        convert: See `run_session`.
    """
    return convert(_TRIVIAL, {"x": np.zeros(1, np.float32)}).hex()


def read_sentinel() -> Graph:
    """The shipped sentinel, with fixed inputs (1, 16, 32, 32)."""
    model = (resources.files("hardware_profiles") / "data" / "sentinel.onnx").read_bytes()
    image = (np.arange(16 * 32 * 32, dtype=np.int64) * 31 % 257 / 128 - 1).astype(np.float32).reshape(1, 16, 32, 32)
    return Graph(model, ({"input": image},), name="sentinel")


def read_small() -> Graph:
    """The shipped small sentinel, a network of 0.05 to 0.1 ms, with fixed inputs (1, 1, 28, 28)."""
    model = (resources.files("hardware_profiles") / "data" / "small.onnx").read_bytes()
    image = (np.arange(28 * 28, dtype=np.int64) * 31 % 257 / 128 - 1).astype(np.float32).reshape(1, 1, 28, 28)
    return Graph(model, ({"input": image},), name="small sentinel")


def read_call() -> Graph:
    """The shipped sentinel whose time is that of a call: the negative of one number."""
    model = (resources.files("hardware_profiles") / "data" / "call.onnx").read_bytes()
    return Graph(model, ({"input": np.ones((1, 1), dtype=np.float32)},), name="call")


def run_session(
    connection: Connection,
    graphs: Sequence[Graph],
    *,
    convert: _Convert,
    lock: str | Path,
    limits: Limits,
    rng: np.random.Generator,
    longer: bool,
    clock: Clock,
    usual: Speed | None,
    on_wait: Callable[[str], None] | None,
    on_wait_end: Callable[[], None] | None,
    counter: Mapping[str, Any] | None = None,
) -> Session:
    """Times all graphs in the same rounds.

    Args:
        convert: Makes the bytes that the runtime reads, from an ONNX model and the inputs of a call.
        lock: name of the host's lock, one file for all its users; or the path of a file.
        rng: shuffles the entries of each round.
        usual: the machine's usual speed; None if this session is the first.
        on_wait: receives a message if another measurement holds the host.
        on_wait_end: is called when it has ended.
        counter: the worker's description of its energy counters; with it, rounds of energy follow.

    Raises:
        WorkerDiedError: the process died or hung; its `suspects` are set.
        WorkerError: the lock cannot be opened, or was not free in time, or the sentinel does not run.
    """
    entries = [read_sentinel(), read_sentinel(), read_small(), read_call(), *graphs]
    waited_s = _acquire(connection, str(lock), limits, on_wait, on_wait_end)
    loaded, failures = _load(connection, entries, convert, limits)
    _check_sentinels(failures)
    live = sorted(loaded) if len(loaded) > _SENTINELS else []  # without a graph the sentinels are not needed
    rounds = _Rounds(connection, {i: float(loaded[i]["warm_ms"]) for i in live}, limits, clock, usual, longer, failures)
    rounds.run(rng)
    _check_sentinels(failures)
    energy = SessionEnergy()
    if counter is not None and live:
        energy = _energy(connection, entries, rounds, rng, float(counter["update_ms"]))
        _check_sentinels(failures)
    timed = {
        i: _timed(loaded[i], rounds.runs[i], entries[i], energy.by_entry.get(i)) for i in live if i not in failures
    }
    environment = _ask(connection, {"do": "release"}, limits.answer, ())["environment"]
    if counter is not None:
        noise = {"noise": noise_of(energy.by_entry.get(0), energy.by_entry.get(1))}
        environment = {**environment, "energy": {**counter, **energy.about, **noise}}
    outcomes = (failures.get(i) or timed[i] for i in range(_SENTINELS, len(entries)))
    return Session(tuple(outcomes), (timed[0], timed[1], timed[2], timed[3]) if live else None, environment, waited_s)


@dataclass
class _Rounds:
    """Runs rounds of the entries with these warm times until each has settled.

    Attributes:
        failures: reasons by entry; those of entries that fail while they run are added.
        runs: the worker's answers by entry.
    """

    connection: Connection
    warm_ms: Mapping[int, float]
    limits: Limits
    clock: Clock
    usual: Speed | None
    longer: bool
    failures: dict[int, str]
    runs: dict[int, list[dict[str, Any]]] = field(init=False)

    def run(self, rng: np.random.Generator) -> None:
        """An entry that has settled leaves the rounds; the sentinels stay to the end."""
        self.runs = {i: [] for i in self.warm_ms}
        min_rounds, enough_rounds, max_rounds = limits_of_rounds(longer=self.longer)
        active = [i for i in self.warm_ms if i >= _SENTINELS]
        for n_done in range(1, max_rounds + 1):
            active = [i for i in active if i not in self.failures]
            if not active:
                break
            self._round([*range(_SENTINELS), *active], rng)
            if n_done >= min_rounds:
                active = self._unsettled([i for i in active if i not in self.failures], n_done >= enough_rounds)

    def _round(self, entries: Sequence[int], rng: np.random.Generator) -> None:
        n_runs = {i: runs_per_round(self.warm_ms[i], longer=self.longer) for i in entries}
        expected_s = sum(n * self.warm_ms[i] for i, n in n_runs.items()) / 1e3
        order = [(str(entries[k]), n_runs[entries[k]]) for k in rng.permutation(len(entries))]
        seconds = self.limits.answer + PATIENCE * expected_s
        answer = _ask(self.connection, {"do": "round", "order": order}, seconds, entries)
        for key, times in answer["entries"].items():
            if "message" in times:
                self.failures[int(key)] = str(times["message"])
            else:
                self.runs[int(key)].append(times)

    def _unsettled(self, active: Sequence[int], enough: bool) -> list[int]:
        """Those that need further rounds; none once a sentinel has failed, as an error ends the session.

        Args:
            enough: True if only those whose runs are often interrupted get more.
        """
        if any(i in self.failures for i in range(_SENTINELS)):
            return []
        pace, _ = _pace([_times(self.runs[i]) for i in range(_SENTINELS)], self.clock, self.usual)
        times = {i: _times(self.runs[i]) for i in active}
        return [
            i
            for i in active
            if not settled(times[i], self.clock, pace) and not (enough and self.clock.seldom_interrupted(times[i]))
        ]


def _pace(
    sentinels: Sequence[Rounds], clock: Clock, usual: Speed | None, other_load: float = 0.0
) -> tuple[Pace, Speed]:
    """The pace of the sentinels' rounds, and the speed."""
    first, second, small, call = (clock.floors(rounds) for rounds in sentinels)
    return pace_of(call, small, np.stack([first, second]), usual, other_load=other_load)


def _energy(
    connection: Connection, entries: Sequence[Graph], timed: _Rounds, rng: np.random.Generator, update_ms: float
) -> SessionEnergy:
    """The energies of the entries that ran in the rounds; of the sentinels, those of the two that are equal."""
    ran = [i for i in timed.warm_ms if i not in range(_EQUAL, _SENTINELS) and i not in timed.failures]
    return EnergyRounds(
        partial(_ask, connection),
        update_ms,
        {i: timed.warm_ms[i] for i in ran},
        {i: len(entries[i].inputs) for i in ran},
        sentinels=_SENTINELS,
        on_cpu=timed.clock.on_cpu,
        answer_s=timed.limits.answer,
        longer=timed.longer,
        failures=timed.failures,
    ).run(rng)


def _load(
    connection: Connection, entries: Sequence[Graph], convert: _Convert, limits: Limits
) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """The answers to loading by index, and the reasons of the failures by index."""
    loaded: dict[int, dict[str, Any]] = {}
    failures: dict[int, str] = {}
    for i, graph in enumerate(entries):
        try:
            model = convert(graph.model, graph.inputs[0])
        except Exception as error:  # the converter of a runtime may raise anything; the other models are measured
            failures[i] = f"{type(error).__name__}: {error}"
            continue
        inputs = io.BytesIO()
        np.savez(inputs, *(array for call in graph.inputs for array in call.values()))
        names = [list(call) for call in graph.inputs]  # not in the .npz, whose keys cannot be any text
        command = {"do": "load", "id": str(i), "names": names}
        answer = _ask(connection, command, limits.answer, (i,), (model, inputs.getvalue()))
        if answer["event"] == "loaded":
            loaded[i] = answer
        else:
            failures[i] = str(answer["message"])
    return loaded, failures


def _check_sentinels(failures: dict[int, str]) -> None:
    for i in range(_SENTINELS):
        if i in failures:
            message = f"the runtime fails on the sentinel model: {failures[i]}; check the installation of the runtime"
            raise WorkerError(message, code="worker.sentinel-failed")


def _acquire(
    connection: Connection,
    lock: str,
    limits: Limits,
    on_wait: Callable[[str], None] | None,
    on_wait_end: Callable[[], None] | None,
) -> float:
    """Takes the host's lock; the seconds until it was free."""
    started = time.perf_counter()
    answer = _ask(connection, {"do": "acquire", "lock": lock, "seconds": limits.lock}, limits.answer, ())
    if answer["event"] == "waiting":
        if on_wait is not None:
            on_wait(f"waiting for another measurement on this machine (process {answer['holder'] or 'unknown'}) to end")
        answer = connection.receive(seconds=limits.lock + limits.answer)
        if on_wait_end is not None:
            on_wait_end()
    if answer["event"] == "lock-unusable":
        message = f"cannot open the measurement lock {answer['lock']}: {answer['reason']}"
        raise WorkerError(f"{message}; make it writable for all users, or remove it", code="worker.lock-unusable")
    if answer["event"] != "acquired":
        holder = f"process {answer['holder'] or 'unknown'} has held the measurement lock {answer['lock']}"
        message = f"{holder} for {limits.lock:.0f} s; wait until its measurement ends, or end it"
        raise WorkerError(message, code="worker.lock-timeout")
    return time.perf_counter() - started


def _ask(
    connection: Connection,
    command: dict[str, Any],
    seconds: float,
    working_on: Sequence[int],
    payloads: Sequence[bytes] = (),
) -> dict[str, Any]:
    """The answer to a command; if the worker dies, the graphs that it was working on are the suspects."""
    try:
        connection.send(command, payloads)
        return connection.receive(seconds=seconds)
    except WorkerDiedError as death:
        death.suspects = tuple(i - _SENTINELS for i in working_on if i >= _SENTINELS)
        raise
    except json.JSONDecodeError as error:
        raise WorkerError(f"the measuring process sent an answer that is not JSON: {error}") from None


def _times(runs: Sequence[Mapping[str, Any]], n_inputs: int = 1) -> Rounds:
    """Times per call: a run makes one call with each of a graph's inputs."""
    units = {"wall_ms": n_inputs, "cpu_ms": n_inputs, "switches": 1}
    return Rounds(*(tuple(np.asarray(run[key]) / n for run in runs) for key, n in units.items()))


def _timed(
    loaded: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], graph: Graph, energy: Energy | str | None
) -> Timed:
    rounds = _times(runs, len(graph.inputs))
    session_ms, providers = tuple(loaded["session_ms"]), tuple(loaded["providers"])
    return Timed(rounds, session_ms, float(loaded["peak_mib"]), providers, energy, float(loaded["scattered"]))
