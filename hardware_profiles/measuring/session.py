"""One session: a few graphs, and the sentinel twice, timed together by a worker while it holds the host's lock."""

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
"""A round may take this many times what warming up foretold, and the seconds of `Limits.answer` besides."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait, in seconds: for the process to start, for the host's lock, for the answer to a command."""

    start: float = 60.0
    lock: float = 900.0
    answer: float = 120.0


@dataclass(frozen=True, slots=True)
class Timed:
    """What a session tells of one graph.

    Attributes:
        rounds: their times are a call's, averaged over the graph's inputs.
        session_ms: wall time that making a runtime session of it took, each time that one was made.
        peak_mib: resident memory that this and one run added at most, in a process of its own.
        providers: what the runtime used, the first first.
    """

    rounds: Rounds = field(repr=False)
    session_ms: tuple[float, ...]
    peak_mib: float
    providers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """What each graph took, or why it has no figures; the same of the two sentinels (None where no graph could be loaded).

    Attributes:
        conditions: how the machine was meanwhile: share of its CPUs' time that a hypervisor kept, load; and its governor
            and quota at the end, which take the place of what the environment said at the worker's start; JSON-able.
        waited_s: until the host's lock was free.
    """

    graphs: tuple[Timed | str, ...] = field(repr=False)
    sentinels: tuple[Timed, Timed] | None = field(repr=False)
    conditions: Mapping[str, Any]
    waited_s: float = 0.0


def read_sentinel() -> Graph:
    """The sentinel that is shipped, with fixed inputs (1, 16, 32, 32)."""
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
        lock: name of what whoever measures on a host holds: one file of that host for all users. A path is taken as it is.
        rng: draws the order of the entries in each round.
        on_wait: told once, where another measurement holds the host.

    Raises:
        WorkerDiedError: the process died or hung; its `suspects` are set.
        WorkerError: the lock was not to be had, or not in time, or the sentinel does not run.
    """
    entries = [read_sentinel()] * _SENTINELS + list(graphs)
    started = time.perf_counter()
    _acquire(connection, str(lock), limits, on_wait)
    waited_s = time.perf_counter() - started
    loaded, failures = _load(connection, entries, limits)
    _check_sentinels(failures)
    live = sorted(loaded) if len(loaded) > _SENTINELS else []  # sentinels alone have nothing to tell
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
    conditions = _ask(connection, {"do": "release"}, limits.answer, ())["conditions"]
    found = tuple(
        failures[i] if i in failures else _timed(loaded[i], runs[i], entries[i])
        for i in range(_SENTINELS, len(entries))
    )
    return Session(found, sentinels, conditions, waited_s)


def _load(
    connection: Connection, entries: Sequence[Graph], limits: Limits
) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """By index, what loading told, or why it failed."""
    loaded: dict[int, dict[str, Any]] = {}
    failures: dict[int, str] = {}
    for i, graph in enumerate(entries):
        names = [list(call) for call in graph.inputs]  # a name may be any text: beside the arrays
        command = {"do": "load", "id": str(i), "names": names}
        answer = _ask(connection, command, limits.answer, (i,), (graph.model, _packed(graph)))
        if answer["event"] == "loaded":
            loaded[i] = answer
        else:
            failures[i] = str(answer["message"])
    return loaded, failures


def _check_sentinels(failures: dict[int, str]) -> None:
    for i in range(_SENTINELS):
        if i in failures:
            raise WorkerError(f"the runtime does not run the sentinel model, as it should any: {failures[i]}")


def _packed(graph: Graph) -> bytes:
    file = io.BytesIO()
    np.savez(file, *(array for call in graph.inputs for array in call.values()))
    return file.getvalue()


def _acquire(connection: Connection, lock: str, limits: Limits, on_wait: Callable[[str], None] | None) -> None:
    command = {"do": "acquire", "lock": lock, "seconds": limits.lock}
    answer = _ask(connection, command, limits.answer, ())
    if answer["event"] == "waiting":
        if on_wait is not None:
            on_wait(f"waiting for another measurement on this machine (process {answer['holder'] or 'unknown'}) to end")
        answer = connection.receive(seconds=limits.lock + limits.answer)
    if answer["event"] == "barred":
        raise WorkerError(
            f"the lock of whoever measures on this machine, {answer['lock']}, cannot be opened ({answer['reason']}); "
            "let all who measure there read and write it, or remove it"
        )
    if answer["event"] != "acquired":
        raise WorkerError(
            f"another measurement (process {answer['holder'] or 'unknown'}) has held this machine for {limits.lock:.0f} s "
            f"(lock {answer['lock']}); wait until it ends, or end it"
        )


def _ask(
    connection: Connection,
    command: dict[str, Any],
    seconds: float,
    working_on: Sequence[int],
    payloads: Sequence[bytes] = (),
) -> dict[str, Any]:
    """The answer to a command; if there is none, whoever was being worked on is the suspect."""
    try:
        connection.send(command, payloads)
        return connection.receive(seconds=seconds)
    except WorkerDiedError as death:
        death.suspects = tuple(i - _SENTINELS for i in working_on if i >= _SENTINELS)
        raise
    except json.JSONDecodeError as error:
        raise WorkerError(f"the measuring process answers what is no JSON: {error}") from None


def _timed(loaded: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], graph: Graph) -> Timed:
    """Times a call: a run makes one with each of the graph's inputs."""
    wall, cpu, switches = (
        tuple(np.asarray(run[key], dtype=np.float64) for run in runs) for key in ("wall_ms", "cpu_ms", "switches")
    )
    n = len(graph.inputs)
    rounds = Rounds(tuple(times / n for times in wall), tuple(times / n for times in cpu), switches)
    return Timed(rounds, tuple(loaded["session_ms"]), float(loaded["peak_mib"]), tuple(loaded["providers"]))
