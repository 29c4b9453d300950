"""Records raw rounds of thirty networks and six sentinels under several loads of the machine.

    python -m tests.benchmarks.noise.record FOLDER [--loads quiet,one,bursts,4,8,20] [--sessions 4]

The first load, ``quiet``, must be recorded on a machine that does nothing else: it is the truth. The others start the given
number of processes, half of which compute and half of which walk through memory; ``one`` is one process, ``bursts`` two
that work for 0.4 s and rest for 0.6 s. Each session is one file of the folder: for each entry and round, the wall and thread
CPU time of each run and the context switches of the process. A second run records what the folder lacks.

Rounds are short (4 ms of each entry, three runs at least), so that longer ones can be put together from them.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import numpy as np
import typer

from hardware_profiles.measuring.profiler import LOCK
from hardware_profiles.measuring.session import trivial_model
from hardware_profiles.transports.connection import LocalConnection, local_command, worker_environment
from tests.benchmarks.noise.models import Entry, networks, sentinels

ROUNDS, ROUND_MS, LEAST_RUNS, MOST_RUNS = 40, 4.0, 3, 100
PAUSE_S = 3.0
"""After the load has started, before a session begins."""


def _lives() -> bool:
    """Whether the process that started this one lives: it may be killed."""
    parent = multiprocessing.parent_process()
    return parent is not None and parent.is_alive()


def compute() -> None:
    """Multiplies matrices."""
    a = np.random.default_rng(0).standard_normal((128, 128))
    while _lives():
        a = np.tanh(a @ a)


def walk() -> None:
    """Copies more memory than the caches hold."""
    a = np.ones(1 << 23)
    while _lives():
        a = a + 1.0


def burst() -> None:
    """Works for 0.4 of every second."""
    a = np.random.default_rng(0).standard_normal((128, 128))
    while _lives():
        end = time.perf_counter() + 0.4
        while time.perf_counter() < end:
            a = np.tanh(a @ a)
        time.sleep(0.6)


@contextlib.contextmanager
def beside(load: str) -> Iterator[None]:
    """Other processes at equal priority and in the same session, each of one thread, while the body runs."""
    kinds = {"quiet": [], "one": [compute], "bursts": [burst, burst]}.get(load)
    if kinds is None:
        kinds = [(compute, walk)[i % 2] for i in range(int(load))]
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=kind, daemon=True) for kind in kinds]
    with mock.patch.dict(os.environ, {"OPENBLAS_NUM_THREADS": "1"}):  # a busy process is one busy core
        for other in others:
            other.start()
    try:
        time.sleep(PAUSE_S if others else 0)
        yield
    finally:
        for other in others:
            other.terminate()
        for other in others:
            other.join()


def session(entries: list[Entry], seed: int) -> dict[str, Any]:
    """The rounds of all entries, in an order shuffled by round: arrays by ``entry/round/what``, and the environment."""
    connection = LocalConnection(local_command(), worker_environment(1))
    try:
        return _rounds(connection, entries, seed)
    finally:
        connection.close()


def _rounds(connection: LocalConnection, entries: list[Entry], seed: int) -> dict[str, Any]:
    def ask(command: dict[str, Any], payloads: tuple[bytes, ...] = ()) -> dict[str, Any]:
        connection.send(command, payloads)
        return connection.receive(seconds=600)

    environment = ask(
        {
            "do": "start",
            "threads": 1,
            "provider": "CPUExecutionProvider",
            "trivial": trivial_model(lambda model, inputs: model),
        }
    )["environment"]
    if (answer := ask({"do": "acquire", "lock": LOCK, "seconds": 900}))["event"] == "waiting":
        answer = connection.receive(seconds=900)
    assert answer["event"] == "acquired", answer
    runs = []
    for i, entry in enumerate(entries):
        inputs = io.BytesIO()
        np.savez(inputs, entry.example)
        command = {"do": "load", "id": str(i), "names": [[entry.input_name]]}
        loaded = ask(command, (entry.model, inputs.getvalue()))
        assert loaded["event"] == "loaded", (entry.name, loaded)
        runs.append(int(min(max(LEAST_RUNS, np.ceil(ROUND_MS / loaded["warm_ms"])), MOST_RUNS)))
    rng, arrays = np.random.default_rng(seed), {}
    started, stamps = time.perf_counter(), []
    for number in range(ROUNDS):
        order = [(str(i), runs[i]) for i in rng.permutation(len(entries))]
        found = ask({"do": "round", "order": order})["entries"]
        stamps.append(time.perf_counter() - started)
        for i in range(len(entries)):
            for key in ("wall_ms", "cpu_ms", "switches"):
                arrays[f"{i}/{number}/{key}"] = np.asarray(found[str(i)][key], dtype=np.float32)
    released = ask({"do": "release"})["environment"]
    about = {"environment": {**environment, **released}, "names": [e.name for e in entries], "round_ends_s": stamps}
    return {"about": np.array(json.dumps(about)), **arrays}


def main(
    folder: Path,
    loads: Annotated[str, typer.Option(help="in the order in which they are recorded")] = "quiet,one,bursts,4,8,20",
    sessions: Annotated[int, typer.Option(help="of each load; of quiet, three times as many")] = 4,
) -> None:
    """Records what the folder lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [*sentinels(), *networks()]
    for load in loads.split(","):
        n = sessions * (3 if load == "quiet" else 1)
        missing = [i for i in range(n) if not (folder / f"{load}.{i}.npz").exists()]
        if not missing:
            continue
        with beside(load):
            for i in missing:
                started = time.perf_counter()
                found = session(entries, seed=i)
                np.savez_compressed(folder / f".{load}.{i}.npz", **found)
                os.replace(folder / f".{load}.{i}.npz", folder / f"{load}.{i}.npz")
                print(f"{load} {i}: {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    typer.run(main)
