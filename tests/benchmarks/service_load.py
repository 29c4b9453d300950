"""Response times of a server under load: event streams, submissions, a job, and status requests.

Run: ``python -m tests.benchmarks.service_load [--watchers 200 --submissions 50 --big 10000 --json]``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import numpy as np

from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.errors import StoreError
from nas.jobs.recipes import read_recipe
from tests.benchmarks.big_run import ElasticValues, fill
from tests.benchmarks.engine_time import elastic_space
from tests.benchmarks.serving import add_finished_runs, serving
from tests.nas.commands import SMALL_JOB

METHOD = """\
`nas serve` on a folder with some finished runs, one of them large, without a cluster. A job uses the same cores: the training
of the digits recipe in a session of its own, at nice 19 once it trains; if the kernel schedules by session first (autogroup),
that session is niced, too. All clients are in one other process, whose time is included. A run that this process drives
commits an event every 50 ms, and ends. The watchers stream it; one has all events if it received every event that any
received, and the end. Meanwhile jobs are submitted in sequence, and the status is requested every 50 ms on each of four
connections. Then the large run is read like the pages do, first without and then with a cached report."""
_SECONDS = 10.0
_RUNS = 50
_ASKING = 4
_PAUSE_S = 0.05
_NICE = 19
_LONG = 100_000
"""Epochs of the job: more than the load lasts."""


def main() -> None:
    """Parses the command line, starts a server and puts it under load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watchers", type=int, default=200)
    parser.add_argument("--submissions", type=int, default=50)
    parser.add_argument("--big", type=int, default=10_000, help="evaluations of the large run; 0 for none")
    parser.add_argument("--no-job", action="store_true", help="run no job beside the server")
    parser.add_argument("--json", action="store_true", help="print one object in place of the tables")
    given = parser.parse_args()
    say = _silent if given.json else _say
    say(f"{METHOD}\n")
    with tempfile.TemporaryDirectory(dir=".") as temporary:
        runs = RunsFolder(Path(temporary) / "runs")
        runs.check_writable()
        driven = _made(runs)
        big = _large(runs, given.big) if given.big else ""
        with serving(runs) as (server, url, started_s):
            found: dict[str, object] = {"started_s": started_s}
            say(f"started in {started_s:.2f} s")
            with _job(Path(temporary) / "beside", wanted=not given.no_job) as job:
                before = {pid: _cpu_s(pid) for pid in (server.pid, job) if pid}
                begun, own = time.perf_counter(), time.process_time()
                found |= asyncio.run(_load(url, driven, runs, given.watchers, given.submissions))
                wall = time.perf_counter() - begun
                used = {pid: _cpu_s(pid) - cpu for pid, cpu in before.items()}
                found |= {
                    "wall_s": wall,
                    "server_cpu_s": used[server.pid],
                    "clients_cpu_s": time.process_time() - own,
                    "job_cpu_s": used.get(job),
                    "job_is_niced": _niceness(job) if job else None,
                }
            _show(found, say)
            if big:
                found["pages"] = _read(url, big, say)
                found["server_peak"] = _peak(server.pid)
                say(f"memory of the server: {found['server_peak']}")
    if given.json:
        print(json.dumps(found))


def _say(text: str) -> None:
    print(text, flush=True)


def _silent(text: str) -> None:
    """Says nothing."""


def _made(runs: RunsFolder) -> str:
    """Creates finished runs and one to be driven, whose id it returns."""
    add_finished_runs(runs, _RUNS)
    folder = runs.create("driven", SMALL_JOB)
    open_store(folder, create=True, driver=True).close()
    return folder.id


def _large(runs: RunsFolder, n: int) -> str:
    space = elastic_space()
    return fill(runs, space, ("accuracy", "latency_ms"), ElasticValues(space), n, algorithm="random", report=False)


