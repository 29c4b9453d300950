"""One session: a few graphs, and the sentinel twice, timed together by a worker while it holds the host's lock."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from hardware_profiles.base import Graph
from hardware_profiles.connection import Connection, WorkerDiedError
from hardware_profiles.errors import WorkerError
from hardware_profiles.protocol import Rounds, plan_rounds, runs_per_round

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
class Session:
    """Rounds of each graph, or why it has none, and of the two sentinels (None where no graph could be loaded)."""

    graphs: tuple[Rounds | str, ...] = field(repr=False)
    sentinels: tuple[Rounds, Rounds] | None = field(repr=False)


def read_sentinel() -> Graph:
    """The sentinel that is shipped, with fixed inputs (1, 16, 32, 32)."""
    model = (resources.files("hardware_profiles") / "data" / "sentinel.onnx").read_bytes()
    image = (np.arange(16 * 32 * 32, dtype=np.int64) * 31 % 257 / 128 - 1).astype(np.float32).reshape(1, 16, 32, 32)
    return Graph(model, {"input": image}, name="sentinel")


def run_session(
    connection: Connection,
    graphs: Sequence[Graph],
    *,
    lock: Path,
    limits: Limits,
    rng: np.random.Generator,
    longer: bool,
    on_wait: Callable[[str], None] | None,
) -> Session:
    """Times all graphs in the same rounds.

    Args:
        rng: draws the order of the entries in each round.
        on_wait: told once, where another measurement holds the host.

    Raises:
        WorkerDiedError: the process died or hung; its `suspects` are set.
        WorkerError: the lock was not to be had in time, or the sentinel does not run.
    """
    with tempfile.TemporaryDirectory(prefix="hardware-profiles-") as folder:  # readable by this user alone
        entries = [read_sentinel()] * _SENTINELS + list(graphs)
        files = [_write(Path(folder), i, graph) for i, graph in enumerate(entries)]
        _acquire(connection, lock, limits, on_wait)
        warm_ms, failures = _load(connection, files, limits)
        _check_sentinels(failures)
        live = sorted(warm_ms) if len(warm_ms) > _SENTINELS else []  # sentinels alone have nothing to tell
        n_runs = [runs_per_round(warm_ms[i]) for i in live]
        expected_s = sum(n * warm_ms[i] for n, i in zip(n_runs, live, strict=True)) / 1e3
        runs: dict[int, list[dict[str, Any]]] = {i: [] for i in live}
        for order in plan_rounds(n_runs, rng, longer=longer) if live else ():
            command = {"do": "round", "order": [(str(live[k]), n) for k, n in order if live[k] not in failures]}
            answer = _ask(connection, command, limits.answer + _SLOWER * expected_s, live)
            for key, times in answer["entries"].items():
                if "message" in times:
                    failures[int(key)] = str(times["message"])
                else:
                    runs[int(key)].append(times)
        _ask(connection, {"do": "release"}, limits.answer, ())
    _check_sentinels(failures)
    found = tuple(failures[i] if i in failures else _rounds(runs[i]) for i in range(_SENTINELS, len(entries)))
    return Session(found, (_rounds(runs[0]), _rounds(runs[1])) if live else None)


def _load(
    connection: Connection, files: Sequence[dict[str, Any]], limits: Limits
) -> tuple[dict[int, float], dict[int, str]]:
    """By index, the warm-up's fastest run in milliseconds, or why there is none."""
    warm_ms: dict[int, float] = {}
    failures: dict[int, str] = {}
    for i, file in enumerate(files):
        answer = _ask(connection, {"do": "load", **file}, limits.answer, (i,))
        if answer["event"] == "loaded":
            warm_ms[i] = float(answer["warm_ms"])
        else:
            failures[i] = str(answer["message"])
    return warm_ms, failures


def _check_sentinels(failures: dict[int, str]) -> None:
    for i in range(_SENTINELS):
        if i in failures:
            raise WorkerError(f"the runtime does not run the sentinel model, as it should any: {failures[i]}")


def _write(folder: Path, i: int, graph: Graph) -> dict[str, Any]:
    """Model and inputs as files; the inputs' names, which may be any text, beside them."""
    model, inputs = folder / f"{i}.onnx", folder / f"{i}.npz"
    model.write_bytes(graph.model)
    np.savez(inputs, *graph.inputs.values())
    return {"id": str(i), "model": str(model), "inputs": str(inputs), "names": list(graph.inputs)}


def _acquire(connection: Connection, lock: Path, limits: Limits, on_wait: Callable[[str], None] | None) -> None:
    command = {"do": "acquire", "lock": str(lock), "seconds": limits.lock}
    answer = _ask(connection, command, limits.answer, ())
    if answer["event"] == "waiting":
        if on_wait is not None:
            on_wait(f"waiting for another measurement on this machine (process {answer['holder'] or 'unknown'}) to end")
        answer = connection.receive(seconds=limits.lock + limits.answer)
    if answer["event"] != "acquired":
        raise WorkerError(
            f"another measurement (process {answer['holder'] or 'unknown'}) has held this machine for {limits.lock:.0f} s "
            f"(lock {lock}); wait until it ends, or end it"
        )


def _ask(connection: Connection, command: dict[str, Any], seconds: float, working_on: Sequence[int]) -> dict[str, Any]:
    """The answer to a command; if there is none, whoever was being worked on is the suspect."""
    try:
        connection.send(command)
        return connection.receive(seconds=seconds)
    except WorkerDiedError as death:
        death.suspects = tuple(i - _SENTINELS for i in working_on if i >= _SENTINELS)
        raise
    except json.JSONDecodeError as error:
        raise WorkerError(f"the measuring process answers what is no JSON: {error}") from None


def _rounds(runs: list[dict[str, Any]]) -> Rounds:
    wall, cpu, switches = (
        tuple(np.asarray(run[key], dtype=np.float64) for run in runs) for key in ("wall_ms", "cpu_ms", "switches")
    )
    return Rounds(wall, cpu, switches)
