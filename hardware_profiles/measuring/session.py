"""A measuring session: graphs and two sentinels, timed together by a worker that holds the host's lock."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from hardware_profiles.base import Graph
from hardware_profiles.errors import WorkerDiedError, WorkerError
from hardware_profiles.measuring.protocol import Rounds, plan_rounds, runs_per_round
from hardware_profiles.transports.connection import Connection

_SENTINELS = 2
_SLOWER = 50
"""A round times out after this multiple of the time that the warm-up predicts, plus the seconds of `Limits.answer`."""


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
        session_ms: of each creation of a runtime session.
        peak_mib: peak resident memory that one creation and one run added, in a process of their own.
        providers: in order of priority.
    """

    rounds: Rounds = field(repr=False)
    session_ms: tuple[float, ...]
    peak_mib: float
    providers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """The measurements of each graph, or the reason why it has none.

    Attributes:
        sentinels: None if no graph could be loaded.
        environment: what may have changed since the worker's start: share of its CPUs' time that the hypervisor gave to
            others, load, governor and quota; JSON-able.
        waited_s: time until the host's lock was free.
    """

    graphs: tuple[Timed | str, ...] = field(repr=False)
    sentinels: tuple[Timed, Timed] | None = field(repr=False)
    environment: Mapping[str, Any]
    waited_s: float = 0.0


def read_sentinel() -> Graph:
    """The shipped sentinel, with fixed inputs (1, 16, 32, 32)."""
    model = (resources.files("hardware_profiles") / "data" / "sentinel.onnx").read_bytes()
    image = (np.arange(16 * 32 * 32, dtype=np.int64) * 31 % 257 / 128 - 1).astype(np.float32).reshape(1, 16, 32, 32)
    return Graph(model, ({"input": image},), name="sentinel")


def run_session(
    connection: Connection,
    graphs: Sequence[Graph],
    *,
    lock: str | Path,
    limits: Limits,
    rng: np.random.Generator,
    longer: bool,
    on_wait: Callable[[str], None] | None,
) -> Session:
    """Times all graphs in the same rounds.

    Args:
        lock: name of the host's lock, one file for all its users; or the path of a file.
        rng: shuffles the entries of each round.
        on_wait: receives a message if another measurement holds the host.

    Raises:
        WorkerDiedError: the process died or hung; its `suspects` are set.
        WorkerError: the lock cannot be opened, or was not free in time, or the sentinel does not run.
    """
    entries = [read_sentinel()] * _SENTINELS + list(graphs)
    waited_s = _acquire(connection, str(lock), limits, on_wait)
    loaded, failures = _load(connection, entries, limits)
    _check_sentinels(failures)
    live = sorted(loaded) if len(loaded) > _SENTINELS else []  # without a graph the sentinels are not needed
    warm_ms = [float(loaded[i]["warm_ms"]) for i in live]
    n_runs = [runs_per_round(ms, longer=longer) for ms in warm_ms]
    expected_s = sum(n * ms for n, ms in zip(n_runs, warm_ms, strict=True)) / 1e3
    runs: dict[int, list[dict[str, Any]]] = {i: [] for i in live}
    for order in plan_rounds(n_runs, rng, longer=longer) if live else ():
        command = {"do": "round", "order": [(str(live[k]), n) for k, n in order if live[k] not in failures]}
        answer = _ask(connection, command, limits.answer + _SLOWER * expected_s, live)
        for key, times in answer["entries"].items():
            if "message" in times:
                failures[int(key)] = str(times["message"])
            else:
                runs[int(key)].append(times)
    _check_sentinels(failures)
    sentinels = (_timed(loaded[0], runs[0], entries[0]), _timed(loaded[1], runs[1], entries[1])) if live else None
    environment = _ask(connection, {"do": "release"}, limits.answer, ())["environment"]
    found = (failures.get(i) or _timed(loaded[i], runs[i], entries[i]) for i in range(_SENTINELS, len(entries)))
    return Session(tuple(found), sentinels, environment, waited_s)


def _load(
    connection: Connection, entries: Sequence[Graph], limits: Limits
) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """The answers to loading by index, and the reasons of the failures by index."""
    loaded: dict[int, dict[str, Any]] = {}
    failures: dict[int, str] = {}
    for i, graph in enumerate(entries):
        inputs = io.BytesIO()
        np.savez(inputs, *(array for call in graph.inputs for array in call.values()))
        names = [list(call) for call in graph.inputs]  # not in the .npz, whose keys cannot be any text
        command = {"do": "load", "id": str(i), "names": names}
        answer = _ask(connection, command, limits.answer, (i,), (graph.model, inputs.getvalue()))
        if answer["event"] == "loaded":
            loaded[i] = answer
        else:
            failures[i] = str(answer["message"])
    return loaded, failures


def _check_sentinels(failures: dict[int, str]) -> None:
    for i in range(_SENTINELS):
        if i in failures:
            message = f"the runtime fails on the sentinel model: {failures[i]}; check the installation of ONNX Runtime"
            raise WorkerError(message, code="worker.sentinel-failed")


def _acquire(connection: Connection, lock: str, limits: Limits, on_wait: Callable[[str], None] | None) -> float:
    """Takes the host's lock; the seconds until it was free."""
    started = time.perf_counter()
    answer = _ask(connection, {"do": "acquire", "lock": lock, "seconds": limits.lock}, limits.answer, ())
    if answer["event"] == "waiting":
        if on_wait is not None:
            on_wait(f"waiting for another measurement on this machine (process {answer['holder'] or 'unknown'}) to end")
        answer = connection.receive(seconds=limits.lock + limits.answer)
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


def _timed(loaded: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], graph: Graph) -> Timed:
    """Times per call: a run makes one call with each of the graph's inputs."""
    units = {"wall_ms": len(graph.inputs), "cpu_ms": len(graph.inputs), "switches": 1}
    rounds = Rounds(*(tuple(np.asarray(run[key]) / n for run in runs) for key, n in units.items()))
    return Timed(rounds, tuple(loaded["session_ms"]), float(loaded["peak_mib"]), tuple(loaded["providers"]))