@contextmanager
def _job(folder: Path, *, wanted: bool) -> Iterator[int]:
    """The process of a niced training that has begun, or 0 without a job."""
    if not wanted:
        yield 0
        return
    folder.mkdir()
    text = read_recipe("digits-cnn").replace("epochs: 30", f"epochs: {_LONG}")
    (folder / "job.yaml").write_text(text)
    runs = RunsFolder(folder / "runs")
    command = [sys.executable, "-m", "nas.cli", "train", str(folder / "job.yaml"), "--runs", str(runs.root)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as job:
        try:
            while not _trains(runs):
                if job.poll() is not None:
                    raise SystemExit(f"the job beside ended at once with {job.returncode}: {' '.join(command)}")
                time.sleep(0.2)
            _renice(job.pid)
            yield job.pid
        finally:
            job.kill()


def _renice(pid: int) -> None:
    """Nices all threads of a process, and its session if the kernel schedules by session."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.setpriority(os.PRIO_PROCESS, int(thread.name), _NICE)
    group = Path(f"/proc/{pid}/autogroup")
    if os.access(group, os.W_OK):
        group.write_text(str(_NICE))


def _trains(runs: RunsFolder) -> bool:
    """Whether the only run of a folder has finished an epoch."""
    for folder in runs.list() if runs.root.is_dir() else ():
        with suppress(StoreError), closing(open_store(folder)) as store:  # it may just be created
            return store.state().epoch > 0
    return False


async def _load(url: str, run: str, runs: RunsFolder, watchers: int, submissions: int) -> dict[str, object]:
    events: list[list[str]] = [[] for _ in range(watchers)]
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=f"{url}/api/v1/", timeout=60, limits=limits) as client:
        streams = [asyncio.create_task(_watch(client, run, own)) for own in events]
        while not all(events):
            await asyncio.sleep(0.05)
        end = time.perf_counter() + _SECONDS
        drive = asyncio.create_task(asyncio.to_thread(_drive, runs, run, end))
        asking = [asyncio.create_task(_ask(client, f"runs/{run}/status", end)) for _ in range(_ASKING)]
        listing = asyncio.create_task(_ask(client, "runs", end, pause_s=0.5))
        accepted, submitted = await _submit(client, submissions)
        status = [took for asked in asking for took in await asked]
        listed = await listing
        await drive
        ended = await asyncio.gather(*streams)
    whole = max(events, key=len, default=[])
    return {
        "status": _spread(status),
        "submission": _spread(submitted),
        "list of runs": _spread(listed),
        "watchers": watchers,
        "whole_watchers": sum(own == whole and is_over for own, is_over in zip(events, ended, strict=True)),
        "events": len(whole),
        "submissions": submissions,
        "accepted": accepted,
    }


async def _watch(client: httpx.AsyncClient, run: str, ids: list[str]) -> bool:
    """Collects the ids of all events, and whether the last one was the end."""
    last = ""
    async with client.stream("GET", f"runs/{run}/events") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                ids.append(line)
            elif line.startswith("data: "):
                last = line
    return '"status":"finished"' in last


async def _ask(client: httpx.AsyncClient, path: str, end: float, *, pause_s: float = _PAUSE_S) -> list[float]:
    """Seconds of each request."""
    took: list[float] = []
    while not took or time.perf_counter() < end:
        begun = time.perf_counter()
        (await client.get(path)).raise_for_status()
        took.append(time.perf_counter() - begun)
        await asyncio.sleep(pause_s)
    return took


async def _submit(client: httpx.AsyncClient, n: int) -> tuple[int, list[float]]:
    """The number of accepted submissions, and the seconds of each."""
    accepted, took = 0, []
    for _ in range(n):
        begun = time.perf_counter()
        accepted += (await client.post("runs", json={"job": SMALL_JOB})).is_success
        took.append(time.perf_counter() - begun)
    return accepted, took


def _drive(runs: RunsFolder, run: str, end: float) -> None:
    """Commits at intervals, as a driver does."""
    store = open_store(runs.get(run), driver=True)
    store.set_status(RunStatus.RUNNING)
    epoch = 0
    while time.perf_counter() < end:
        epoch += 1
        store.update_state(epoch=epoch)
        time.sleep(0.05)
    store.set_status(RunStatus.FINISHED)
    store.close()


def _read(url: str, run: str, say: Callable[[str], None]) -> dict[str, tuple[float, float]]:
    """Seconds by path, of the first and the second request."""
    found: dict[str, tuple[float, float]] = {}
    with httpx.Client(base_url=f"{url}/api/v1/", timeout=60) as client:
        for path in ("/evaluations?limit=1000", "/evaluations?limit=10000", "/front", "/evaluations.csv", ""):
            ask = partial(client.get, f"runs/{run}{path}")
            found[path or "detail"] = first, again = _seconds(ask), _seconds(ask)
            say(f"| {path or 'detail'} | first {first:.2f} s | again {again:.3f} s |")
    return found


def _seconds(ask: Callable[[], httpx.Response]) -> float:
    begun = time.perf_counter()
    ask().raise_for_status()
    return time.perf_counter() - begun


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _niceness(pid: int) -> str:
    group = Path(f"/proc/{pid}/autogroup")
    session = group.read_text().split()[-1] if group.exists() else "none"
    return f"process {os.getpriority(os.PRIO_PROCESS, pid)}, session {session}"


def _peak(pid: int) -> str:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(line for line in status.splitlines() if line.startswith("VmHWM")).split(":")[1].strip()


def _spread(took: Sequence[float]) -> dict[str, float]:
    """Milliseconds of requests: their number, percentiles and the longest."""
    ms = 1000 * np.array(took)
    p50, p90, p99 = np.percentile(ms, [50, 90, 99]).tolist()
    return {"n": len(ms), "p50": p50, "p90": p90, "p99": p99, "max": float(ms.max())}


def _show(found: dict[str, object], say: Callable[[str], None]) -> None:
    say("| request | n | p50, ms | p90, ms | p99, ms | longest, ms |\n|---|---|---|---|---|---|")
    for name in ("status", "submission", "list of runs"):
        spread = found[name]
        assert isinstance(spread, dict)
        values = " | ".join(f"{spread[part]:.0f}" for part in ("p50", "p90", "p99", "max"))
        say(f"| {name} | {spread['n']} | {values} |")
    say(f"watchers with all {found['events']} events and the end: {found['whole_watchers']} of {found['watchers']}")
    say(f"submissions accepted: {found['accepted']} of {found['submissions']}")
    beside = f", job {found['job_cpu_s']:.1f} s (nice: {found['job_is_niced']})" if found["job_is_niced"] else ""
    used = f"server {found['server_cpu_s']:.1f} s, clients {found['clients_cpu_s']:.1f} s{beside}"
    say(f"CPU in {found['wall_s']:.1f} s: {used}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()
