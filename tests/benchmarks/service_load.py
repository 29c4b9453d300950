"""How quickly a server answers under load: many watchers, submissions, and somebody who asks where a run stands.

Run: ``python -m tests.benchmarks.service_load [--watchers 200 --submissions 50 --big 10000]``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import numpy as np

from nas.store.base import RunStatus
from nas.store.folder import RunsFolder
from nas.store.opening import open_store
from tests.benchmarks.big_run import Figures, fill
from tests.benchmarks.engine_time import elastic_space
from tests.nas.commands import SMALL_JOB

METHOD = """\
`nas serve` over a folder with some finished runs, one of which has so many evaluations, with a cluster that is not there (no
job runs); all clients are in one other process. A run that is "driven" by this process commits an event every 50 ms. The
watchers stream it; meanwhile jobs are submitted one after the other, and its status is asked for every 20 ms over one
connection. Then the large run is read as the pages do, the first time (its report is made) and again."""
_SECONDS = 10.0
_RUNS = 50


def main() -> None:
    """Parses the command line, starts a server and puts it under load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watchers", type=int, default=200)
    parser.add_argument("--submissions", type=int, default=50)
    parser.add_argument("--big", type=int, default=10_000, help="evaluations of the large run; 0 for none")
    given = parser.parse_args()
    print(METHOD, end="\n\n")
    with tempfile.TemporaryDirectory(dir=".") as temporary:
        runs = RunsFolder(Path(temporary) / "runs")
        runs.check_writable()
        driven = _made(runs)
        space = elastic_space()
        big = (
            fill(runs, space, ("accuracy", "latency_ms"), Figures(space), given.big, algorithm="random")
            if given.big
            else ""
        )
        command = [
            sys.executable,
            "-m",
            "nas.cli",
            "serve",
            "--runs",
            str(runs.root),
            "--port",
            "0",
            "--log-level",
            "error",
        ]
        begun = time.perf_counter()
        with subprocess.Popen(
            [*command, "--address", "127.0.0.1:1", "--jobs-url", "http://127.0.0.1:1"],
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            try:
                assert server.stdout is not None
                url = server.stdout.readline().strip()
                print(f"started in {time.perf_counter() - begun:.2f} s")
                asyncio.run(_load(url, driven, runs, given.watchers, given.submissions))
                print(f"CPU of the server: {_cpu_s(server.pid):.1f} s, of its clients: {time.process_time():.1f} s")
                if big:
                    _read(url, big, server.pid)
            finally:
                server.kill()


def _made(runs: RunsFolder) -> str:
    """Makes finished runs and one that is to be driven; its id."""
    for _ in range(_RUNS):
        store = open_store(runs.create("other", SMALL_JOB), create=True, driver=True)
        store.set_facts({"name": "other", "kind": "training", "epochs": 3, "epoch": 3})
        store.set_status(RunStatus.RUNNING)
        store.set_status(RunStatus.FINISHED)
        store.close()
    folder = runs.create("driven", SMALL_JOB)
    open_store(folder, create=True, driver=True).close()
    return folder.id


async def _load(url: str, run: str, runs: RunsFolder, watchers: int, submissions: int) -> None:
    events = [0]
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=f"{url}/api/v1/", timeout=60, limits=limits) as client:
        streams = [asyncio.create_task(_watch(client, run, events)) for _ in range(watchers)]
        while events[0] < watchers:
            await asyncio.sleep(0.05)
        end = time.perf_counter() + _SECONDS
        drive = asyncio.create_task(asyncio.to_thread(_drive, runs, run, end))
        status = asyncio.create_task(_ask(client, f"runs/{run}/status", end))
        listing = asyncio.create_task(_ask(client, "runs", end, pause_s=0.5))
        submitted = await _submit(client, submissions)
        _tell("submission", submitted)
        _tell("status", await status)
        _tell("list of runs", await listing)
        await drive
        print(f"events received: {events[0]} by {watchers} watchers")
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)


async def _watch(client: httpx.AsyncClient, run: str, events: list[int]) -> None:
    async with client.stream("GET", f"runs/{run}/events") as answer:
        async for line in answer.aiter_lines():
            events[0] += line.startswith("data: ")


async def _ask(client: httpx.AsyncClient, path: str, end: float, *, pause_s: float = 0.02) -> list[float]:
    """Seconds of each request."""
    took: list[float] = []
    while not took or time.perf_counter() < end:
        begun = time.perf_counter()
        (await client.get(path)).raise_for_status()
        took.append(time.perf_counter() - begun)
        await asyncio.sleep(pause_s)
    return took


async def _submit(client: httpx.AsyncClient, n: int) -> list[float]:
    took: list[float] = []
    for _ in range(n):
        begun = time.perf_counter()
        (await client.post("runs", json={"job": SMALL_JOB})).raise_for_status()
        took.append(time.perf_counter() - begun)
    return took


def _drive(runs: RunsFolder, run: str, end: float) -> None:
    """Commits now and then, as a driver does."""
    store = open_store(runs.get(run), driver=True)
    store.set_status(RunStatus.RUNNING)
    epoch = 0
    while time.perf_counter() < end:
        epoch += 1
        store.set_info("epoch", epoch)
        time.sleep(0.05)
    store.close()


def _read(url: str, run: str, pid: int) -> None:
    with httpx.Client(base_url=f"{url}/api/v1/", timeout=60) as client:
        for path in ("/evaluations?limit=1000", "/evaluations?limit=10000", "/front", "/evaluations.csv", ""):
            ask = partial(client.get, f"runs/{run}{path}")
            first, again = _seconds(ask), _seconds(ask)
            print(f"| {path or 'detail'} | first {first:.2f} s | again {again:.3f} s |")
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    print(f"memory of the server: {peak.split(':')[1].strip()}")


def _seconds(ask: Callable[[], httpx.Response]) -> float:
    begun = time.perf_counter()
    ask().raise_for_status()
    return time.perf_counter() - begun


def _cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _tell(what: str, took: list[float]) -> None:
    ms = 1000 * np.array(took)
    p50, p99 = np.percentile(ms, [50, 99])
    print(f"| {what} | n {len(ms)} | median {p50:.1f} ms | p99 {p99:.1f} ms | longest {ms.max():.1f} ms |", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()
